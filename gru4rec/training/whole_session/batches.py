"""Batches of whole sessions of similar length, laid out before an epoch.

Sessions are sorted by length (those of equal length in a new random order every epoch) and packed until a batch has
about the requested number of targets; the batches come in random order. Within a batch the clicks are time-major:
first every session's first click, then the second clicks of those that have one, and so on, longest session first, so
that the sessions that still have clicks are always a prefix. There is no padding.

Sessions longer than a window are cut: a batch is then several steps, and the state is carried from one to the next.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gru4rec.data.clicks import expand_ranges
from gru4rec.data.sessions import NO_ITEM, Sessions

WINDOW = 64
"""The most clicks of a session that back-propagation covers."""


@dataclass(frozen=True)
class SessionStep:
    """The clicks of one step, time-major (R rows in all).

    Attributes:
        number: of the step within the epoch.
        continues: whether the state of the step before is carried over (by its first sizes[0] sessions).
        sizes: number of sessions that have a click at each moment, never increasing.
        inputs: int32 [R], the item clicked.
        targets: int32 [R], the item clicked next.
        recent: int32 [R, K], the items of the last K clicks, the current one first; `NO_ITEM` before the session began.
    """

    number: int
    continues: bool
    sizes: list[int]
    inputs: np.ndarray
    targets: np.ndarray
    recent: np.ndarray


class SessionBatches:
    """The batches of a log.

    Args:
        sessions: the training sessions; those of a single click have no pair and are skipped.
        batch_size: targets per step, about.
        n_recent: how many of the last clicks a step contains, K.

    Attributes:
        n_sessions: sessions that have a pair to train on.
        n_steps: steps of an epoch.
    """

    def __init__(self, sessions: Sessions, batch_size: int, n_recent: int = 0):
        self._sessions = sessions
        self._n_recent = n_recent
        pairs = sessions.lengths - 1
        self._eligible = np.flatnonzero(pairs > 0)
        self._pairs = pairs[self._eligible]
        self.n_sessions = len(self._eligible)
        ascending = np.sort(self._pairs)
        targets = np.concatenate([[0], np.cumsum(np.minimum(ascending, WINDOW))])
        bounds = [0]
        while bounds[-1] < self.n_sessions:
            last = int(np.searchsorted(targets, targets[bounds[-1]] + batch_size, side="right")) - 1
            bounds.append(max(last, bounds[-1] + 1))
        self._bounds = np.array(bounds)
        longest = ascending[self._bounds[1:] - 1] if self.n_sessions else np.empty(0, dtype=np.int64)
        self.n_steps = int((-(-longest // WINDOW)).sum())

    def steps(self, generator: np.random.Generator) -> Iterator[SessionStep]:
        """The steps of one epoch; the generator shuffles sessions of equal length, and the batches."""
        order = np.lexsort((generator.random(self.n_sessions), self._pairs))
        number = 0
        for batch in generator.permutation(len(self._bounds) - 1):
            members = order[self._bounds[batch] : self._bounds[batch + 1]][::-1]  # longest first
            pairs = self._pairs[members]
            starts = self._sessions.offsets[self._eligible[members]]
            for begin in range(0, int(pairs[0]), WINDOW):
                moments = np.arange(begin, min(begin + WINDOW, int(pairs[0])))
                sizes = np.searchsorted(-pairs, -moments, side="left")  # sessions with more pairs than the moment
                member = expand_ranges(0, sizes)
                clicks = starts[member] + np.repeat(moments, sizes)
                items = self._sessions.items
                recent = self._recent(clicks, starts[member])
                yield SessionStep(number, begin > 0, sizes.tolist(), items[clicks], items[clicks + 1], recent)
                number += 1

    def _recent(self, clicks: np.ndarray, starts: np.ndarray) -> np.ndarray:
        places = clicks[:, None] - np.arange(self._n_recent)  # [R, K]
        recent: np.ndarray = np.where(places < starts[:, None], NO_ITEM, self._sessions.items[places.clip(min=0)])
        return recent
