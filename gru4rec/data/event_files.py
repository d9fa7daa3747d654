"""Files with one row per event: delimited text, JSON lines and parquet, plain or packed with gzip or zstd.

Enters: a path. Leaves: a lazy frame of all columns. Text and JSON values stay the text that was written, so "007" stays
"007" and no type is inferred from the first rows. Opening reads only the header; collect the frame inside
`reading_errors`, which turns an error of polars into one line with file and place.
"""

import codecs
import glob
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
"""What polars raises for files that it cannot read; some damaged parquet files make it panic."""
NO_DELIMITER = "\x01"  # occurs in no text: the whole line is one column


@dataclass(frozen=True)
class EventFile:
    """An event file.

    Attributes:
        path: of the file.
        kind: text (delimited), json (one object per line) or parquet.
        names: the column names as written, including repeated ones.
        frame: all columns; those of text and JSON files are text.
        delimiter: of a text file, else "".
    """

    path: Path
    kind: Kind
    names: tuple[str, ...]
    frame: pl.LazyFrame
    delimiter: str = ""

    def schema(self) -> pl.Schema:
        """The types of the columns.

        Raises:
            UserError: polars cannot tell them.
        """
        with reading_errors(self):
            return self.frame.collect_schema()


def find_files(patterns: list[str]) -> list[Path]:
    """The files that paths and glob patterns name; those of one pattern are sorted by name.

    Raises:
        UserError: there is no pattern, a path is missing or a folder, a pattern matches nothing, or a file is named
            twice.
    """
    if not patterns:
        raise UserError("expected at least one event file")
    paths: list[Path] = []
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            raise UserError(f"expected an event file, found the folder {path}; name its files, e.g. '{path}/*.csv'")
        matches = [path] if path.exists() else sorted(map(Path, glob.glob(pattern, recursive=True)))
        if not matches:
            raise UserError(f"expected an event file, found none at {pattern}")
        paths += [other for other in matches if not other.is_dir()]
    for path in paths:
        if paths.count(path) > 1:
            raise UserError(f"expected different event files, got {path} twice")
    return paths


def open_event_file(path: Path, *, names: tuple[str, ...] = (), delimiter: str | None = None) -> EventFile:
    """Open a file; its content and name decide the format.

    Args:
        path: of the file.
        names: of the first columns of a text file without a header.
        delimiter: of a text file; None takes the most frequent of tab, comma, semicolon and bar in the header.

    Raises:
        UserError: the file is missing or empty, or its header cannot be read.
    """
    if not path.is_file():
        found = "a pipe or a device" if path.exists() and not path.is_dir() else "none"
        raise UserError(f"expected an event file, found {found} at {path}")
    with reading_errors(EventFile(path, _kind_by_name(path), (), pl.LazyFrame())):
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


def _kind_by_name(path: Path) -> Kind:
    name = path.name.lower()
    for packing in PACKED:
        name = name.removesuffix(packing)
    return KINDS.get(Path(name).suffix, "text")


def _lines(path: Path, rows: int | None = None) -> pl.LazyFrame:
    """The lines of a text file, the first `rows` or all of them, in one column "line"."""
    return pl.scan_csv(
        path,
        has_header=False,
        separator=NO_DELIMITER,
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
        path, has_header=not names, separator=separator, infer_schema=False, new_columns=_unique_names(found)
    )
    return EventFile(path, "text", tuple(found), frame, separator)


def _unique_names(names: list[str]) -> list[str]:
    return [name if name not in names[:place] else f"{name} ({place + 1})" for place, name in enumerate(names)]


def _json_file(path: Path) -> EventFile:
    names = pl.scan_ndjson(path, infer_schema_length=JSON_ROWS_FOR_NAMES).collect_schema().names()
    frame = pl.scan_ndjson(path, schema=dict.fromkeys(names, pl.String))
    return EventFile(path, "json", tuple(names), frame)


@contextmanager
def reading_errors(file: EventFile) -> Iterator[None]:
    """Raise the errors of polars and of the system while a file is read as a `UserError`."""
    try:
        yield
    except READING_ERRORS as error:
        raise describe_error(error, file) from None


