"""Logs that are in memory: data frames of any library, and lists of sessions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from gru4rec.data.reading.log_file import LogFile
from gru4rec.data.reading.sources import Source
from inference.shared.columns import Columns
from inference.shared.errors import UserError


def as_log_file(clicks: Any) -> LogFile:
    """A log in memory as a file.

    Args:
        clicks: a frame with a row per click, of pandas, polars, Arrow, DuckDB or any other library that narwhals knows,
            or a list of sessions, each of them a list of item ids (text or integers), oldest first.

    Raises:
        UserError: it is neither.
    """
    name = type(clicks).__name__
    frame = _sessions(clicks) if isinstance(clicks, Sequence) and not isinstance(clicks, str) else _frame(clicks)
    return LogFile(Source(f"the {name}", Path()), "frame", tuple(frame.columns), frame.lazy())


def _frame(clicks: Any) -> pl.DataFrame:
    import narwhals

    try:
        frame = narwhals.from_native(clicks)
    except TypeError:
        raise UserError(
            f"expected clicks as a path, a data frame, or a list of sessions, got {type(clicks).__name__}"
        ) from None
    collected = frame.collect("polars") if isinstance(frame, narwhals.LazyFrame) else frame
    return collected.to_polars()


def _sessions(sessions: Sequence[Any]) -> pl.DataFrame:
    names = Columns()
    for session in sessions:
        if isinstance(session, str) or not isinstance(session, Sequence):
            raise UserError(f"expected each session as a list of item ids, got {session!r}")
    rows = [(number, str(item)) for number, session in enumerate(sessions) for item in session]
    frame = pl.DataFrame(rows, schema={names.session: pl.Int64, names.item: pl.String}, orient="row")
    return frame.with_columns(pl.int_range(pl.len()).alias(names.time))
