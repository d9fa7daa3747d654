"""Numbered lines of UTF-8 text from a file or a pipe, unpacked if they are gzip.

Lines are decoded one at a time, so that an error can name its line. Their length is limited, so that a file without
line breaks cannot fill the memory.
"""

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from inference.shared.errors import UserError

LONGEST_LINE = 1 << 28
"""Bytes of the longest line: about 20 million clicks."""
PACKED = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
    b"BZh91AY&SY": "bzip2",
    b"PK\3\4": "a zip archive or a spreadsheet",
}
"""First bytes of files that are packed with something other than gzip; `gru4rec` reads some of these."""

Source = io.BufferedReader | gzip.GzipFile
OnOpen = Callable[[BinaryIO], None]


class Line(NamedTuple):
    """One line without its line break, and its number, counted from 1."""

    number: int
    text: str


@contextmanager
def open_input(path: str, on_open: OnOpen | None = None) -> Iterator[Source]:
    """Open a file, or standard input for "-", and unpack it if its content is gzip.

    Args:
        path: a file, or "-".
        on_open: is called with the file as it is on disk, before anything is read.

    Raises:
        UserError: it cannot be read; raised in the block as well.
    """
    name = source_name(path)
    try:
        if path == "-":
            if sys.stdin is None:
                raise UserError("cannot read standard input, it is closed; name a file")
            yield _unpack(cast(io.BufferedReader, sys.stdin.buffer), name)
        else:
            if Path(path).is_dir():
                inside = min(Path(path).glob("*.parquet"), default=None)
                hint = f"name a file in it, such as {inside}" if inside else "name a file"
                raise UserError(f"expected a file, got the folder {path}; {hint}")
            with open(path, "rb") as file:
                if on_open:
                    on_open(file)
                yield _unpack(file, name)
    except FileNotFoundError as error:
        raise UserError(f"file {name} does not exist") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{name} is a damaged or truncated gzip file ({error})") from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror or error}") from error


def source_name(path: str) -> str:
    """The name of a source in messages: its path, or "standard input"."""
    return "standard input" if path == "-" else path


def _unpack(file: io.BufferedReader, name: str) -> Source:
    beginning = file.peek(max(map(len, PACKED)))
    if beginning[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=file, mode="rb")
    for magic, kind in PACKED.items():
        if beginning.startswith(magic):
            raise UserError(
                f"expected text, packed with gzip or not, got {kind} in {name}; unpack it, or save it as text"
            )
    return file


def read_lines(file: Source, name: str) -> Iterator[Line]:
    """The lines of an opened file.

    Args:
        file: bytes; a byte-order mark at the start is skipped.
        name: its name in messages.

    Raises:
        UserError: a line that is not UTF-8, is longer than `LONGEST_LINE`, or holds a zero byte.
    """
    number = 0
    while raw := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(raw) > LONGEST_LINE:
            raise UserError(f"{name}, line {number}: expected lines of text, got one of more than {LONGEST_LINE} bytes")
        yield decode_line(raw, number, name)


def decode_line(raw: bytes, number: int, name: str) -> Line:
    """Decode one line, with or without its line break.

    Raises:
        UserError: it is not UTF-8 or holds a zero byte.
    """
    try:
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name}, line {number}: expected UTF-8 text, got the byte 0x{raw[error.start]:02x} at position "
            f"{error.start + 1}; save the file as UTF-8"
        ) from error
    if "\0" in text:
        raise UserError(f"{name}, line {number}: expected text, got a zero byte; is this a binary file?")
    return Line(number, text.removesuffix("\n").removesuffix("\r"))


def read_ids(path: str) -> tuple[str, ...]:
    """The item ids of a file, one a line; empty lines are skipped."""
    with open_input(path) as file:
        return tuple(text for _, text in read_lines(file, source_name(path)) if text)
