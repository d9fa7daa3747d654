"""Click logs for training and evaluation: from a file to sessions of item numbers.

A log has one row per click: session, item, time. Files are delimited text with a header, JSON lines or parquet. Ids are
text, exactly as written ("007" stays "007"). Times are integers, floats or datetimes; only their order matters here.
Rawer logs go through `preparation`.

`encode` turns a log into numbers. Clicks are sorted by time within their session, sessions by their first click; equal
times keep the order of the file.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from gru4rec.data.clicks import Clicks, expand_ranges, grouping_order, renumber
from gru4rec.data.event_files import (
    EventFile,
    bad_value,
    check_columns,
    open_event_file,
    reading_errors,
)
from gru4rec.data.sessions import EncodedLog, Sessions
from gru4rec.data.times import infer_time_column
from inference.shared.columns import Columns
from inference.shared.errors import UserError
from inference.shared.vocabulary import MISSING, Vocabulary


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
    file = open_event_file(path / f"{part}.parquet" if path.is_dir() else path)
    names = dict(zip(("session", "item", "time"), columns.names, strict=True))
    check_columns(file, names)
    with reading_errors(file):
        frame = file.frame.select(**{role: pl.col(name) for role, name in names.items()}).collect()
    if frame.is_empty():
        raise UserError(f"{file.path}: expected events, got none (the file has a header only)")
    frame = frame.with_columns(pl.col("session", "item").cast(pl.String))
    for role, name in names.items():
        empty = frame[role].is_null()
        if frame.schema[role] == pl.String:
            empty |= frame[role] == ""
        if empty.any():
            raise bad_value(file, _first_row(empty), name, None, "a value")
    return frame.with_columns(_ticks(frame["time"], file, columns.time))


def _ticks(times: pl.Series, file: EventFile, name: str) -> pl.Series:
    if times.dtype in (pl.Categorical, pl.Enum):
        times = times.cast(pl.String)
    column = infer_time_column(times, f"{file.path}: column {name!r}")
    ticks = column.read(times)
    if ticks.null_count() and column.dtype.is_integer():  # too large for int64, or fractions among whole numbers
        column = replace(column, dtype=pl.Float64())
        ticks = column.read(times)
    if ticks.null_count():
        row = _first_row(ticks.is_null())
        remedy = "; gru4rec prepare --time-format reads other ways to write one" if times.dtype == pl.String else ""
        raise bad_value(file, row, name, times[row - 1], column.expected, remedy)
    return ticks


def _first_row(mask: pl.Series) -> int:
    """Number of the first marked row, from 1, not counting the header."""
    index = mask.arg_max()
    assert index is not None
    return index + 1


def encode(events: pl.DataFrame, vocabulary: Vocabulary | None = None) -> EncodedLog:
    """Turn a log into numbers.

    Args:
        events: as `read_events` gives them.
        vocabulary: the items of a trained model; clicks on other items are skipped, sessions continue after them.
            None takes the items of the log.

    Returns:
        The encoded log, without the sessions that have no known item.
    """
    ids = pl.Categorical(pl.Categories.random()), pl.Categorical(pl.Categories.random())
    columns = [events[name].cast(kind) for name, kind in zip(("session", "item"), ids, strict=True)]
    (session, _), (item, first) = (renumber(column.to_physical().to_numpy()) for column in columns)
    clicks = Clicks(session, item, events["time"].to_numpy())
    return encode_clicks(clicks.keep(grouping_order(clicks)), events["item"].gather(first), vocabulary)


def encode_clicks(clicks: Clicks, items: pl.Series, vocabulary: Vocabulary | None = None) -> EncodedLog:
    """`encode` for grouped clicks, given the id of each item number."""
    present = np.flatnonzero(clicks.support)
    terms = items.gather(present).cast(pl.String)
    if vocabulary is None:
        vocabulary = Vocabulary(terms.to_list())
    known = pl.DataFrame({"item": vocabulary.terms()}, schema={"item": pl.String}).with_row_index("number")
    numbers = terms.to_frame("item").join(known, on="item", how="left", maintain_order="left")["number"]
    number = np.full(len(clicks.support), MISSING, dtype=np.int32)
    number[present] = numbers.cast(pl.Int32).fill_null(MISSING).to_numpy()
    starts = clicks.starts
    order = np.argsort(clicks.time[starts], kind="stable")
    lengths = clicks.lengths[order]
    item = number[clicks.item[expand_ranges(starts[order], lengths)]]
    return EncodedLog(_known_clicks(Sessions(item, np.append(0, np.cumsum(lengths)))), vocabulary)


def _known_clicks(sessions: Sessions) -> Sessions:
    """The sessions without clicks on `MISSING` items, and without sessions that are empty then."""
    known = sessions.items != MISSING
    kept = np.append(0, np.cumsum(known))[sessions.offsets]
    lengths = np.diff(kept)
    return Sessions(sessions.items[known], np.append(0, np.cumsum(lengths[lengths > 0])))


def hold_out_last(log: EncodedLog, share: float = 0.1) -> tuple[EncodedLog, Sessions]:
    """Split the latest sessions off for validation.

    Args:
        log: an encoded log, its sessions in time order.
        share: of the sessions to hold out; at least one is.

    Returns:
        The earlier sessions with the items that occur in them, and the held-out sessions in those items' numbers.

    Raises:
        UserError: there are fewer than two sessions.
    """
    n_sessions = log.sessions.n_sessions
    if n_sessions < 2:
        raise UserError(f"expected at least two sessions to hold one out for validation, got {n_sessions}")
    first = n_sessions - max(1, round(n_sessions * share))
    early, late = log.sessions.slice(0, first), log.sessions.slice(first, n_sessions)
    present = np.bincount(early.items, minlength=len(log.vocabulary)) > 0
    number = np.where(present, np.cumsum(present, dtype=np.int32) - 1, np.int32(MISSING))
    vocabulary = Vocabulary(log.vocabulary.terms(np.flatnonzero(present)))
    train = EncodedLog(Sessions(number[early.items], early.offsets), vocabulary)
    return train, _known_clicks(Sessions(number[late.items], late.offsets))
