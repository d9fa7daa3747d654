"""Small logs with known structure, and the losses to try on them."""

import numpy as np
import polars as pl

from gru4rec.data.sessions import EncodedLog, Sessions
from gru4rec.model.losses import LOSSES
from inference.shared.vocabulary import Vocabulary

BUILT_IN_LOSSES = sorted(name for name, loss in LOSSES.items() if loss.function.__module__ == "gru4rec.model.losses")
"""Every loss of ours by name; other tests may have registered more."""


def log_of(sessions: list[list[int]]) -> EncodedLog:
    """An encoded log of sessions given as item numbers; items are named so that their order is that of the numbers."""
    n_items = 1 + max(item for session in sessions for item in session)
    return EncodedLog(Sessions.from_lists(sessions), Vocabulary(f"item-{number:06d}" for number in range(n_items)))


def markov_sessions(n_sessions: int, n_items: int, seed: int, noise: float = 0.2) -> list[list[int]]:
    """Sessions in which item i is mostly followed by a fixed successor, else by any item."""
    generator = np.random.default_rng(seed)
    successor = np.random.default_rng(99).permutation(n_items)
    sessions = []
    for _ in range(n_sessions):
        session = [int(generator.integers(n_items))]
        while len(session) < 8:
            follows = generator.random() >= noise
            session.append(int(successor[session[-1]] if follows else generator.integers(n_items)))
        sessions.append(session)
    return sessions


def frame_of(sessions: list[list[int]]) -> pl.DataFrame:
    """The same sessions as events with the columns of an event file, in time order."""
    rows = [(f"s{number}", f"item-{item:06d}") for number, session in enumerate(sessions) for item in session]
    return pl.DataFrame(rows, schema=["SessionId", "ItemId"], orient="row").with_columns(
        pl.int_range(pl.len()).alias("Time")
    )
