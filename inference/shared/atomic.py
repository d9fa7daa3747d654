"""Files and folders that appear whole or not at all.

A writer works on a temporary path beside the destination (same file system) and the finished piece is renamed into
place: a reader, or a process killed half-way, sees the old content or the new, never a mixture. Of two processes that
would write the same destination, the second one is refused; what a killed one left is removed by the next.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inference.shared.errors import UserError

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows, where writers are not kept apart
    fcntl = None

IN_USE = (errno.EACCES, errno.EAGAIN)


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Let what keeps the system from writing a file or folder be told in one line.

    Raises:
        UserError: instead of an error of the system.
    """
    try:
        yield
    except BrokenPipeError as error:  # of what the block printed: no file on a disk ends so
        raise UserError(
            f"expected standard output to be read to the end, found it closed; {path} was not written"
        ) from error
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def only_writer(path: str | Path) -> Iterator[None]:
    """Keep other processes from writing the same file or folder; the lock goes with the process, however it ends.

    Raises:
        UserError: another process is writing it, its folder does not exist or cannot be written to, or the block fails
            to write.
    """
    with writing(path), reserved(path):
        yield


@contextmanager
def reserved(path: str | Path) -> Iterator[None]:
    """The same for a block that also writes elsewhere: its own failures to write are left as they are.

    Raises:
        UserError: another process is writing it, or its folder does not exist or cannot be written to.
    """
    path = behind_links(path)
    _temporary_beside(path)
    with writing(path):
        lock = _locked(path)
    if lock is None:
        yield
        return
    try:
        _remove_leftovers(path)
        yield
    finally:
        try:
            _lock_file(path).unlink(missing_ok=True)
        finally:
            os.close(lock)


@contextmanager
def written_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path; when the block ends without an error, that file becomes `path`, or what it links to.

    Raises:
        UserError: the folder of `path` does not exist or cannot be written to, or another process is writing `path`.
    """
    with only_writer(path), replaced_file(path) as temporary:
        yield temporary


@contextmanager
def replaced_file(path: str | Path) -> Iterator[Path]:
    """The same for one who is the `only_writer` of more than this file.

    Raises:
        UserError: the folder of `path` does not exist or cannot be written to, or `path` is no file.
    """
    path = behind_links(path)
    temporary = _temporary_beside(path)
    if path.is_dir():
        raise UserError(f"cannot write {path}: a folder of that name exists; choose another name")
    if path.exists() and not path.is_file():
        raise UserError(f"cannot write {path}: it is a device or a pipe; name a file")
    try:
        with writing(path):
            yield temporary
            _flush_to_disk(temporary)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def written_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder; when the block ends without an error, it becomes `path`, which may be an empty folder.

    Raises:
        UserError: `path` is a file, a link or a mount point, or holds something, its parent does not exist or cannot be
            written to, or another process is writing it.
    """
    path = Path(path)
    temporary = _temporary_beside(path)
    with only_writer(path):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"cannot write {path}: it exists already; remove it or choose another folder")
        if path.is_symlink() or os.path.ismount(path):
            raise UserError(f"cannot write {path}: it is a link or a mount point; choose a folder inside it")
        try:
            temporary.mkdir()
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush_to_disk(file)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def behind_links(path: str | Path) -> Path:
    """Where a path leads: what is written there leaves the link that leads to it a link."""
    return Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)


def _temporary_beside(path: Path) -> Path:
    if path.name in ("", ".", ".."):
        raise UserError(f"expected a path that names a file or folder, got {str(path)!r}")
    parent = path.parent
    if not parent.is_dir():
        raise UserError(f"cannot write {path}: the folder {parent} does not exist; create it first")
    return parent / f".{path.name}.{os.getpid()}.partial"


def _lock_file(path: Path) -> Path:
    return path.parent / f".{path.name}.lock"


def _locked(path: Path) -> int | None:
    """The open lock file of a destination, locked; None where there are no locks."""
    if fcntl is None:
        return None
    while True:
        lock = os.open(_lock_file(path), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(_lock_file(path), lock):
                return lock
        except OSError as error:
            os.close(lock)
            if error.errno in IN_USE:
                raise UserError(
                    f"{path} is being written by another process; wait for it to end or choose another name"
                ) from None
            _lock_file(path).unlink(missing_ok=True)
            return None  # a file system without locks
        os.close(lock)  # its owner has just finished and removed it


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_leftovers(path: Path) -> None:
    """Remove what killed writers of a destination left; nobody else writes it now."""
    for other in path.parent.iterdir():
        if re.fullmatch(rf"\.{re.escape(path.name)}\.[a-z0-9_]+\.partial", other.name):
            shutil.rmtree(other) if other.is_dir() else other.unlink()


def _flush_to_disk(path: Path) -> None:
    with open(path, "rb" if fcntl else "r+b") as file:  # Windows flushes only what may be written
        os.fsync(file.fileno())