def describe_error(error: BaseException, file: EventFile) -> UserError:
    """One line for an error while a file was read; in text and JSON files it names the first faulty line."""
    reason = one_line(error)
    if file.kind == "parquet":
        return UserError(f"{file.path}: expected a parquet file, got an error: {reason}; copy or write it again")
    if isinstance(error, pl.exceptions.NoDataError):
        return UserError(f"{file.path}: expected events, got an empty file")
    for fault, line in _faulty_lines(file).items():
        if line is not None:
            return UserError(f"{file.path}: line {line}: {fault}")
    form = "JSON lines" if file.kind == "json" else "tab- or comma-separated text"
    hint = "; is the packed file cut off?" if file.path.suffix.lower() in PACKED else ""
    return UserError(f"{file.path}: expected {form}, got an error: {reason}{hint}")


def _faulty_lines(file: EventFile) -> dict[str, int | None]:
    """What can be wrong with a line of text, and the first line it is wrong with; empty if lines cannot be read."""
    line = pl.col("line")
    faults = {"expected UTF-8 text, got other bytes; save the file as UTF-8": line.str.contains("\ufffd", literal=True)}
    if file.kind == "json":
        faults = {"expected one JSON object": ~line.str.contains(r"^\s*(\{.*\}\s*)?$")}
    if file.delimiter:
        delimiters = line.str.replace_all('"[^"]*"', "").str.count_matches(file.delimiter, literal=True)
        quotes = line.str.count_matches('"', literal=True)
        more = f"expected {len(file.names)} fields delimited by {file.delimiter!r} as in the header, got more"
        faults[more] = delimiters >= len(file.names)
        faults['expected every quote (") to be closed, got an open one'] = quotes % 2 == 1
    first = {fault: pl.col("number").filter(is_faulty).first() for fault, is_faulty in faults.items()}
    try:
        found = _lines(file.path).with_row_index("number", 1).select(**first).collect(engine="streaming")
    except READING_ERRORS:
        return {}
    return found.row(0, named=True)


def bad_value(file: EventFile, row: int, column: str, value: object, expected: str, remedy: str = "") -> UserError:
    """The error for a wrong value in a row, counted from 1 without the header; a missing one has its own remedy."""
    if value is None or value == "":
        expected, got, remedy = "a value", "none", "; fill or remove such rows"
    else:
        text = repr(value) if isinstance(value, str) else str(value)
        got = text if len(text) <= 60 else text[:57] + "…"
    return UserError(f"{file.path}: row {row}: expected {expected} in column {column!r}, got {got}{remedy}")


def check_columns(file: EventFile, columns: Mapping[str, str]) -> None:
    """Check that a file has each column once, that none has two roles, and that those of ids can hold ids.

    Args:
        file: the log.
        columns: role ("session", "user", "item", "time", "event", "day") → column name.

    Raises:
        UserError: a column is missing, repeated, named for two roles, or its ids are neither integers nor text.
    """
    for role, name in columns.items():
        if file.names.count(name) != 1:
            raise missing_column(file, role, name)
        roles = [other for other in columns if columns[other] == name]
        if len(roles) > 1:
            raise UserError(
                f"{file.path}: expected different columns for {' and '.join(roles)}, got {name!r} for both; name "
                f"yours with --{roles[0]}-column or --{roles[1]}-column"
            )
        kind = file.schema()[name]
        is_id = kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum)
        if role in ("session", "user", "item") and not is_id:
            raise UserError(f"{file.path}: column {name!r}: expected integers or text as ids, got {kind}")


def missing_column(file: EventFile, role: str, name: str | None = None) -> UserError:
    """The error for a role whose column is missing or repeated; without a name if it was to be recognised."""
    if name in file.names:
        found = f"{file.names.count(name)} in its header"
    else:
        found = f"only {', '.join(map(repr, file.names[:12]))}"
    if file.kind == "text" and len(file.names) == 1:
        found += f" when it is delimited by {file.delimiter!r}; name its --delimiter if it is another"
    quoted = f" {name!r}" if name else ""
    user = " (or one of users with --user-column)" if role == "session" and not name else ""
    return UserError(
        f"{file.path}: expected one {role} column{quoted}, found {found}; name yours with --{role}-column{user}"
    )


@contextmanager
def writing_errors() -> Iterator[None]:
    """Raise the errors of polars while it writes, for instance to a full disk, as an `OSError`."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise OSError(one_line(error).rpartition("IO error: ")[2]) from None
