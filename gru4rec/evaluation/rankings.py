"""Where the items that came next rank, what they tie with, and which items rank best.

Every click of a session but its first is a target: it is ranked among all items of the catalogue, given the clicks
before it. Networks, exported models and baselines all end in these numbers, and every figure is computed from them.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from gru4rec.data.sessions import Sessions
from inference.shared.errors import unknown_choice

Ties = Literal["standard", "conservative", "median"]


@dataclass(frozen=True)
class Targets:
    """The clicks of a test that are to be predicted, session after session.

    Attributes:
        session: int64 [E], number of the session.
        n_clicks: int64 [E], clicks of the session before the target, at least one.
        last: int32 [E], the item of the click before it.
        item: int32 [E], the item to be predicted.
    """

    session: np.ndarray
    n_clicks: np.ndarray
    last: np.ndarray
    item: np.ndarray

    @classmethod
    def of(cls, sessions: Sessions) -> "Targets":
        """Every click of every session but the first."""
        is_target = np.ones(sessions.n_clicks, dtype=bool)
        is_target[sessions.offsets[:-1][sessions.lengths > 0]] = False
        places = np.flatnonzero(is_target)
        session = np.repeat(np.arange(sessions.n_sessions), sessions.lengths)[places]
        return cls(session, places - sessions.offsets[session], sessions.items[places - 1], sessions.items[places])

    def __len__(self) -> int:
        return len(self.item)


@dataclass(frozen=True)
class Rankings:
    """How E targets ranked.

    Attributes:
        above: int64 [E], how many items scored higher than the target.
        tied: int64 [E], how many scored the same, the target included.
        best: int32 [E, K], the items with the highest scores, best first; K may be 0.
    """

    above: np.ndarray
    tied: np.ndarray
    best: np.ndarray

    @classmethod
    def empty(cls, n_targets: int, n_best: int) -> "Rankings":
        """Rankings to be filled in."""
        above, tied = np.empty(n_targets, dtype=np.int64), np.empty(n_targets, dtype=np.int64)
        return cls(above, tied, np.empty((n_targets, n_best), dtype=np.int32))

    def fill(self, places: np.ndarray | slice | int, above: ArrayLike, tied: ArrayLike, best: ArrayLike) -> None:
        """Enter the rankings of some targets."""
        self.above[places], self.tied[places], self.best[places] = above, tied, best

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
        share_before = {"standard": 0.0, "conservative": 1.0, "median": 0.5}[ties]
        ranks: np.ndarray = self.above + share_before * (self.tied - 1) + 1
        return ranks


def check_ties(ties: str) -> None:
    """Refuse an unknown way of ranking ties.

    Raises:
        UserError: `ties` is none of the three.
    """
    if ties not in get_args(Ties):
        raise unknown_choice("way of ranking ties", ties, list(get_args(Ties)))
