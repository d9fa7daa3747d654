"""What a model did with every event of a test: how its targets ranked, with what they tied, and what it recommended.

Every consecutive pair of a session is one event: the item that really came next is ranked among all items of the
catalogue, given the session so far. Whatever ranks, the network, an exported model or a baseline, ends in these
numbers, and every figure is computed from them.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from gru4rec.data.sessions import Sessions
from inference.shared.errors import unknown_choice

Ties = Literal["standard", "conservative", "median"]


@dataclass(frozen=True)
class Events:
    """The events of a test, session after session.

    Attributes:
        session: int64 [E], number of the session.
        n_clicks: int64 [E], clicks of the session so far, at least one.
        last: int32 [E], the item that was clicked last.
        target: int32 [E], the item that came next.
    """

    session: np.ndarray
    n_clicks: np.ndarray
    last: np.ndarray
    target: np.ndarray

    @classmethod
    def of(cls, sessions: Sessions) -> "Events":
        """Every consecutive pair of every session."""
        is_next = np.ones(sessions.n_clicks, dtype=bool)
        is_next[sessions.offsets[:-1][sessions.lengths > 0]] = False
        places = np.flatnonzero(is_next)
        session = np.repeat(np.arange(sessions.n_sessions), sessions.lengths)[places]
        return cls(session, places - sessions.offsets[session], sessions.items[places - 1], sessions.items[places])


@dataclass(frozen=True)
class Rankings:
    """How the targets of E events ranked.

    Attributes:
        above: int64 [E], how many items scored higher than the target.
        tied: int64 [E], how many scored as much, the target itself included.
        best: int32 [E, K], the items that scored highest, best first; K may be 0.
    """

    above: np.ndarray
    tied: np.ndarray
    best: np.ndarray

    def ranks(self, ties: Ties) -> np.ndarray:
        """Ranks from 1, float64 [E]; among items of its score the target is first, last, or in the middle.

            standard = above + 1      conservative = above + tied      median = above + ½ (tied − 1) + 1

        Source: Hidasi & Czapp, arXiv 2307.14951.

        Raises:
            UserError: `ties` is none of the three.

        >>> Rankings(np.array([1]), np.array([3]), np.empty((1, 0))).ranks("median").tolist()
        [3.0]
        """
        check_ties(ties)
        before = {"standard": 0.0, "conservative": 1.0, "median": 0.5}[ties]
        ranked: np.ndarray = self.above + before * (self.tied - 1) + 1
        return ranked


def check_ties(ties: str) -> None:
    """Refuse a way of ranking ties that does not exist.

    Raises:
        UserError: it is none of the three.
    """
    if ties not in get_args(Ties):
        raise unknown_choice("way of ranking ties", ties, list(get_args(Ties)))
