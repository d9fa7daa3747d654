"""Sessions from a table of clicks: a click per row, with a session, an item and an optional time.

The rows of a session must be adjacent and in order of time, so that sessions can be streamed from a file of any size.
A log in another order is a mistake, which is reported with its line, unless it is grouped first, which holds all of it
in memory.
"""

import csv
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from inference.files.text import Line
from inference.shared.columns import Columns
from inference.shared.errors import UserError

Time = int | float | datetime
Remark = Callable[[str], None]
DELIMITERS = "\t,;|"


@dataclass(frozen=True, slots=True)
class Session:
    """One session as it was read.

    Args:
        name: its id, or the number of its line if it has none.
        items: ids of the items clicked, oldest first.
        line: the line where it begins, counted from 1.
    """

    name: str
    items: tuple[str, ...]
    line: int


class TableRow(NamedTuple):
    """One click; `time` is 0 if the table has no time column."""

    line: int
    session: str
    item: str
    time: Time


def find_delimiter(header: str, choice: str = DELIMITERS) -> str:
    """The delimiter of a table's fields: the one that occurs most often in its header."""
    return max(choice, key=header.count)


def has_times(header: list[str], columns: Columns, name: str, remark: Remark | None) -> bool:
    """Whether a table has the time column; without one its rows are taken to be in order.

    Args:
        header: the names of its columns.
        columns: the names to look for.
        name: the file's name in messages.
        remark: is called with a message if another column may hold the times.

    Raises:
        UserError: the time column was named explicitly, and there is none of that name.
    """
    if columns.time in header:
        return True
    if columns.time != Columns().time:
        raise _no_column(header, columns.time, name)
    others = [column for column in header if column not in (columns.session, columns.item)]
    if others and remark:
        remark(
            f"{name} has no column {columns.time!r}, so its rows count as being in order; if one of "
            f"{', '.join(map(repr, others))} is their time, name it with --time-column"
        )
    return False


def read_table(
    lines: Iterable[Line], name: str, columns: Columns, delimiter: str, remark: Remark | None = None
) -> Iterator[TableRow]:
    """The clicks of a table of text with a header.

    Args:
        lines: the file's lines.
        name: the file's name in messages.
        columns: the names of its columns.
        delimiter: between fields.
        remark: as for `has_times`.

    Raises:
        UserError: a column is missing or occurs twice, or a row has the wrong number of fields, an empty id or an
            invalid time.
    """
    reader = csv.reader((line.text + "\n" for line in lines), delimiter=delimiter, strict=True)
    try:
        header = next(reader, None)
        if not header:
            raise UserError(
                f"{name} has no header; expected a first line with the columns {columns.session}, {columns.item} and "
                f"{columns.time}"
            )
        session_at, item_at = find_column(header, columns.session, name), find_column(header, columns.item, name)
        time_at = find_column(header, columns.time, name) if has_times(header, columns, name, remark) else None
        begins = reader.line_num + 1
        for fields in reader:
            line, begins = begins, reader.line_num + 1  # a quoted field may span several lines
            if not fields:
                continue
            if len(fields) != len(header):
                raise UserError(
                    f"{name}, line {line}: expected {len(header)} fields as in the header, got {len(fields)}"
                )
            session, item = fields[session_at], fields[item_at]
            if not session or not item:
                column = columns.item if session else columns.session
                raise UserError(f"{name}, line {line}: expected an id in column {column!r}, got nothing")
            time = 0 if time_at is None else parse_time(fields[time_at], name, line, columns.time)
            yield TableRow(line, session, item, time)
    except csv.Error as error:
        raise UserError(f"{name}, line {reader.line_num}: not a valid table row ({error})") from error


