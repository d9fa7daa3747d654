"""One file of a log as a lazy frame: delimited text, JSON or parquet, plain or packed with gzip or zstd.

Enters: a source. Leaves: a lazy frame of all columns. Text and JSON values stay the text that was written, so "007"
stays "007" and no type is inferred from the first rows. Opening reads the beginning of a file, and all of a text file
that holds quotes. Collect the frame inside `reading_errors`, which turns an error of polars into one line with file and
place.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from gru4rec.data.polars_errors import READING_ERRORS
from gru4rec.data.reading import delimited, json_objects
from gru4rec.data.reading.lines import first_lines, scan_lines
from gru4rec.data.reading.sources import Source, open_source
from inference.shared.errors import UserError, one_line

ARROW = b"ARROW1"
PARQUET = b"PAR1"


@dataclass(frozen=True)
class LogFile:
    """A file of a log.

    Attributes:
        source: where it is.
        kind: "text" (delimited), "json" or "parquet".
        names: the column names as written, including repeated ones.
        frame: all columns; those of text and JSON files are text.
        text: how a text file is delimited; None for other kinds.
        samples: first values of columns, by column, so that they are read once.
    """

    source: Source
    kind: str
    names: tuple[str, ...] = ()
    frame: pl.LazyFrame = field(default_factory=pl.LazyFrame)
    text: delimited.Delimited | None = None
    samples: dict[str, pl.Series] = field(default_factory=dict, compare=False)

    def paths(self) -> list[str]:
        """The names of the columns that hold values or lists of them, and the paths to those in nested columns."""
        return [path for name, kind in self.schema().items() for path in _leaves(name, kind)]

    def schema(self) -> pl.Schema:
        """The types of the columns.

        Raises:
            UserError: polars cannot tell them.
        """
        with reading_errors(self):
            return self.frame.collect_schema()


def _leaves(path: str, kind: pl.DataType) -> Iterator[str]:
    inner = kind
    while isinstance(inner, pl.List):
        inner = inner.inner  # type: ignore[assignment]
    if isinstance(inner, pl.Struct):
        for field_ in inner.fields:
            yield from _leaves(f"{path}.{field_.name}", field_.dtype)  # type: ignore[arg-type]
    else:
        yield path


def open_log_file(
    source: Source | str | Path,
    *,
    names: tuple[str, ...] = (),
    delimiter: str | None = None,
    quotes: bool = True,
) -> LogFile:
    """Open a file; its content decides the format.

    Args:
        source: the file.
        names: of the first columns of a text file without a header.
        delimiter: of a text file, "" for blanks; None recognises it.
        quotes: a text file's values may be quoted.

    Raises:
        UserError: the file is missing, empty or no log, or its header cannot be read.
    """
    source = source if isinstance(source, Source) else open_source(Path(source))
    with reading_errors(LogFile(source, "text")), open(source.path, "rb") as file:
        magic = file.read(len(ARROW))
    for start, schema, scan in (
        (PARQUET, pl.read_parquet_schema, pl.scan_parquet),
        (ARROW, pl.read_ipc_schema, pl.scan_ipc),
    ):
        if magic.startswith(start):
            with reading_errors(LogFile(source, "parquet")):
                return _with_keys(LogFile(source, "parquet", tuple(schema(source.path)), scan(source.path)))
    with reading_errors(LogFile(source, "text")):
        lines = first_lines(source)
    first = lines[0].strip()
    if first.startswith("{") or re.match(r"\[\s*(\{|$)", first):
        with reading_errors(LogFile(source, "json")):
            source = json_objects.as_json_lines(source, first)
            frame = json_objects.scan_json_lines(source)
            return _with_keys(LogFile(source, "json", tuple(frame.collect_schema().names()), frame))
    with reading_errors(LogFile(source, "text")):
        text = delimited.recognise(source, lines, names, delimiter, quotes=quotes)
        return _with_keys(LogFile(source, "text", text.names, delimited.scan(source, text), text))


def _with_keys(file: LogFile) -> LogFile:
    """The file with the columns that the names of its folders give."""
    keys = {name: value for name, value in file.source.keys.items() if name not in file.names}
    constants = [pl.lit(value).alias(name) for name, value in keys.items()]
    return replace(file, names=(*file.names, *keys), frame=file.frame.with_columns(constants)) if keys else file


@contextmanager
def reading_errors(file: LogFile) -> Iterator[None]:
    """Raise the errors of polars and of the system while a file is read as a `UserError`."""
    try:
        yield
    except READING_ERRORS as error:
        raise describe_error(error, file) from None


def describe_error(error: BaseException, file: LogFile) -> UserError:
    """One line for an error while a file was read; in text and JSON files it names the first faulty line."""
    reason, name = one_line(error), file.source.name
    if isinstance(error, OSError) and error.errno:
        return UserError(f"{name}: cannot be read: {error.strerror or error}")
    if file.kind == "parquet":
        return UserError(f"{name}: expected a parquet file, got an error: {reason}; copy or write it again")
    if isinstance(error, pl.exceptions.NoDataError):
        return UserError(f"{name}: expected events, got an empty file")
    for fault, line in _faulty_lines(file).items():
        if line is not None:
            return UserError(f"{name}: line {line}: {fault}")
    form = "JSON lines" if file.kind == "json" else "tab- or comma-separated text"
    return UserError(f"{name}: expected {form}, got an error: {reason}; is it packed and cut off?")


def _faulty_lines(file: LogFile) -> dict[str, int | None]:
    """What can be wrong with a line of text, and the first line it is wrong with; empty if lines cannot be read."""
    line = pl.col("line")
    not_text = "expected UTF-8 text, got other bytes; save the file as UTF-8 (iconv -f LATIN1 -t UTF-8)"
    faults = {not_text: line.str.contains("\ufffd", literal=True)}
    if file.kind == "json":
        faults = {"expected one JSON object": ~line.str.contains(r"^\s*(\{.*\}\s*)?$")}
    if file.text and file.text.separator:
        separator = file.text.separator
        plain = line.str.replace_all('"[^"]*"', "") if file.text.quoted else line
        more = f"expected {len(file.text.names)} fields delimited by {separator!r} as in the header, got more"
        faults[more] = plain.str.count_matches(separator, literal=True) >= len(file.text.names)
    first = {fault: pl.col("number").filter(is_faulty).first() for fault, is_faulty in faults.items()}
    try:
        found = scan_lines(file.source).with_row_index("number", 1).select(**first).collect(engine="streaming")
    except READING_ERRORS:
        return {}
    return found.row(0, named=True)


def bad_value(file: LogFile, row: int, column: str, value: object, expected: str, remedy: str = "") -> UserError:
    """The error for a wrong value in a row, counted from 1 without the header; a missing one has its own remedy."""
    if value is None or value == "":
        expected, got, remedy = "a value", "none", "; fill or remove such rows, or skip them with --drop-invalid"
    else:
        text = repr(value) if isinstance(value, str) else str(value)
        got = text if len(text) <= 60 else text[:57] + "…"
    return UserError(f"{file.source.name}: row {row}: expected {expected} in column {column!r}, got {got}{remedy}")


def missing_column(file: LogFile, role: str, name: str | None = None) -> UserError:
    """The error for a role whose column is missing or repeated; without a name if it was to be recognised."""
    if name in file.names:
        found = f"{file.names.count(name)} in its header"
    else:
        found = f"only {', '.join(map(repr, file.names[:12]))}"
    if file.text and len(file.names) == 1:
        found += f" when it is delimited by {file.text.separator!r}; name its --delimiter if it is another"
    quoted = f" {name!r}" if name else ""
    hint = " (or one of users with --user-column)" if role == "session" and not name else ""
    if role == "time" and not name:
        hint = " (or --time-column none if the rows are in order)"
    return UserError(
        f"{file.source.name}: expected one {role} column{quoted}, found {found}; name yours with --{role}-column{hint}"
    )
