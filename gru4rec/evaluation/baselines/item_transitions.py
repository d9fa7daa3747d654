"""What the last click alone says about the next item: counts of items that appear together, turned round.

Three methods differ in which pairs of a session they count, and for how much:

* first-order Markov: an item and the one right after it.
* sequential rules: an item and each of the ten after it, for 1 / distance. Source: Ludewig & Jannach, Evaluation of
  Session-based Recommendation Algorithms, arXiv 1803.09587, section 3.1.
* item-kNN: the cosine of two items' sets of sessions, damped so that two items that met once are not the most alike of
  all: n_ij / √((n_i + 20)(n_j + 20)). Source: the baseline of Hidasi et al., arXiv 1511.06939, section 4.1.
"""

from collections.abc import Iterator

import numpy as np

from gru4rec.data.clicks import pairs_at
from gru4rec.data.sessions import Sessions
from gru4rec.evaluation.baselines.candidate_ranking import Candidates

RULE_DISTANCE = 10
DAMPING = 20.0
PAIRS_AT_ONCE = 1 << 24


class Successors:
    """For every item, the items that may come next, best first.

    Args:
        pair: int64 [P], first · N + next, ascending and distinct.
        score: float64 [P].
        support: int64 [N].
    """

    def __init__(self, pair: np.ndarray, score: np.ndarray, support: np.ndarray):
        n_items = len(support)
        sorted_candidates = Candidates.sorted(pair // n_items, (pair % n_items).astype(np.int32), score, support)
        self._item, self._score = sorted_candidates.item, sorted_candidates.score
        self._begin = np.searchsorted(sorted_candidates.row, np.arange(n_items + 1))

    def sizes(self, last: np.ndarray) -> np.ndarray:
        """How many successors each of these items has."""
        sizes: np.ndarray = self._begin[last + 1] - self._begin[last]
        return sizes

    def after(self, last: np.ndarray) -> Candidates:
        """The successors of the items [E] that were clicked last."""
        sizes = self.sizes(last)
        row = np.repeat(np.arange(len(last)), sizes)
        place = np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(self._begin[last], sizes)
        return Candidates(row, self._item[place], self._score[place])


def markov_successors(sessions: Sessions, support: np.ndarray) -> Successors:
    """Items by how often they came right after."""
    return Successors(*_summed(_ordered_pairs(sessions, len(support), 1)), support)


def rule_successors(sessions: Sessions, support: np.ndarray) -> Successors:
    """Items by how often and how soon they came later in a session."""
    return Successors(*_summed(_ordered_pairs(sessions, len(support), RULE_DISTANCE)), support)


def similar_items(sessions: Sessions, support: np.ndarray) -> Successors:
    """Items by the damped cosine of the sessions that they appear in."""
    n_items = len(support)
    distinct = distinct_items(sessions, n_items)
    pair, count = _summed(_both_ways(distinct, n_items))
    damped = np.sqrt(np.bincount(distinct.items, minlength=n_items) + DAMPING)
    return Successors(pair, count / damped[pair // n_items] / damped[pair % n_items], support)


def distinct_items(sessions: Sessions, n_items: int) -> Sessions:
    """Every session's items, each of them once and in ascending order."""
    number = np.repeat(np.arange(sessions.n_sessions), sessions.lengths)
    together = np.unique(number * n_items + sessions.items)
    offsets = np.searchsorted(together, np.arange(sessions.n_sessions + 1) * n_items)
    return Sessions((together % n_items).astype(np.int32), offsets)


Weighted = tuple[np.ndarray, float]


def _ordered_pairs(sessions: Sessions, n_items: int, reach: int) -> Iterator[Weighted]:
    """Pairs at every distance up to `reach`, for 1 / distance."""
    number = np.repeat(np.arange(sessions.n_sessions), sessions.lengths)
    for distance in range(1, min(reach, int(sessions.lengths.max(initial=0)) - 1) + 1):
        yield pairs_at(distance, sessions.items, number, n_items), 1 / distance


def _both_ways(sessions: Sessions, n_items: int) -> Iterator[Weighted]:
    """All pairs of a session's items, in both orders; of sessions without repetitions."""
    for pair, _ in _ordered_pairs(sessions, n_items, sessions.n_clicks):
        yield pair, 1.0
        yield pair % n_items * n_items + pair // n_items, 1.0


def _summed(parts: Iterator[Weighted]) -> tuple[np.ndarray, np.ndarray]:
    """The distinct pairs, ascending, and the sums of their weights; a limited number of pairs is held at a time."""
    pair, weight = np.empty(0, dtype=np.int64), np.empty(0)
    waiting: list[Weighted] = []

    def merged() -> tuple[np.ndarray, np.ndarray]:
        everything = np.concatenate([pair, *(part for part, _ in waiting)])
        weights = np.concatenate([weight, *(np.full(len(part), each) for part, each in waiting)])
        distinct, place = np.unique(everything, return_inverse=True)
        return distinct, np.bincount(place, weights, minlength=len(distinct))

    for part in parts:
        waiting.append(part)
        if sum(len(pairs) for pairs, _ in waiting) > PAIRS_AT_ONCE:
            pair, weight = merged()
            waiting = []
    return merged()
