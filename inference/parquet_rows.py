"""Clicks out of a parquet file, where pyarrow is installed; it is not among what gru4rec-infer installs."""

from collections.abc import Iterator
from typing import Any

from inference.errors import UserError
from inference.event_rows import Columns, Row

ROWS_AT_ONCE = 1 << 16


def parquet_rows(path: str, columns: Columns) -> Iterator[Row]:
    """The clicks of a parquet file; a row's line is its number, counted from 1.

    Args:
        path: a file.
        columns: what its columns are called; ids may be text or whole numbers, times numbers or dates.

    Raises:
        UserError: pyarrow is missing, or the file is no parquet file, lacks a column, or holds what is no id or time.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(
            f"reading {path} needs pyarrow; install it (pip install pyarrow) or write the sessions as CSV"
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = [columns.session, columns.item, *([columns.time] if columns.time in names else [])]
            for column in wanted:
                if names.count(column) != 1:
                    raise UserError(f"{path} has no column {column!r}; its columns are {', '.join(map(repr, names))}")
            types = pyarrow.types
            for column in wanted:
                kind = file.schema_arrow.field(column).type
                is_id = types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)
                is_time = types.is_integer(kind) or types.is_floating(kind) or types.is_temporal(kind)
                if not (is_time if column == columns.time else is_id):
                    raise UserError(f"{path}: expected ids or times in column {column!r}, got the type {kind}")
            number = 0
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=wanted):
                values = [_values(batch.column(column), types) for column in wanted]
                for row in zip(*values, strict=True):
                    number += 1
                    yield _row(row, number, path)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"cannot read {path} as parquet: {str(error).splitlines()[0]}") from error


def _values(column: Any, types: Any) -> list[Any]:
    if types.is_temporal(column.type):  # whole numbers of the column's unit, which order as the dates do
        width = "int64" if column.type.bit_width == 64 else "int32"
        column = column.cast(width)
    values: list[Any] = column.to_pylist()
    return values


def _row(values: tuple[Any, ...], number: int, path: str) -> Row:
    session, item, *times = values
    time = times[0] if times else None
    if session is None or item is None or session == "" or item == "":
        raise UserError(f"{path}, line {number}: expected a session and an item, got nothing")
    if times and (time is None or time != time or time in (float("inf"), float("-inf"))):
        raise UserError(f"{path}, line {number}: expected a time, got {'nothing' if time is None else time}")
    return Row(number, str(session), str(item), time)
