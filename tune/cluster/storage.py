"""Where a search saves its trials: a folder on this machine, on a volume that a cluster shares, or behind a URI.

Ray Tune writes to whatever pyarrow has a file system for (file://, s3://, gs://, hdfs://), from the machine of the
search and from every node, so everything here goes through pyarrow, too. A location is an absolute path or such a URI.
"""

import secrets
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pyarrow.fs import FileSelector, FileSystem, FileType

from inference.shared.errors import UserError, one_line


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
        raise UserError(
            f"storage: expected a folder, or a URI such as s3://bucket/folder, got {str(location)!r} "
            f"({one_line(error)})"
        ) from None
    return filesystem, path


def list_files(location: str | Path) -> dict[str, str]:
    """The paths of the files right in a folder, by name; empty if there is no such folder."""
    filesystem, path = filesystem_of(location)
    found = filesystem.get_file_info(FileSelector(path, allow_not_found=True))
    return {file.base_name: file.path for file in found if file.type == FileType.File}


def read_files(location: str | Path, pattern: str) -> dict[str, bytes]:
    """The contents of the files right in a folder whose names match a pattern, by name."""
    filesystem, _ = filesystem_of(location)
    contents = {}
    for name, path in list_files(location).items():
        if fnmatch(name, pattern):
            with filesystem.open_input_stream(path) as stream:
                contents[name] = stream.readall()
    return contents


def write_file(location: str, text: str) -> None:
    """Write a file, and its folder. It appears whole or not at all, and so does one that replaces another."""
    filesystem, path = filesystem_of(location)
    folder, _, name = path.rpartition("/")
    filesystem.create_dir(folder)
    with filesystem.open_output_stream(f"{folder}/.{name}.partial") as file:
        file.write(text.encode())
    filesystem.move(f"{folder}/.{name}.partial", path)


def clear(location: str | Path, but: str) -> None:
    """Delete everything in a folder, except for one folder in it."""
    filesystem, path = filesystem_of(location)
    for found in filesystem.get_file_info(FileSelector(path, allow_not_found=True)):
        if found.type == FileType.File:
            filesystem.delete_file(found.path)
        elif found.base_name != but:
            filesystem.delete_dir(found.path)
