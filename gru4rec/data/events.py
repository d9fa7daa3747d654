"""Reading click logs.

A log has a row per click: session, item, time. Delimited text with a header line, JSON lines (both packed or not) and
parquet are read; the columns may have other names. Ids are text, exactly as written ("007" stays "007"), times are
integers, floats or datetimes and only their order matters here. What is rawer than that goes through `preparation`.

`encode` turns a log into numbers: clicks are sorted by time within their session, sessions by their first click, both
keeping the file's order where times are equal.
"""

from pathlib import Path

import numpy as np
import polars as pl

from gru4rec.data.event_files import READING_ERRORS, EventFile, explained, open_event_file, unheard_panics
from gru4rec.data.sessions import EncodedLog, Sessions
from gru4rec.data.times import time_column
from inference.shared.columns import Columns
from inference.shared.errors import UserError
from inference.shared.vocabulary import Vocabulary


def read_events(path: str | Path, columns: Columns = Columns(), *, part: str = "train") -> pl.DataFrame:
    """The clicks of a log, in the file's order.

    Args:
        path: a TSV, CSV, JSON lines or parquet file, or a prepared folder that holds {part}.parquet.
        columns: the names of its columns.
        part: which file to read where `path` is a folder.

    Returns:
        A frame with the columns "session" and "item" (text) and "time" (Int64 or Float64).

    Raises:
        UserError: the file is missing, unreadable or empty, a column is missing or null, or a time is no number.
    """
    path = Path(path)
    if path.is_dir():
        path = path / f"{part}.parquet"
    frame = _read(open_event_file(path), columns)
    if frame.is_empty():
        raise UserError(f"{path}: expected events, got none (the file has a header only)")
    for name, role in zip(columns.names, ("session", "item", "time"), strict=True):
        empty = frame[role].is_null()
        if frame.schema[role] == pl.String:
            empty = empty | (frame[role] == "")
        if empty.any():
            raise UserError(f"{path}: row {_first(empty)}: expected a value in column {name!r}, got none")
    return frame.with_columns(_times(frame["time"], path, columns.time))


@unheard_panics()
def _read(file: EventFile, columns: Columns) -> pl.DataFrame:
    _check_columns(file, columns)
    try:
        frame = file.frame.select(*columns.names).collect()
    except READING_ERRORS as error:
        raise explained(error, file) from None
    for name in (columns.session, columns.item):
        check_id_type(file, name, frame.schema[name])
    return frame.select(
        pl.col(columns.session).cast(pl.String).alias("session"),
        pl.col(columns.item).cast(pl.String).alias("item"),
        pl.col(columns.time).alias("time"),
    )


def check_id_type(file: EventFile, name: str, kind: pl.DataType) -> None:
    """Refuse a column that cannot hold ids.

    Raises:
        UserError: it holds neither integers nor text.
    """
    if not (kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum)):
        raise UserError(f"{file.path}: column {name!r}: expected integers or text as ids, got {kind}")


def _check_columns(file: EventFile, columns: Columns) -> None:
    path, available = file.path, file.names
    for role, name in zip(("session", "item", "time"), columns.names, strict=True):
        if available.count(name) != 1:
            found = "twice" if name in available else f"only {', '.join(map(repr, available[:12]))}"
            raise UserError(
                f"{path}: expected one {role} column {name!r}, found {found}; name yours with --{role}-column"
            )
        if columns.names.count(name) > 1:
            raise UserError(
                f"{path}: expected different columns for session, item and time, got {name!r} for two of them"
            )


def _times(times: pl.Series, path: Path, name: str) -> pl.Series:
    if times.dtype in (pl.Categorical, pl.Enum):
        times = times.cast(pl.String)
    if times.dtype.is_temporal():
        return times.to_physical().cast(pl.Int64)
    if not (times.dtype.is_numeric() or times.dtype == pl.String):
        raise UserError(f"{path}: column {name!r}: expected numbers or dates as times, got {times.dtype}")
    if times.dtype.is_integer():
        whole = times.cast(pl.Int64, strict=False)
        return times.cast(pl.Float64) if whole.null_count() else whole
    numbers = times.cast(pl.Int64, strict=False) if times.dtype == pl.String else times
    if numbers.dtype != pl.Int64 or numbers.null_count():
        numbers = times.cast(pl.Float64, strict=False)
    if numbers.null_count() and times.dtype == pl.String:
        column = time_column(times, name)
        if column.pattern:
            numbers = times.to_frame().select(column.ticks(pl.col(times.name))).to_series()
    bad = numbers.is_null() if numbers.dtype == pl.Int64 else numbers.is_null() | ~numbers.is_finite()
    if bad.any():
        row = _first(bad)
        remedy = "; gru4rec prepare --time-format reads other ways to write one" if times.dtype == pl.String else ""
        raise UserError(
            f"{path}: row {row}: expected a number or a date in column {name!r}, got {times[row - 1]!r}{remedy}"
        )
    return numbers


def _first(mask: pl.Series) -> int:
    """Number of the first marked row, from 1, not counting the header."""
    index = mask.arg_max()
    assert index is not None
    return index + 1


def encode(events: pl.DataFrame, vocabulary: Vocabulary | None = None) -> EncodedLog:
    """Numbers for a log.

    Args:
        events: as `read_events` gives them.
        vocabulary: the items of a trained model; clicks on others are dropped and their session goes on over the gap.
            None takes the items of the log itself.

    Returns:
        The encoded log; sessions that have no known item are gone.
    """
    if vocabulary is None:
        vocabulary = Vocabulary(events["item"].unique().to_list())
    terms = pl.DataFrame({"item": vocabulary.terms()}, schema={"item": pl.String}).with_row_index("number")
    sorted_events = (
        events.with_row_index("row")
        .with_columns(
            pl.col("time").min().over("session").alias("session_time"),
            pl.col("row").min().over("session").alias("session_row"),
        )
        .sort("session_time", "session_row", "time", "row")
        .join(terms, on="item", how="inner", maintain_order="left")
    )
    starts = np.flatnonzero(sorted_events["session_row"].rle_id().diff().fill_null(1).to_numpy())
    offsets = np.append(starts, len(sorted_events)).astype(np.int64)
    return EncodedLog(Sessions(sorted_events["number"].cast(pl.Int32).to_numpy(), offsets), vocabulary)


def hold_out_last(log: EncodedLog, share: float = 0.1) -> tuple[EncodedLog, Sessions]:
    """Split the latest sessions off for validation.

    Args:
        log: an encoded log, its sessions in time order.
        share: of the sessions to hold out, at least one.

    Returns:
        The earlier sessions with the items that occur in them, and the held-out sessions in those items' numbers.

    Raises:
        UserError: fewer than two sessions.
    """
    n_sessions = log.sessions.n_sessions
    if n_sessions < 2:
        raise UserError(f"expected at least two sessions to hold one out for validation, got {n_sessions}")
    first = n_sessions - max(1, round(n_sessions * share))
    early, late = log.sessions.slice(0, first), log.sessions.slice(first, n_sessions)
    present = np.bincount(early.items, minlength=len(log.vocabulary)) > 0
    number = np.cumsum(present, dtype=np.int32) - 1
    vocabulary = Vocabulary(log.vocabulary.terms(np.flatnonzero(present)))
    known = present[late.items]
    kept = np.concatenate([[0], np.cumsum(known)])[late.offsets]
    lengths = np.diff(kept)
    offsets = np.concatenate([[0], np.cumsum(lengths[lengths > 0])])
    held_out = Sessions(number[late.items[known]], offsets)
    return EncodedLog(Sessions(number[early.items], early.offsets), vocabulary), held_out
