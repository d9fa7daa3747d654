"""Files with a row per event, opened lazily: delimited text, JSON lines and parquet, packed with gzip or zstd or not.

What enters is a path; what leaves is a lazy frame of all its columns, text and JSON values as the text that was
written, so that "007" stays "007" and nothing is guessed from the first rows. Nothing is read but the header; whoever
collects the frame turns what polars says into one line with the help of `explained`, which looks the place up.
"""

import codecs
import glob
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import polars as pl

from inference.files.table import find_delimiter
from inference.shared.errors import UserError, one_line

Kind = Literal["text", "json", "parquet"]
PACKED = (".gz", ".zst", ".zstd")
JSON_ROWS_FOR_NAMES = 1000
KINDS: dict[str, Kind] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}
READING_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
"""What polars raises for files that it cannot read; it panics over some damaged parquet files."""
NEVER = "\x01"  # a delimiter that no text holds: the whole line is one column


@contextmanager
def unheard_panics() -> Iterator[None]:
    """Keep what polars' Rust prints of a panic off standard error: whoever catches the exception has a line for it.

    Whatever else is printed by the block, or beside it, is passed on when the block ends. Only in the main thread: two
    threads that held standard error at once would give each other's back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with ExitStack() as stack:
        with suppress(OSError):  # standard error is closed, or nowhere is room for what it says
            held = stack.enter_context(tempfile.TemporaryFile())
            stack.callback(_pass_on, held, os.dup(2))
            os.dup2(held.fileno(), 2)
        yield


def _pass_on(held: BinaryIO, stderr: int) -> None:
    os.dup2(stderr, 2)
    os.close(stderr)
    held.seek(0)
    text = held.read()
    if b"panicked at" not in text:
        with suppress(OSError):
            os.write(2, text)


@dataclass(frozen=True)
class EventFile:
    """A file of events.

    Attributes:
        path: where it is.
        kind: text (delimited), json (an object a line) or parquet.
        names: its columns as the file names them, also those that it names twice.
        frame: all columns; of text and JSON files every one is text.
        delimiter: of a text file, else "".
    """

    path: Path
    kind: Kind
    names: tuple[str, ...]
    frame: pl.LazyFrame
    delimiter: str = ""

    def numbered(self) -> pl.LazyFrame:
        """The frame with the number of each row, from 1 and without the header, in the column "row"."""
        return self.frame.with_row_index("row", 1)


def found_files(patterns: list[str]) -> list[Path]:
    """The files that paths and glob patterns name, those of a pattern sorted by name.

    Raises:
        UserError: nothing was named, a path does not exist or is a folder, a pattern fits nothing, or a file is named
            twice.
    """
    if not patterns:
        raise UserError("expected at least one event file")
    paths: list[Path] = []
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            raise UserError(f"expected an event file, found the folder {path}; name its files, e.g. '{path}/*.csv'")
        fitting = [path] if path.exists() else sorted(map(Path, glob.glob(pattern, recursive=True)))
        if not fitting:
            raise UserError(f"expected an event file, found none at {pattern}")
        paths += [other for other in fitting if not other.is_dir()]
    for path in paths:
        if paths.count(path) > 1:
            raise UserError(f"expected different event files, got {path} twice")
    return paths


@unheard_panics()
def open_event_file(path: Path, *, names: tuple[str, ...] = (), delimiter: str | None = None) -> EventFile:
    """Open a file whose format its content and name tell.

    Args:
        path: a file.
        names: of the columns of a text file without a header line, the first ones at least.
        delimiter: of a text file; None takes the most frequent of tab, comma, semicolon and bar in its header.

    Raises:
        UserError: it is missing or empty, or its header cannot be read.
    """
    if not path.is_file():
        found = "a pipe or a device" if path.exists() and not path.is_dir() else "none"
        raise UserError(f"expected an event file, found {found} at {path}")
    try:
        with open(path, "rb") as file:
            magic = file.read(4)
        if magic == b"PAR1" or (_kind_by_name(path) == "parquet" and magic):
            return EventFile(path, "parquet", tuple(pl.read_parquet_schema(path)), pl.scan_parquet(path))
        if magic.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise UserError(f"{path}: expected UTF-8 text, got UTF-16; save the file as UTF-8")
        first = _first_line(path)
        if not first.strip():
            raise UserError(f"{path}: expected a header or a JSON object in the first line, got a blank one; remove it")
        if first.lstrip().startswith("{"):
            return _json_file(path)
        if first.lstrip().startswith("[") and _kind_by_name(path) == "json":
            raise UserError(f"{path}: expected JSON lines, one object a line, got one JSON array")
        return _text_file(path, first, names, delimiter)
    except READING_ERRORS as error:
        raise explained(error, EventFile(path, _kind_by_name(path), (), pl.LazyFrame())) from None


def _kind_by_name(path: Path) -> Kind:
    name = path.name.lower()
    for packing in PACKED:
        name = name.removesuffix(packing)
    return KINDS.get(Path(name).suffix, "text")


def _lines(path: Path, rows: int | None = None) -> pl.LazyFrame:
    """The lines of a text file, the first ones or all of them, as one column "line", as they are."""
    return pl.scan_csv(
        path,
        has_header=False,
        separator=NEVER,
        quote_char=None,
        infer_schema=False,
        new_columns=["line"],
        encoding="utf8-lossy",
        empty_string_is_null=False,
        n_rows=rows,
    )


def _first_line(path: Path) -> str:
    frame = _lines(path, 1).collect()
    if frame.is_empty():
        raise pl.exceptions.NoDataError("no line")
    return str(frame.item()).removeprefix("\ufeff").removesuffix("\r")


def _text_file(path: Path, header: str, names: tuple[str, ...], delimiter: str | None) -> EventFile:
    separator = delimiter or find_delimiter(re.sub('"[^"]*"', "", header))
    first = pl.read_csv(header.encode(), has_header=False, separator=separator, infer_schema=False)
    found = [(name or "").strip().strip('"') for name in first.row(0)]
    if names:
        if len(found) < len(names):
            raise UserError(
                f"{path}: expected at least {len(names)} columns without a header ({', '.join(names)}), "
                f"got {len(found)} in the first line"
            )
        found = [*names, *(f"column {number}" for number in range(len(names) + 1, len(found) + 1))]
    frame = pl.scan_csv(
        path, has_header=not names, separator=separator, infer_schema=False, new_columns=_distinct(found)
    )
    return EventFile(path, "text", tuple(found), frame, separator)


def _distinct(names: list[str]) -> list[str]:
    return [name if name not in names[:place] else f"{name} ({place + 1})" for place, name in enumerate(names)]


def _json_file(path: Path) -> EventFile:
    names = pl.scan_ndjson(path, infer_schema_length=JSON_ROWS_FOR_NAMES).collect_schema().names()
    frame = pl.scan_ndjson(path, schema=dict.fromkeys(names, pl.String))
    return EventFile(path, "json", tuple(names), frame)


def explained(error: BaseException, file: EventFile) -> UserError:
    """The one line for an error that came up while a file was read, with the place where it can be found.

    Args:
        error: of polars or of the system.
        file: that was being read.
    """
    reason = one_line(error)
    if file.kind == "parquet":
        found = "a damaged one" if isinstance(error, pl.exceptions.PanicException) else f"an error: {reason}"
        return UserError(f"{file.path}: expected a parquet file, got {found}; copy or write it again")
    cut_off = any(sign in reason.lower() for sign in ("end of file", "incomplete frame", "corrupt"))
    if cut_off and file.path.suffix.lower() in PACKED:
        return UserError(f"{file.path}: expected a whole packed file, got an error: {reason}; is it cut off?")
    if file.kind == "json":
        place = _first_line_where(file.path, ~pl.col("line").str.contains(r"^\s*(\{.*\}\s*)?$"))
        where = f"line {place}: " if place else ""
        return UserError(f"{file.path}: {where}expected a JSON object a line, got an error: {reason}")
    if isinstance(error, pl.exceptions.NoDataError):
        return UserError(f"{file.path}: expected events, got an empty file")
    line = pl.col("line")
    if "utf-8" in reason.lower() or "utf8" in reason.lower():
        place = _first_line_where(file.path, line.str.contains("\ufffd", literal=True))
        if place:
            return UserError(f"{file.path}: line {place}: expected UTF-8 text, got other bytes; save the file as UTF-8")
    quotes = line.str.count_matches('"', literal=True)
    delimiters = line.str.replace_all('"[^"]*"', "").str.count_matches(file.delimiter or NEVER, literal=True)
    if file.delimiter and "more fields" in reason:
        place = _first_line_where(file.path, delimiters > len(file.names) - 1)
        if place:
            return UserError(
                f"{file.path}: line {place}: expected {len(file.names)} fields delimited by {file.delimiter!r} "
                "as in the header, got more"
            )
    place = _first_line_where(file.path, quotes % 2 == 1)
    if place and file.delimiter:
        return UserError(f'{file.path}: line {place}: expected every quote (") to be closed, got an open one')
    return UserError(f"{file.path}: expected tab- or comma-separated text, got an error: {reason}")


def _first_line_where(path: Path, condition: pl.Expr) -> int | None:
    try:
        found = _lines(path).with_row_index("number", 1).filter(condition).head(1).collect(engine="streaming")
    except READING_ERRORS:
        return None
    return int(found["number"].item()) if found.height else None


@contextmanager
def system_errors() -> Iterator[None]:
    """Let what polars says of a full disk or a forbidden folder, while it writes, be the error of the system's.

    Raises:
        OSError: instead of an error of polars.
    """
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise OSError(one_line(error).rpartition("IO error: ")[2]) from None
