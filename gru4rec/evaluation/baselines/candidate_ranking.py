"""Every item of the catalogue ranked by a method that has something to say about a few of them only.

Counting methods score the items that they have seen together with the clicked ones and are silent about the rest of the
catalogue. Were all of those to tie at zero, a target nobody ever saw would rank right behind a handful of candidates.
So where a method is silent, and where it gives two items the same score, popularity decides; items tie only where that
is equal, too. The order is that of a dense matrix of scores, but its cost is that of the candidates.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

CANDIDATES_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Candidates:
    """What a method has to say about some events.

    Attributes:
        row: int64 [X], which of the events, ascending.
        item: int32 [X]; an item appears once per event; the best first.
        score: float32 [X]. Sums of the same numbers in another order differ in their last bits in float64; rounded to
            float32 they tie again.
    """

    row: np.ndarray
    item: np.ndarray
    score: np.ndarray

    @classmethod
    def sorted(cls, row: np.ndarray, item: np.ndarray, score: np.ndarray, support: np.ndarray) -> "Candidates":
        """Candidates in any order."""
        score = score.astype(np.float32)
        order = np.lexsort((item, -support[item], -score, row))
        return cls(row[order], item[order], score[order])


class CandidateRanking:
    """Ranks targets among candidates, and behind them among all other items by popularity.

    Args:
        support: int64 [N], clicks per item in the training log.
    """

    def __init__(self, support: np.ndarray):
        self._support = support
        self._by_popularity = np.lexsort((np.arange(len(support)), -support)).astype(np.int32)
        ascending = np.sort(support)
        begin, end = np.searchsorted(ascending, support, "left"), np.searchsorted(ascending, support, "right")
        self._more_popular = len(support) - end
        self._as_popular = end - begin

    def counts(
        self, candidates: Candidates, targets: np.ndarray, n_best: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How many items rank above each target [E], how many tie with it [E], and the best items [E, n_best].

        Args:
            candidates: of the events.
            targets: int32 [E].
            n_best: at most N.
        """
        n_events, row, item = len(targets), candidates.row, candidates.item
        is_target = item == targets[row]
        present = np.zeros(n_events, dtype=bool)
        present[row[is_target]] = True
        own = np.full(n_events, -np.inf)
        own[row[is_target]] = candidates.score[is_target]

        support, own_support = self._support[item], self._support[targets][row]
        more, same = support > own_support, support == own_support
        higher, equal = candidates.score > own[row], candidates.score == own[row]
        above = np.bincount(row[higher | (equal & more)], minlength=n_events)
        tied = np.bincount(row[equal & same], minlength=n_events)
        # of a target that is no candidate, all candidates are above; they must not be counted again among the popular
        above_silent = above + self._more_popular[targets] - np.bincount(row[more], minlength=n_events)
        tied_silent = self._as_popular[targets] - np.bincount(row[same], minlength=n_events)
        above, tied = np.where(present, above, above_silent), np.where(present, tied, tied_silent)
        return above, tied, self._best(row, item, n_events, n_best)

    def _best(self, row: np.ndarray, item: np.ndarray, n_events: int, n_best: int) -> np.ndarray:
        n_candidates = np.bincount(row, minlength=n_events)
        place = np.arange(len(row)) - np.repeat(np.cumsum(n_candidates) - n_candidates, n_candidates)
        best = np.empty((n_events, n_best), dtype=np.int32)
        kept = place < n_best
        best[row[kept], place[kept]] = item[kept]
        for event in np.flatnonzero(n_candidates < n_best):
            count = n_candidates[event]
            popular = self._by_popularity[: n_best + count]
            best[event, count:] = popular[~np.isin(popular, best[event, :count])][: n_best - count]
        return best


def portions(sizes: np.ndarray) -> Iterator[slice]:
    """Consecutive events that together have not too many candidates.

    Args:
        sizes: [E], candidates of every event, or more.
    """
    ends = np.cumsum(sizes)
    begin = 0
    while begin < len(sizes):
        reached = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, reached + CANDIDATES_AT_ONCE, "right")))
        yield slice(begin, end)
        begin = end
