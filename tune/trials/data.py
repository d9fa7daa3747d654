"""The data of a search: a log to train on, sessions to validate on, and both together for the winner."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from gru4rec.data.encoded_log import read_training_log
from gru4rec.data.events import encode, hold_out_last, read_events
from gru4rec.data.sessions import EncodedLog, Sessions
from gru4rec.training.run import data_digest
from inference.shared.columns import Columns
from inference.shared.errors import UserError
from tune.trials.trial import TrialData

HELD_OUT = 0.1
"""Share of the training sessions, the latest, that validate if there is no validation log."""


@dataclass(frozen=True)
class SearchData:
    """Everything that a search reads.

    Attributes:
        trial: what each trial trains and validates on.
        everything: training and validation sessions together, with all their items.
        test: clicks for the final evaluation; None without a test log.
    """

    trial: TrialData
    everything: EncodedLog
    test: pl.DataFrame | None

    @property
    def sha256(self) -> str:
        """Digest of the training and validation data."""
        return data_digest(self.trial.train, self.trial.valid)

    @property
    def test_sha256(self) -> str | None:
        """Digest of the test data; None without them."""
        return None if self.test is None else data_digest(encode(self.test))

    @property
    def n_bytes(self) -> int:
        """Approximate size of what all trials share."""
        sessions = (self.trial.train.sessions, self.trial.valid)
        return sum(part.items.nbytes + part.offsets.nbytes for part in sessions) + 64 * len(self.trial.train.vocabulary)


def read_search_data(train: Path, valid: Path | None, test: Path | None, columns: Columns) -> SearchData:
    """Read the logs of a search.

    Args:
        train: click log or prepared folder.
        valid: click log to validate on; None for the last tenth of the training sessions.
        test: click log for the final evaluation.
        columns: the names of their columns.

    Raises:
        UserError: a log cannot be read, or has no session of two known items.
    """
    test_events = read_events(test, columns, part="test") if test else None
    if valid is None:
        everything = read_training_log(train, columns)
        log, held_out = hold_out_last(everything, HELD_OUT)
        where = f"{train}: the last tenth of the sessions"
    else:
        events, valid_events = read_events(train, columns), read_events(valid, columns, part="valid")
        log = encode(events)
        held_out = encode(valid_events, log.vocabulary).sessions
        everything = encode(_together(events, valid_events))
        where = str(valid)
    _check_pairs(log.sessions, str(train), "train on")
    _check_pairs(held_out, where, "validate on")
    if test_events is not None:
        _check_pairs(
            encode(test_events, everything.vocabulary).sessions, str(test), "test on"
        )  # before hours are spent
    return SearchData(TrialData(log, held_out), everything, test_events)


def _together(train: pl.DataFrame, valid: pl.DataFrame) -> pl.DataFrame:
    """Both logs; a session id in both is two sessions, because ids may start again in each file."""
    parts = [
        frame.with_columns(pl.concat_str(pl.lit(prefix), "session").alias("session"))
        for prefix, frame in (("train:", train), ("valid:", valid))
    ]
    return pl.concat(parts, how="vertical_relaxed")


def _check_pairs(sessions: Sessions, where: str, purpose: str) -> None:
    if not sessions.n_pairs:
        raise UserError(f"{where}: expected sessions of at least two known items to {purpose}, got none")
