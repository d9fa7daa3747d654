"""Where a search keeps its trials: a folder on this machine, on a volume that a cluster shares, or behind a URI.

Ray Tune writes to whatever pyarrow has a file system for (file://, s3://, gs://, hdfs://), from the machine of the
search and from every node; so what is looked at here is looked at through pyarrow, too. A location is an absolute path
or such a URI.
"""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyarrow.fs import FileSelector, FileSystem, FileType

from inference.errors import UserError


def new_location(storage: str) -> str:
    """A folder for one search in a storage that several may use.

    Args:
        storage: path or URI, as the user gave it.

    Raises:
        UserError: pyarrow knows no such kind of location.
    """
    location = absolute(storage)
    filesystem_of(location)
    return f"{location}/search-{secrets.token_hex(4)}"


def absolute(storage: str) -> str:
    """A path or URI as a location."""
    return storage.rstrip("/") if "://" in storage else str(Path(storage).absolute())


def filesystem_of(location: str | Path) -> tuple[Any, str]:
    """A location's file system, and its path there.

    Raises:
        UserError: pyarrow knows no such kind of location.
    """
    try:
        filesystem, path = FileSystem.from_uri(str(location))
    except (OSError, ValueError, ImportError) as error:  # pyarrow's own errors are among them
        reason = str(error).splitlines()[0]
        raise UserError(
            f"storage: expected a folder, or a URI such as s3://bucket/folder, got {str(location)!r} ({reason})"
        ) from None
    return filesystem, path


def has_experiment(location: str | Path) -> bool:
    """Whether Ray Tune has written down the state of an experiment there."""
    return any(file.base_name.startswith("experiment_state-") for file in _files(*filesystem_of(location)))


def forget(location: str | Path) -> None:
    """Delete what is there, if anything."""
    filesystem, path = filesystem_of(location)
    if filesystem.get_file_info(path).type == FileType.Directory:
        filesystem.delete_dir(path)


def read_files(location: str | Path) -> Iterator[bytes]:
    """The contents of the files right in a folder; none where there is no such folder."""
    filesystem, path = filesystem_of(location)
    for file in _files(filesystem, path):
        with filesystem.open_input_stream(file.path) as stream:
            yield stream.readall()


def _files(filesystem: Any, path: str) -> list[Any]:
    found = filesystem.get_file_info(FileSelector(path, allow_not_found=True))
    return [file for file in found if file.type == FileType.File]
