"""The folder that a preparation writes.

    DIR/
      train.parquet, valid.parquet, test.parquet    SessionId, ItemId, Time; sessions in the order of the log, each in
                                                    time order
      encoded/                                      the training clicks, ready for training (see `encoded_log`)
      stats.json                                    what was read, what every step removed, what each part holds

Ids and times have the type and the values of the log. Numbers become ids again while they are written, so the ids of a
large log are never in memory.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gru4rec.data.clicks import Clicks, Ids
from gru4rec.data.encoded_log import ENCODED_FOLDER, file_digest, write_encoded
from gru4rec.data.events import encode_clicks
from gru4rec.data.polars_errors import writing_errors
from gru4rec.data.times import Clock
from gru4rec.preparation.pipeline import Prepared
from inference.shared.columns import Columns

SCHEMA_VERSION = 1
STATS_FILE = "stats.json"


def write_prepared(folder: Path, prepared: Prepared, about: Mapping[str, Any]) -> None:
    """Write a prepared log into an empty folder.

    Args:
        folder: the empty folder.
        prepared: the log.
        about: more entries for stats.json.
    """
    with writing_errors():
        parts = {}
        for name, clicks in prepared.parts.items():
            file = folder / f"{name}.parquet"
            write_clicks(file, clicks, prepared.ids, prepared.clock)
            first, last = clicks.time.min().item(), clicks.time.max().item()
            parts[name] = {
                **asdict(clicks.counts()),
                "first_time": first,
                "last_time": last,
                "sha256": file_digest(file),
            }
        log = encode_clicks(prepared.parts["train"], prepared.ids.items)
        write_encoded(folder / ENCODED_FOLDER, log, str(parts["train"]["sha256"]))
        stats = {
            "schema_version": SCHEMA_VERSION,
            **about,
            "time": prepared.clock.describe(),
            "steps": [asdict(step) for step in prepared.steps],
            "boundaries": prepared.boundaries,
            "parts": parts,
        }
        (folder / STATS_FILE).write_text(json.dumps(stats, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_clicks(path: Path, clicks: Clicks, ids: Ids, clock: Clock) -> None:
    """Write clicks as parquet, a batch at a time."""
    session, item, time = Columns().names
    time_type = pl.Float64 if clicks.time.dtype == np.float64 else pl.Int64
    numbers = pl.LazyFrame(
        {"session": clicks.session, "item": clicks.item, "time": pl.Series(clicks.time, dtype=time_type)}
    )
    schema = {session: ids.sessions.dtype, item: ids.items.dtype, time: clock.dtype}

    def rows(batch: pl.DataFrame) -> pl.DataFrame:
        times = batch["time"].cast(pl.Int32) if clock.dtype == pl.Date else batch["time"]
        columns = ids.sessions.gather(batch["session"]), ids.items.gather(batch["item"]), times.cast(clock.dtype)
        return pl.DataFrame(dict(zip(schema, columns, strict=True)))

    numbers.map_batches(rows, schema=schema, streamable=True).sink_parquet(
        path, compression_level=1, engine="streaming"
    )
