"""Files and folders that appear whole or not at all.

A writer works on a temporary path beside the destination (same file system) and the finished piece is renamed into
place: a reader, or a process killed half-way, sees the old content or the new, never a mixture.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inference.errors import UserError


def _temporary_beside(path: Path) -> Path:
    if path.name in ("", ".", ".."):
        raise UserError(f"expected a path that names a file or folder, got {str(path)!r}")
    parent = path.parent
    if not parent.is_dir():
        raise UserError(f"cannot write {path}: the folder {parent} does not exist; create it first")
    return parent / f".{path.name}.{os.getpid()}.partial"


@contextmanager
def written_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path; when the block ends without an error, that file becomes `path`.

    Raises:
        UserError: the folder of `path` does not exist or cannot be written to.
    """
    path = Path(path)
    temporary = _temporary_beside(path)
    if path.is_dir():
        raise UserError(f"cannot write {path}: a folder of that name exists; choose another name")
    try:
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def written_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder; when the block ends without an error, it becomes `path`, which must not exist yet.

    Raises:
        UserError: `path` exists, or its parent does not exist or cannot be written to.
    """
    path = Path(path)
    temporary = _temporary_beside(path)
    if path.exists():
        raise UserError(f"cannot write {path}: it exists already")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _flush_to_disk(file)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _flush_to_disk(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
