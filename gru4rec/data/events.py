"""Click logs for training and evaluation: from a file to sessions of item numbers.

A log has clicks: session, item, time. `reading` reads every layout; ids are text, exactly as written ("007" stays
"007"), and of times only the order matters here. A log that needs sessions, filters or a split goes through
`preparation`.

`encode` turns a log into numbers. Clicks are sorted by time within their session, sessions by their first click; equal
times keep the order of the file.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gru4rec.data.clicks import Clicks, expand_ranges, grouping_order, renumber
from gru4rec.data.reading.columns import LogColumns, recognise
from gru4rec.data.reading.frames import as_log_file
from gru4rec.data.reading.log import read_log
from gru4rec.data.reading.log_file import open_log_file
from gru4rec.data.reading.log_rows import Reading
from gru4rec.data.reading.roles import choose_columns
from gru4rec.data.reading.sources import Source, find_sources, open_source
from gru4rec.data.sessions import EncodedLog, Sessions
from inference.shared.columns import Columns
from inference.shared.errors import UserError
from inference.shared.vocabulary import MISSING, Vocabulary

PARTS = ("train", "valid", "test")


def read_events(clicks: Any, columns: Columns = Columns(), *, part: str = "train") -> pl.DataFrame:
    """The clicks of a log, in the file's order.

    Args:
        clicks: the path of a file, pattern or folder in any layout that `reading` knows, or of a prepared folder with
            {part}.parquet; a data frame of any library; or a list of sessions, each of them a list of item ids.
        columns: the names of its columns; if none has the usual name, another known name of it is taken.
        part: which file of a prepared folder to read.

    Returns:
        A frame with the columns "session" and "item" (text) and "time" (Int64 or Float64).

    Raises:
        UserError: the file is missing, unreadable or empty, a column is missing or null, or a time is no time.
    """
    if isinstance(clicks, str | Path):
        files = [open_log_file(source) for source in _sources(Path(clicks), part)]
    else:
        files = [as_log_file(clicks)]
    names = dict(zip(("session", "item", "time"), columns.names, strict=True))
    for role, name in names.items():
        if name not in files[0].names and name == getattr(Columns(), role):
            names[role] = recognise(files[0].paths(), role) or name
    log = read_log(files, Reading(choose_columns(files[0], LogColumns(**names)), order_only=True))
    ids = log.ids
    session, item = ids.sessions.gather(log.clicks.session), ids.items.gather(log.clicks.item)
    columns_of_text = {"session": session.cast(pl.String), "item": item.cast(pl.String)}
    return pl.DataFrame(columns_of_text | {"time": log.clicks.time})


def _sources(path: Path, part: str) -> list[Source]:
    """The files at a path; of a prepared folder one part."""
    if path.is_dir() and any((path / f"{name}.parquet").is_file() for name in PARTS):
        return [open_source(path / f"{part}.parquet")]
    return find_sources([str(path)])


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
    return EncodedLog(_known_clicks(Sessions(item, np.append(0, np.cumsum(lengths)), vocabulary)), vocabulary)


def _known_clicks(sessions: Sessions) -> Sessions:
    """The sessions without clicks on `MISSING` items, and without sessions that are empty then."""
    known = sessions.items != MISSING
    kept = np.append(0, np.cumsum(known))[sessions.offsets]
    lengths = np.diff(kept)
    offsets = np.append(0, np.cumsum(lengths[lengths > 0]))
    return Sessions(sessions.items[known], offsets, sessions.vocabulary)


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
    train = EncodedLog(Sessions(number[early.items], early.offsets, vocabulary), vocabulary)
    return train, _known_clicks(Sessions(number[late.items], late.offsets, vocabulary))