class _Names:
    """The hashes of names that have occurred, eight bytes each.

    The latest are in a set, which is merged into a sorted array when it has grown large. Two of ten million names have
    the same hash once in 300,000 runs.
    """

    LARGE = 1 << 17

    def __init__(self) -> None:
        self._latest: set[int] = set()
        self._sorted = np.empty(0, np.int64)

    def add(self, name: str) -> None:
        self._latest.add(hash(name))
        if len(self._latest) >= self.LARGE:
            latest = np.fromiter(self._latest, np.int64, len(self._latest))
            self._sorted = np.sort(np.concatenate([self._sorted, latest]))
            self._latest.clear()

    def __contains__(self, name: str) -> bool:
        value = hash(name)
        if value in self._latest:
            return True
        place = np.searchsorted(self._sorted, value)
        return bool(place < len(self._sorted) and self._sorted[place] == value)


def join_adjacent(rows: Iterable[TableRow], name: str) -> Iterator[Session]:
    """The sessions of rows that are in order; holds one session, and eight bytes for each earlier one.

    Raises:
        UserError: a session continues after another one began, or a row is older than the one before it.
    """
    finished = _Names()
    for session, own in groupby(rows, key=attrgetter("session")):
        first = before = next(own)
        if session in finished:
            raise UserError(
                f"{name}, line {first.line}: session {session!r} continues after other sessions; sort the rows "
                "by session and time, or use --group"
            )
        items = [first.item]
        for row in own:  # noqa: B031 - those after the first
            if _is_older(row, before, name):
                raise UserError(
                    f"{name}, line {row.line}: session {session!r} goes back in time, from {before.time} to "
                    f"{row.time}; sort the rows by session and time, or use --group"
                )
            items.append(row.item)
            before = row
        finished.add(session)
        yield Session(session, tuple(items), first.line)


def group_rows(rows: Iterable[TableRow], name: str) -> Iterator[Session]:
    """The sessions of rows in any order, sorted by time, in the order of their first rows; holds all rows in memory.

    Rows of equal time, and rows without one, keep the order of the file.
    """
    by_session: dict[str, list[TableRow]] = {}
    for row in rows:
        by_session.setdefault(row.session, []).append(row)
    kinds: set[bool] = set()
    for session, own in by_session.items():
        kinds.update(isinstance(row.time, datetime) for row in own)
        if len(kinds) > 1:
            raise UserError(f"{name}: expected times of one kind, got both numbers and dates")
        own.sort(key=lambda row: row.time)
        yield Session(session, tuple(row.item for row in own), min(row.line for row in own))


def separate_rows(rows: Iterable[TableRow], _: str) -> Iterator[Session]:
    """A session for each row."""
    for row in rows:
        yield Session(row.session, (row.item,), row.line)


def _is_older(row: TableRow, before: TableRow, name: str) -> bool:
    if isinstance(row.time, datetime) is not isinstance(before.time, datetime):
        raise UserError(f"{name}, line {row.line}: expected a time of the kind of {before.time}, got {row.time}")
    return row.time < before.time  # type: ignore[operator]


def find_column(header: list[str], column: str, name: str) -> int:
    """The index of a column.

    Raises:
        UserError: no column has this name, or several have it.
    """
    if header.count(column) != 1:
        raise _no_column(header, column, name)
    return header.index(column)


def _no_column(header: list[str], column: str, name: str) -> UserError:
    problem = "no column" if column not in header else "more than one column"
    return UserError(
        f"{name} has {problem} {column!r}; its columns are {', '.join(map(repr, header))}; name the right one with "
        "--session-column, --item-column or --time-column"
    )


def parse_time(text: str, name: str, line: int, column: str) -> Time:
    """A time as a number or a date; units do not matter, as times are only compared.

    Raises:
        UserError: it is neither.
    """
    with suppress(ValueError):
        return int(text)
    with suppress(ValueError):
        if math.isfinite(number := float(text)):
            return number
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(
            f"{name}, line {line}: expected a time in column {column!r}, a number or a date such as "
            f"2024-03-31T18:05:00, got {text!r}; convert the column, or remove it if the rows are in order"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
