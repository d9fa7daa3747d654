"""Clicks from a parquet file; needs pyarrow, which gru4rec-infer does not install."""

import math
from collections.abc import Iterator
from typing import Any

from inference.files.table import Remark, TableRow, find_column, has_times, parse_time
from inference.files.text import Source
from inference.shared.columns import Columns
from inference.shared.errors import UserError

ROWS_AT_ONCE = 1 << 16


def read_parquet(file: Source, name: str, columns: Columns, remark: Remark | None = None) -> Iterator[TableRow]:
    """The clicks of a parquet file; a row's line is its number, counted from 1.

    Args:
        file: its bytes, seekable.
        name: the file's name in messages.
        columns: the names of its columns; ids may be text or whole numbers, times numbers, dates or text.
        remark: as for `has_times`.

    Raises:
        UserError: pyarrow is missing, or the file is not parquet, lacks a column, or holds a value that is no id or
            time.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(
            f"reading {name} needs pyarrow; install it (pip install pyarrow) or write the sessions as CSV"
        ) from error
    try:
        with parquet.ParquetFile(file, pre_buffer=False) as table:  # row group after row group
            schema = table.schema_arrow
            wanted = [columns.session, columns.item]
            if has_times(schema.names, columns, name, remark):
                wanted.append(columns.time)
            for column in wanted:
                kind = schema.field(find_column(schema.names, column, name)).type
                _check_type(kind, column, column == columns.time, name, pyarrow.types)
            number = 0
            for batch in table.iter_batches(ROWS_AT_ONCE, columns=wanted):
                values = [_values(batch.column(column), pyarrow.types) for column in wanted]
                for row in zip(*values, strict=True):
                    number += 1
                    yield _row(row, number, name, columns)
    except UnicodeDecodeError as error:  # Arrow does not check the bytes of text, Python does
        raise UserError(f"{name}: expected ids and times as UTF-8 text, got other bytes") from error
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"cannot read {name} as parquet: {str(error).splitlines()[0]}") from error


def _check_type(kind: Any, column: str, holds_times: bool, name: str, types: Any) -> None:
    values = kind.value_type if types.is_dictionary(kind) else kind  # a dictionary holds each distinct value once
    fits = types.is_integer(values) or str(values) in ("string", "large_string", "string_view")
    if holds_times:
        fits = fits or types.is_floating(kind) or types.is_temporal(kind)
    if not fits:
        expected = "times as numbers or dates" if holds_times else "ids as text or whole numbers"
        raise UserError(f"{name}: expected {expected} in column {column!r}, got the type {kind}; convert the column")


def _values(column: Any, types: Any) -> Any:
    if types.is_temporal(column.type):  # whole numbers of the column's unit, which order as the dates do
        column = column.cast("int64" if column.type.bit_width == 64 else "int32")
    return column.to_pylist()


def _row(values: tuple[Any, ...], number: int, name: str, columns: Columns) -> TableRow:
    session, item, *times = values
    time = times[0] if times else 0
    if session in (None, "") or item in (None, ""):
        raise UserError(f"{name}, line {number}: expected a session and an item, got nothing")
    if isinstance(time, str):
        time = parse_time(time, name, number, columns.time)
    elif time is None or not math.isfinite(time):
        raise UserError(f"{name}, line {number}: expected a time, got {'nothing' if time is None else time}")
    return TableRow(number, str(session), str(item), time)
