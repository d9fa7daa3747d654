"""What a preparation leaves on disk.

    DIR/
      train.parquet, valid.parquet, test.parquet    SessionId, ItemId, Time; sessions in the order in which the log has
                                                    them, each in time order
      encoded/                                      the training clicks, ready to be trained on (see `encoded_log`)
      stats.json                                    what was read, what every step removed, what each part holds

Ids and times have the type and the values of the log. Clicks are turned back into ids while they are written, so that
the ids of a large log never lie in memory. The folder appears whole or not at all.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gru4rec.clicks import Clicks, Names
from gru4rec.encoded_log import FOLDER, encode_clicks, file_digest, write_encoded
from gru4rec.event_files import one_line
from gru4rec.events import Columns
from gru4rec.preparation import Prepared
from gru4rec.times import Clock
from inference.atomic import written_folder
from inference.errors import UserError

SCHEMA_VERSION = 1
STATS_FILE = "stats.json"


def check_free(out: Path) -> None:
    """Refuse a destination that could not be written to, before any work is done.

    Raises:
        UserError: it is a file or a folder that holds something, or the folder that it lies in does not exist.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"cannot write {out}: it exists already; remove it or choose another folder")
    if not out.parent.is_dir():
        raise UserError(f"cannot write {out}: the folder {out.parent} does not exist; create it first")


def write_prepared(out: Path, prepared: Prepared, about: Mapping[str, Any]) -> None:
    """Write a prepared log.

    Args:
        out: a folder that does not exist, or is empty.
        prepared: what to write.
        about: what else belongs into stats.json.

    Raises:
        UserError: it cannot be written.
    """
    check_free(out)
    with _folder(out) as folder:
        parts = {}
        for name, clicks in prepared.parts.items():
            file = folder / f"{name}.parquet"
            write_clicks(file, clicks, prepared.names, prepared.clock)
            first, last = clicks.time.min().item(), clicks.time.max().item()
            parts[name] = {
                **asdict(clicks.counts()),
                "first_time": first,
                "last_time": last,
                "sha256": file_digest(file),
            }
        log = encode_clicks(prepared.parts["train"], prepared.names.items)
        write_encoded(folder / FOLDER, log, str(parts["train"]["sha256"]))
        stats = {
            "schema_version": SCHEMA_VERSION,
            **about,
            "time": prepared.clock.described(),
            "steps": [asdict(step) for step in prepared.steps],
            "boundaries": prepared.boundaries,
            "parts": parts,
        }
        (folder / STATS_FILE).write_text(json.dumps(stats, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def _folder(out: Path) -> Iterator[Path]:
    was_there = out.is_dir()
    if was_there:
        out.rmdir()
    try:
        with written_folder(out) as folder:
            yield folder
    except pl.exceptions.PolarsError as error:
        reason = one_line(error).rpartition("IO error: ")[2]
        raise UserError(f"cannot write {out}: {reason}") from None
    finally:
        if was_there and not out.exists():
            out.mkdir()


def write_clicks(path: Path, clicks: Clicks, names: Names, clock: Clock) -> None:
    """Write clicks as parquet, a batch at a time."""
    session, item, time = Columns().names
    time_type = pl.Float64 if clicks.time.dtype == np.float64 else pl.Int64
    numbers = pl.LazyFrame(
        {"session": clicks.session, "item": clicks.item, "time": pl.Series(clicks.time, dtype=time_type)}
    )
    schema = {session: names.sessions.dtype, item: names.items.dtype, time: clock.dtype}

    def rows(batch: pl.DataFrame) -> pl.DataFrame:
        return pl.DataFrame(
            {
                session: names.sessions.gather(batch["session"]),
                item: names.items.gather(batch["item"]),
                time: _times(batch["time"], clock),
            }
        )

    numbers.map_batches(rows, schema=schema, streamable=True).sink_parquet(
        path, compression_level=1, engine="streaming"
    )


def _times(ticks: pl.Series, clock: Clock) -> pl.Series:
    return ticks.cast(pl.Int32).cast(pl.Date) if clock.dtype == pl.Date else ticks.cast(clock.dtype)
