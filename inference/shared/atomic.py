"""Files and folders that appear whole or not at all.

A writer works on a temporary path next to the destination (same file system), and the finished piece is renamed into
place: a reader, or a process that is killed half-way, sees the old content or the new, never a mixture. Of two
processes that write the same destination, the second is refused. What a killed one left is removed by the next.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from inference.shared.errors import UserError

NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
"""How a file system says that it has no locks."""


@contextmanager
def write_errors(path: str | Path) -> Iterator[None]:
    """Raise the system's errors as one line that names what was to be written.

    Raises:
        UserError: instead of an OSError.
    """
    try:
        yield
    except BrokenPipeError as error:  # from what the block printed: writing to a disk never raises it
        raise UserError(
            f"expected standard output to be read to the end, found it closed; {path} was not written"
        ) from error
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def lock(file: Path, path: str | Path, user: str = "process") -> Iterator[None]:
    """Keep other processes from using `path`; the lock goes with the process, however it ends.

    Args:
        file: the lock file, removed at the end. A file system without locks grants every lock.
        path: what is locked, for messages.
        user: what else may be using it ("run", "search"), for messages.

    Raises:
        UserError: another process holds the lock, or its file cannot be written.
    """
    from filelock import FileLock, Timeout  # here, because a program that writes no file starts faster without it

    holder = FileLock(file, timeout=0, fallback_to_soft=False)
    try:
        holder.acquire()
    except Timeout:
        raise UserError(f"{path} is in use by another {user}; wait for it to end or choose another name") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error
        file.unlink(missing_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file
            file.unlink()
        holder.release()


@contextmanager
def output_lock(path: str | Path) -> Iterator[Path]:
    """Lock a file or folder that is to be written, and remove what killed writers of it left.

    Yields:
        `path`, or what it links to: the link itself stays.

    Raises:
        UserError: another process is writing it, or its folder does not exist or cannot be written to.
    """
    path = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    if path.name in ("", ".", ".."):
        raise UserError(f"expected a path that names a file or folder, got {str(path)!r}")
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: the folder {path.parent} does not exist; create it first")
    with lock(path.parent / f".{path.name}.lock", path):
        with write_errors(path):
            for other in path.parent.iterdir():
                if re.fullmatch(rf"\.{re.escape(path.name)}\.[a-z0-9_]+\.partial", other.name):
                    shutil.rmtree(other) if other.is_dir() else other.unlink()
        yield path


@contextmanager
def atomic_file(path: str | Path, *, locked: bool = False) -> Iterator[Path]:
    """Yield a temporary path; when the block ends without an error, that file becomes `path`, or what it links to.

    Args:
        path: the file.
        locked: the caller holds the `output_lock` of this file already.

    Raises:
        UserError: `path` is no file, its folder does not exist or cannot be written to, or another process is writing
            it.
    """
    with nullcontext(Path(path)) if locked else output_lock(path) as path, write_errors(path):
        if path.is_dir():
            raise UserError(f"cannot write {path}: a folder of that name exists; choose another name")
        if path.exists() and not path.is_file():
            raise UserError(f"cannot write {path}: it is a device or a pipe; name a file")
        temporary = _temporary_path(path)
        try:
            yield temporary
            _flush_to_disk(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder; when the block ends without an error, it becomes `path`, which may be an empty folder.

    Raises:
        UserError: `path` is a file, a link or a mount point, or not empty, its parent does not exist or cannot be
            written to, or another process is writing it.
    """
    path = Path(path)
    if path.is_symlink() or os.path.ismount(path):
        raise UserError(f"cannot write {path}: it is a link or a mount point; choose a folder inside it")
    with output_lock(path), write_errors(path):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"cannot write {path}: it exists already; remove it or choose another folder")
        temporary = _temporary_path(path)
        try:
            temporary.mkdir()
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush_to_disk(file)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _temporary_path(path: Path) -> Path:
    return path.parent / f".{path.name}.{os.getpid()}.partial"


def _flush_to_disk(path: Path) -> None:
    with open(path, "r+b") as file:
        os.fsync(file.fileno())
