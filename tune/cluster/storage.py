"""Where a search keeps its trials: a folder on this machine, on a volume that a cluster shares, or behind a URI.

Ray Tune writes to whatever pyarrow has a file system for (file://, s3://, gs://, hdfs://), from the machine of the
search and from every node; so what is looked at here is looked at through pyarrow, too. A location is an absolute path
or such a URI.
"""

import hashlib
import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyarrow.fs import FileSelector, FileSystem, FileType

from inference.shared.errors import UserError, one_line

STATE = "experiment_state-"
"""How the name of a state begins; the time follows at which the process that wrote it had started."""
SEAL = "seal-"
"""How the name of a seal begins, by which it is seen that the files of a state belong together."""


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


def has_experiment(location: str | Path) -> bool:
    """Whether Ray Tune has written down the state of an experiment there."""
    return newest_state(location) is not None


def newest_state(location: str | Path) -> str | None:
    """The location of the newest state that is whole; None where there is none."""
    whole = [session for session, cut_off in _sessions(location).items() if not cut_off]
    return f"{location}/{STATE}{max(whole)}.json" if whole else None


def is_cut_off(location: str | Path) -> bool:
    """Whether the state that Ray wrote down last, from which it would go on, is not whole."""
    sessions = _sessions(location)
    return bool(sessions) and sessions[max(sessions)]


def is_resumable(location: str | Path) -> bool:
    """Whether Ray can go on from the state that it wrote down last: it is whole, and there are trials in it."""
    if is_cut_off(location):
        return False
    newest = newest_state(location)
    if newest is None:
        return False
    filesystem, path = filesystem_of(newest)
    return bool(json.loads(_content(filesystem, path))["trial_data"])


def write_seal(folder: Path, session: str, trials: Sequence[str], files: Sequence[str]) -> None:
    """Write down which files belong together.

    Ray keeps the trials, and what it needs to suggest others, in several files, and copies them to the storage one
    after the other. Killed in between it leaves some of one moment and some of another, each of them whole; it would
    then run a trial twice or never, or end with an error.

    Args:
        folder: of the files.
        session: of the process that writes them, as it ends their names.
        trials: ids of the trials that were suggested.
        files: the names of those that tell what was suggested.
    """
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}
    text = json.dumps({"trials": list(trials), "sha256": digests})
    (folder / f"{SEAL}{session}.json").write_text(text, encoding="utf-8")


def _sessions(location: str | Path) -> dict[str, bool]:
    """The processes that have written down states, by the time of their start, and whether something is cut off.

    Ray writes the files of a state over those of the one before. A disk that is full, or a kill, cuts them off.
    """
    filesystem, path = filesystem_of(location)
    files = _files(filesystem, path)
    starts = [file.base_name for file in files if file.base_name.startswith(STATE)]
    sessions = [name.removeprefix(STATE).removesuffix(".json") for name in starts]
    return {session: not _is_sound(filesystem, session, files) for session in sessions}


def _is_sound(filesystem: Any, session: str, files: Sequence[Any]) -> bool:
    """Whether the files of a state are whole and of one moment."""
    paths = {str(file.base_name): file.path for file in files if _is_of(session, file)}
    seal = paths.get(f"{SEAL}{session}.json")
    if seal is None or not all(is_whole(filesystem, path) for path in paths.values()):
        return False
    sealed = json.loads(_content(filesystem, seal))
    state = json.loads(_content(filesystem, paths[f"{STATE}{session}.json"]))
    if {json.loads(about)["trial_id"] for about, _ in state["trial_data"]} != set(sealed["trials"]):
        return False
    return all(
        name in paths and hashlib.sha256(_content(filesystem, paths[name])).hexdigest() == digest
        for name, digest in sealed["sha256"].items()
    )


def _is_of(session: str, file: Any) -> bool:
    return str(file.base_name).rpartition(".")[0].endswith(f"-{session}")


def is_whole(filesystem: Any, path: str) -> bool:
    """Whether a file of Ray's is JSON, or ends as Python's serialised objects do, whatever its name ends with."""
    content = _content(filesystem, path)
    try:
        json.loads(content)
    except ValueError:
        return bool(content.endswith(b".")) and f"/{STATE}" not in path
    return True


def forget(location: str | Path, but: str) -> None:
    """Delete what is there, if anything, but one folder."""
    filesystem, path = filesystem_of(location)
    for found in filesystem.get_file_info(FileSelector(path, allow_not_found=True)):
        if found.type == FileType.File:
            filesystem.delete_file(found.path)
        elif found.base_name != but:
            filesystem.delete_dir(found.path)


@contextmanager
def storage_errors(location: str | Path) -> Iterator[None]:
    """Run what writes to a location, and check that nothing is cut off afterwards.

    Raises:
        UserError: something could not be written or read.
    """
    try:
        yield
        if is_cut_off(location):
            raise EOFError("the state of the search is cut off")
    except (OSError, EOFError) as error:  # Ray ends with the latter where it reads what a full disk has cut off
        raise UserError(
            f"{location}: expected to keep trials there, got an error: {one_line(error)}; is the disk full? "
            "Make room, and the same command goes on"
        ) from error


def read_files(location: str | Path) -> Iterator[bytes]:
    """The contents of the files right in a folder; none where there is no such folder."""
    filesystem, path = filesystem_of(location)
    for file in _files(filesystem, path):
        yield _content(filesystem, file.path)


def _content(filesystem: Any, path: str) -> bytes:
    with filesystem.open_input_stream(path) as stream:
        content: bytes = stream.readall()
    return content


def _files(filesystem: Any, path: str) -> list[Any]:
    found = filesystem.get_file_info(FileSelector(path, allow_not_found=True))
    return [file for file in found if file.type == FileType.File]
