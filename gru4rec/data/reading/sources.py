"""From what a user names to local files: paths, patterns, folders and standard input, unpacked.

The content decides how a file is packed, never its name. What polars reads as it is (plain, gzip, zstd) stays in
place; the rest (bzip2, xz, a zip archive of one member, UTF-16, a pipe) is written once into a temporary file, which is
removed with its `Source` or at the end of the process.
"""

import bz2
import codecs
import errno
import glob
import gzip
import lzma
import os
import re
import shutil
import sys
import tempfile
import weakref
import zipfile
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, BinaryIO

from inference.shared.errors import UserError, one_line

STANDARD_INPUT = "-"
GZIP, ZSTANDARD, BZIP2, XZ, ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\0", b"PK\3\4"
COLUMNAR = (b"PAR1", b"ARROW1", ZSTANDARD)
BINARY_SHARE = 0.04  # of control characters
TAR, TAR_AT = b"ustar", 257
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
FOREIGN = {
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"%PDF": "a PDF document",
    b"SQLite format 3": "an SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"Obj\x01": "an Avro file",
    b"ORC": "an ORC file",
    b"\x93NUMPY": "a numpy array",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a rar archive",
    b"PK\5\6": "an empty zip archive",
}
"""First bytes of files that hold no click log that can be read."""
READABLE = "text, JSON or parquet"
COPY_BYTES = 1 << 20


class TemporaryFile:
    """A file that is removed with this object."""

    def __init__(self) -> None:
        handle, path = tempfile.mkstemp(prefix="gru4rec-")
        os.close(handle)
        self.path = Path(path)
        weakref.finalize(self, self.path.unlink, missing_ok=True)


@dataclass(frozen=True)
class Source:
    """One file of a log.

    Attributes:
        name: as the user knows it, for messages.
        path: what is read; a temporary file if it had to be unpacked.
        keys: columns that the names of its folders give, as in country=DE/part-0.parquet.
        temporary: keeps a temporary file until its last source is gone.
    """

    name: str
    path: Path
    keys: dict[str, str] = field(default_factory=dict)
    temporary: TemporaryFile | None = None

    @property
    def size(self) -> int:
        """Bytes of the file that is read."""
        return self.path.stat().st_size


def find_sources(named: list[str]) -> list[Source]:
    """The files of a log, unpacked; those of a pattern or folder are sorted by name.

    Args:
        named: paths, patterns, folders (read with all folders in them; names that begin with "_" or "." are skipped),
            or "-" for standard input.

    Raises:
        UserError: nothing is named, a path is missing, a pattern or folder gives no file, a file is named twice, or
            cannot be unpacked.
    """
    if not named:
        raise UserError("expected at least one event file")
    found: list[tuple[Path, dict[str, str]]] = []
    for name in named:
        path = Path(name)
        if name == STANDARD_INPUT:
            found.append((path, {}))
        elif path.is_dir():
            found += _files_below(path)
        else:
            matches = [path] if os.path.lexists(path) else sorted(map(Path, glob.glob(name, recursive=True)))
            if not matches:
                raise UserError(f"expected an event file, found none at {name}")
            found += [(match, {}) for match in matches if not match.is_dir()]
    paths = [path for path, _ in found]
    for path in paths:
        if paths.count(path) > 1:
            raise UserError(f"expected different event files, got {path} twice")
    return [open_source(path, keys) for path, keys in found]


def _files_below(folder: Path) -> list[tuple[Path, dict[str, str]]]:
    files = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(("_", ".")) for part in parts):
            keys = dict(part.split("=", 1) for part in parts[:-1] if "=" in part)
            files.append((path, keys))
    if not files:
        raise UserError(f"expected event files in the folder {folder}, found none")
    return files


def open_source(path: Path, keys: dict[str, str] | None = None) -> Source:
    """A file that polars can read; what it cannot is unpacked into a temporary one.

    Args:
        path: of a file or a pipe; "-" is standard input.
        keys: columns that its folders give.

    Raises:
        UserError: the file is missing, damaged, encrypted, an archive of several files, or holds no log.
    """
    piped = str(path) == STANDARD_INPUT
    name = "standard input" if piped else str(path)
    if not piped and not path.exists():
        where = f"a broken link at {name}" if path.is_symlink() else f"none at {name}"
        raise UserError(f"expected an event file, found {where}")
    try:
        if piped or not path.is_file():
            with sys.stdin.buffer if piped else open(path, "rb") as pipe:
                return _unpack(_copy(name, pipe), keys or {})
        return _unpack(Source(name, path), keys or {})
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        raise UserError(
            f"{name}: expected a whole packed file, got an error: {one_line(error)}; is it cut off?"
        ) from None
    except OSError as error:
        hint = "; set TMPDIR to a folder with more space" if error.errno == errno.ENOSPC else ""
        raise UserError(f"cannot read {name}: {error.strerror or error}{hint}") from None


def _unpack(source: Source, keys: dict[str, str]) -> Source:
    with open(source.path, "rb") as file:
        head = file.read(512)
        file.seek(0)
        for magic, kind in FOREIGN.items():
            if head.startswith(magic):
                raise UserError(f"{source.name}: expected a click log ({READABLE}), got {kind}")
        if head.startswith(GZIP):
            with gzip.open(file) as unpacked:
                _refuse_tar(unpacked.read(512), source.name)
        elif head.startswith(ZIP):
            return _copy(source.name, _only_member(file, source.name), keys)
        elif head.startswith((BZIP2, XZ)):
            with (bz2 if head.startswith(BZIP2) else lzma).open(file) as unpacked:
                return _copy(source.name, unpacked, keys)
        elif head.startswith(UTF16):
            return _copy(source.name, codecs.EncodedFile(file, "utf-8", "utf-16"), keys)
        elif len(re.findall(rb"[\0-\x08]", head)) > BINARY_SHARE * len(head) and not head.startswith(COLUMNAR):
            hint = "; is it UTF-16? save it as UTF-8" if head.count(0) > len(head) / 3 else ""
            raise UserError(f"{source.name}: expected a click log ({READABLE}), got binary data{hint}")
        _refuse_tar(head, source.name)
    return replace(source, keys=keys)


def _only_member(file: BinaryIO, name: str) -> IO[bytes]:
    archive = zipfile.ZipFile(file)
    members = [member for member in archive.infolist() if not member.is_dir()]
    if any(member.filename == "[Content_Types].xml" for member in members):
        raise UserError(f"{name}: expected a click log ({READABLE}), got a spreadsheet; save it as CSV")
    if len(members) != 1:
        some = ", ".join(member.filename for member in members[:4])
        raise UserError(
            f"{name}: expected a zip archive of one file, found {len(members)} ({some}); unpack it and name its files"
        )
    if members[0].flag_bits & 1:
        raise UserError(f"{name}: expected an archive without a password, found an encrypted one; unpack it")
    return archive.open(members[0])


def _refuse_tar(head: bytes, name: str) -> None:
    if head[TAR_AT:].startswith(TAR):
        raise UserError(f"{name}: expected a click log ({READABLE}), got a tar archive; unpack it and name its files")


def _copy(name: str, content: IO[bytes], keys: dict[str, str] | None = None) -> Source:
    """A temporary file with the content, which lives as long as its source."""
    temporary = TemporaryFile()
    with open(temporary.path, "wb") as file:
        shutil.copyfileobj(content, file, COPY_BYTES)
    return Source(name, temporary.path, keys or {}, temporary)
