"""Encoded sessions: what training and evaluation read.

All clicks of a log lie in one flat array of item numbers, session after session; offsets mark where each begins. The
array is small (4 bytes per click), can be memory-mapped or shared between processes, and is never written to.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from inference.shared.vocabulary import Vocabulary

NO_ITEM = -1
"""Stands for a click before the session began."""


@dataclass(frozen=True)
class Sessions:
    """The clicks of many sessions.

    Attributes:
        items: int32 [E], item numbers, session after session, each in time order.
        offsets: int64 [S + 1]; session s is items[offsets[s]:offsets[s + 1]]. Sessions are ordered by their first
            click.
        vocabulary: that numbers the items, if it is known; a model of other items refuses the sessions.
    """

    items: np.ndarray
    offsets: np.ndarray
    vocabulary: Vocabulary | None = None

    @property
    def n_sessions(self) -> int:
        """Number of sessions, S."""
        return len(self.offsets) - 1

    @property
    def n_clicks(self) -> int:
        """Number of clicks, E."""
        return len(self.items)

    @property
    def lengths(self) -> np.ndarray:
        """Clicks per session, int64 [S]."""
        return np.diff(self.offsets)

    @property
    def n_pairs(self) -> int:
        """Consecutive pairs: what one epoch trains on, or one evaluation ranks."""
        return int(np.maximum(self.lengths - 1, 0).sum())

    def slice(self, first: int, last: int) -> "Sessions":
        """Sessions first … last - 1, without copying clicks."""
        offsets = self.offsets[first : last + 1]
        return Sessions(self.items[offsets[0] : offsets[-1]], offsets - offsets[0], self.vocabulary)

    def batches_by_length(self, size: int) -> Iterator[np.ndarray]:
        """The numbers of the sessions with a pair, the shortest first, int64 [at most `size`]."""
        order = np.argsort(self.lengths, kind="stable")
        order = order[self.lengths[order] > 1]
        for begin in range(0, len(order), size):
            yield order[begin : begin + size]

    @classmethod
    def from_lists(cls, sessions: list[list[int]]) -> "Sessions":
        """Sessions given as lists of item numbers."""
        offsets = np.cumsum([0, *map(len, sessions)], dtype=np.int64)
        return cls(np.array([item for session in sessions for item in session], dtype=np.int32), offsets)


@dataclass(frozen=True)
class EncodedLog:
    """A training log.

    Attributes:
        sessions: the clicks; every item number is below len(vocabulary).
        vocabulary: the items.
    """

    sessions: Sessions
    vocabulary: Vocabulary

    @cached_property
    def support(self) -> np.ndarray:
        """Clicks per item, int64 [N]."""
        return np.bincount(self.sessions.items, minlength=len(self.vocabulary))
