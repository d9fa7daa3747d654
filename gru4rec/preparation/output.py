"""What a preparation leaves on disk.

    DIR/
      train.parquet, valid.parquet, test.parquet    SessionId, ItemId, Time; sessions in the order in which the log has
                                                    them, each in time order
      encoded/                                      the training clicks, ready to be trained on (see `encoded_log`)
      stats.json                                    what was read, what every step removed, what each part holds

Ids and times have the type and the values of the log. Clicks are turned back into ids while they are written, so that
the ids of a large log never lie in memory.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gru4rec.data.clicks import Clicks, Names
from gru4rec.data.encoded_log import FOLDER, encode_clicks, file_digest, write_encoded
from gru4rec.data.event_files import system_errors
from gru4rec.data.times import Clock
from gru4rec.preparation.pipeline import Prepared
from inference.shared.columns import Columns

SCHEMA_VERSION = 1
STATS_FILE = "stats.json"


def write_prepared(folder: Path, prepared: Prepared, about: Mapping[str, Any]) -> None:
    """Write a prepared log.

    Args:
        folder: an empty one.
        prepared: what to write.
        about: what else belongs into stats.json.

    Raises:
        OSError: it cannot be written.
    """
    with system_errors():
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
