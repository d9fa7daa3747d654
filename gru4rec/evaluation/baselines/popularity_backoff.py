"""Rank the whole catalogue by a method that scores only a few items.

Counting methods score the items that they have seen together with the clicked ones, and none of the others. If all
others tied at zero, a target that nobody ever clicked would rank right behind the few that are scored. So popularity
decides between items that are not scored, and between items of the same score; items tie only if they are equally
popular, too. The result is that of a dense matrix of scores, at the cost of the scored items alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gru4rec.data.clicks import expand_ranges

SCORES_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class ScoredItems:
    """The items that a method scores for some targets.

    Attributes:
        row: int64 [X], which of the targets, ascending.
        item: int32 [X]; an item appears once per target; the best first.
        score: float32 [X]. Sums of the same numbers in another order differ in their last bits in float64; rounded to
            float32 they tie again.
    """

    row: np.ndarray
    item: np.ndarray
    score: np.ndarray

    @classmethod
    def sort(cls, row: np.ndarray, item: np.ndarray, score: np.ndarray, support: np.ndarray) -> "ScoredItems":
        """From items in any order."""
        score = score.astype(np.float32)
        order = np.lexsort((item, -support[item], -score, row))
        return cls(row[order], item[order], score[order])


class PopularityBackoff:
    """Ranks targets among the scored items, and behind them among all other items by popularity.

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

    def rank(self, scored: ScoredItems, targets: np.ndarray, n_best: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How many items rank above each target [E], how many tie with it [E], and the best items [E, n_best].

        Args:
            scored: the items that are scored for these targets.
            targets: int32 [E], item numbers.
            n_best: at most N.
        """
        n_targets, row, item = len(targets), scored.row, scored.item
        is_target = item == targets[row]
        is_scored = np.zeros(n_targets, dtype=bool)
        is_scored[row[is_target]] = True
        own = np.full(n_targets, -np.inf)
        own[row[is_target]] = scored.score[is_target]

        support, own_support = self._support[item], self._support[targets][row]
        more, same = support > own_support, support == own_support
        higher, equal = scored.score > own[row], scored.score == own[row]
        above = np.bincount(row[higher | (equal & more)], minlength=n_targets)
        tied = np.bincount(row[equal & same], minlength=n_targets)
        # all scored items are above a target that is not scored; they must not be counted again among the popular ones
        above_others = above + self._more_popular[targets] - np.bincount(row[more], minlength=n_targets)
        tied_others = self._as_popular[targets] - np.bincount(row[same], minlength=n_targets)
        above, tied = np.where(is_scored, above, above_others), np.where(is_scored, tied, tied_others)
        return above, tied, self._best(row, item, n_targets, n_best)

    def _best(self, row: np.ndarray, item: np.ndarray, n_targets: int, n_best: int) -> np.ndarray:
        n_scored = np.bincount(row, minlength=n_targets)
        place = expand_ranges(0, n_scored)
        best = np.empty((n_targets, n_best), dtype=np.int32)
        kept = place < n_best
        best[row[kept], place[kept]] = item[kept]
        for target in np.flatnonzero(n_scored < n_best):
            count = n_scored[target]
            popular = self._by_popularity[: n_best + count]
            best[target, count:] = popular[~np.isin(popular, best[target, :count])][: n_best - count]
        return best


def split_targets(n_scored: np.ndarray) -> Iterator[slice]:
    """Runs of targets for which at most `SCORES_AT_ONCE` items are scored, or of one target.

    Args:
        n_scored: [E], how many items are scored for each target, or more.
    """
    ends = np.cumsum(n_scored)
    begin = 0
    while begin < len(n_scored):
        before = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + SCORES_AT_ONCE, "right")))
        yield slice(begin, end)
        begin = end
