"""Session files of every format, as a stream of sessions.

* csv, tsv: a header and one click a row (`table`), separated by commas, semicolons, bars or tabs; parquet likewise, if
  pyarrow is installed.
* jsonl: one session a line, {"session": "…", "items": ["…"]}.
* lines: one session a line, item ids separated by blanks; a session's name is its line's number.

Text may be packed with gzip, and may come from standard input. The format is taken from the file's suffix, or else from
its first line.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import PurePath
from typing import Any

from inference.files.parquet import read_parquet
from inference.files.table import (
    DELIMITERS,
    Remark,
    Session,
    TableRow,
    find_delimiter,
    join_adjacent,
    read_table,
)
from inference.files.text import Line, OnOpen, Source, open_input, read_lines, source_name
from inference.shared.columns import Columns
from inference.shared.errors import UserError

FORMATS = ("csv", "tsv", "jsonl", "lines", "parquet")
SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
}


def read_sessions(
    path: str,
    *,
    input_format: str | None = None,
    columns: Columns = Columns(),
    join: Callable[[Iterable[TableRow], str], Iterator[Session]] = join_adjacent,
    on_open: OnOpen | None = None,
    remark: Remark | None = None,
) -> Iterator[Session]:
    """The sessions of a file, one by one, in their order.

    Args:
        path: a file, or "-" for standard input.
        input_format: one of `FORMATS`; None detects it.
        columns: names of the columns of a table.
        join: makes sessions of a table's rows; `group_rows` accepts them in any order, but holds them all in memory,
            and `separate_rows` serves to check a file by its first click.
        on_open: is called with the open file, to see how far it has been read.
        remark: is called with a message if a table seems to have a time column of another name.

    Raises:
        UserError: the file cannot be read, is empty, or is malformed; names the line.
    """
    with open_input(path, on_open) as file:
        sessions = _sessions(file, path, input_format, columns, join, remark)
        first = next(sessions, None)
        if first is None:
            raise UserError(f"{source_name(path)} holds no session")
        yield first
        yield from sessions


def _sessions(
    file: Source,
    path: str,
    input_format: str | None,
    columns: Columns,
    join: Callable[[Iterable[TableRow], str], Iterator[Session]],
    remark: Remark | None,
) -> Iterator[Session]:
    name = source_name(path)
    is_parquet = file.peek(4)[:4] == b"PAR1"
    if input_format == "parquet" or (input_format is None and is_parquet):
        if path == "-":
            raise UserError("parquet cannot be read from standard input; name the file")
        return join(read_parquet(file, name, columns, remark), name)
    numbered = read_lines(file, name)
    first = next(numbered, None)
    if first is None:
        raise UserError(f"{name} is empty; expected sessions")
    source = chain([first], numbered)
    suffix = PurePath(path.lower().removesuffix(".gz")).suffix
    chosen = input_format or SUFFIXES.get(suffix) or _format_of_line(first, name, columns)
    if chosen == "jsonl":
        return parse_json_lines(source, name)
    if chosen == "parquet":
        raise UserError(f"{name} is called .parquet, but its content is not; rename it or give its --input-format")
    if chosen == "lines":
        return parse_lines(source)
    # Without --input-format the header decides: many files called .csv hold tabs.
    delimiter = find_delimiter(first.text, {"tsv": "\t", "csv": ",;|"}[input_format] if input_format else DELIMITERS)
    return join(read_table(source, name, columns, delimiter, remark), name)


def _format_of_line(first: Line, name: str, columns: Columns) -> str:
    text = first.text
    if text.lstrip().startswith("{"):
        return "jsonl"
    fields = [field.strip('"') for field in text.split(find_delimiter(text))]
    if columns.session in fields or columns.item in fields:
        return "csv"
    if {columns.session, columns.item} & set(text.split()):
        raise UserError(
            f"{name}, line {first.number}: expected tabs, commas, semicolons or bars between the columns of a table, "
            f"got blanks in {_excerpt(text)}; use one of them, or give --input-format lines if these are items"
        )
    if any(delimiter in text for delimiter in DELIMITERS):  # more likely a table than a session of one odd item
        raise UserError(
            f"{name}, line {first.number}: expected a header with the columns {columns.session!r} and "
            f"{columns.item!r}, or item ids with blanks between them, got {_excerpt(text)}; name a table's columns "
            "with --session-column and --item-column, or give --input-format lines"
        )
    return "lines"


def parse_lines(numbered: Iterable[Line]) -> Iterator[Session]:
    """Sessions of lines of item ids, separated by blanks or tabs; an empty line is an empty session."""
    for number, text in numbered:
        yield Session(str(number), tuple(item for item in text.replace("\t", " ").split(" ") if item), number)


def parse_json_lines(numbered: Iterable[Line], name: str) -> Iterator[Session]:
    """Sessions of JSON lines; blank lines are skipped, and a session without a name gets its line's number.

    Raises:
        UserError: a line is not such an object.
    """
    for number, text in numbered:
        if not text.strip():
            continue
        value = parse_object(text, name, number, '{"session": "s1", "items": ["i17", "i4"]}')
        items = value.get("items")
        if not isinstance(items, list):
            raise UserError(
                f'{name}, line {number}: expected "items" with a list of item ids, got {_excerpt(items)}; write a line '
                "for each session, or a table with a header for single clicks, unless they are for --stream"
            )
        session = parse_id(value.get("session", number), "session", name, number)
        yield Session(session, tuple(parse_id(item, "item", name, number) for item in items), number)


def parse_object(text: str, name: str, line: int, example: str) -> dict[str, Any]:
    """Parse a line that must be a JSON object; messages show the example.

    Raises:
        UserError: it is no object, or holds text that cannot be written as UTF-8.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or "too deep or too large"
        raise UserError(f"{name}, line {line}: expected a JSON object such as {example} ({reason})") from error
    if not isinstance(value, dict):
        raise UserError(f"{name}, line {line}: expected a JSON object such as {example}, got {_excerpt(value)}")
    if "\\u" in text:  # only an escape can hold half a surrogate pair
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except (UnicodeEncodeError, RecursionError) as error:
            raise UserError(f"{name}, line {line}: expected Unicode text, got half a surrogate pair") from error
    return value


def parse_id(value: object, what: str, name: str, line: int) -> str:
    """An id given as text or as a whole number.

    Raises:
        UserError: it is neither.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise UserError(f"{name}, line {line}: expected the {what} id as text, got {_excerpt(value)}")


def _excerpt(value: object) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 40 else text[:37] + "…"
