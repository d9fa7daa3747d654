"""Score the next item from the last click alone, by counts of items that appear together.

Three methods differ in which pairs of a session they count, and with which weight:

* first-order Markov: an item and the one right after it.
* sequential rules: an item and each of the ten after it, weighted by 1 / distance. Source: Ludewig & Jannach,
  Evaluation of Session-based Recommendation Algorithms, arXiv 1803.09587, section 3.1.
* item-kNN: the cosine of two items' sets of sessions, damped so that two items that met once are not the most similar
  of all: n_ij / √((n_i + 20)(n_j + 20)). Source: the baseline of Hidasi et al., arXiv 1511.06939, section 4.1.
"""

from collections.abc import Iterator

import numpy as np

from gru4rec.data.clicks import expand_ranges, pairs_at
from gru4rec.data.sessions import Sessions
from gru4rec.evaluation.baselines.popularity_backoff import ScoredItems, split_targets
from gru4rec.evaluation.rankings import Targets

RULE_DISTANCE = 10
DAMPING = 20.0
PAIRS_AT_ONCE = 1 << 24


class ItemTransitions:
    """For every item, the scores of the items that may come next.

    Args:
        pair: int64 [P], first · N + next, ascending and distinct.
        score: float64 [P].
        support: int64 [N].
    """

    def __init__(self, pair: np.ndarray, score: np.ndarray, support: np.ndarray):
        n_items = len(support)
        self._next = ScoredItems.sort(pair // n_items, (pair % n_items).astype(np.int32), score, support)
        self._begin = np.searchsorted(self._next.row, np.arange(n_items + 1))

    def score(self, sessions: Sessions, targets: Targets) -> Iterator[tuple[slice, ScoredItems]]:
        """See `Baseline.score`."""
        n_scored = self._begin[targets.last + 1] - self._begin[targets.last]
        for part in split_targets(n_scored):
            sizes = n_scored[part]
            place = expand_ranges(self._begin[targets.last[part]], sizes)
            row = np.repeat(np.arange(len(sizes)), sizes)
            yield part, ScoredItems(row, self._next.item[place], self._next.score[place])


def count_markov(sessions: Sessions, support: np.ndarray) -> ItemTransitions:
    """Transitions by how often an item came right after another."""
    return ItemTransitions(*_sum_weights(_ordered_pairs(sessions, len(support), 1)), support)


def count_rules(sessions: Sessions, support: np.ndarray) -> ItemTransitions:
    """Transitions by how often and how soon an item came later in a session."""
    return ItemTransitions(*_sum_weights(_ordered_pairs(sessions, len(support), RULE_DISTANCE)), support)


def count_similar_items(sessions: Sessions, support: np.ndarray) -> ItemTransitions:
    """Transitions by the damped cosine of the sessions that two items appear in."""
    n_items = len(support)
    distinct = distinct_items(sessions, n_items)
    pair, count = _sum_weights(_both_ways(distinct, n_items))
    damped = np.sqrt(np.bincount(distinct.items, minlength=n_items) + DAMPING)
    return ItemTransitions(pair, count / damped[pair // n_items] / damped[pair % n_items], support)


def distinct_items(sessions: Sessions, n_items: int) -> Sessions:
    """Every session's items, each of them once and in ascending order."""
    number = np.repeat(np.arange(sessions.n_sessions), sessions.lengths)
    pair = np.unique(number * n_items + sessions.items)
    offsets = np.searchsorted(pair, np.arange(sessions.n_sessions + 1) * n_items)
    return Sessions((pair % n_items).astype(np.int32), offsets)


_Weighted = tuple[np.ndarray, float]


def _ordered_pairs(sessions: Sessions, n_items: int, reach: int) -> Iterator[_Weighted]:
    """Pairs at every distance up to `reach`, weighted by 1 / distance."""
    number = np.repeat(np.arange(sessions.n_sessions), sessions.lengths)
    for distance in range(1, min(reach, int(sessions.lengths.max(initial=0)) - 1) + 1):
        yield pairs_at(distance, sessions.items, number, n_items), 1 / distance


def _both_ways(sessions: Sessions, n_items: int) -> Iterator[_Weighted]:
    """All pairs of a session's items, in both orders; of sessions without repetitions."""
    for pair, _ in _ordered_pairs(sessions, n_items, sessions.n_clicks):
        yield pair, 1.0
        yield pair % n_items * n_items + pair // n_items, 1.0


def _sum_weights(parts: Iterator[_Weighted]) -> tuple[np.ndarray, np.ndarray]:
    """The distinct pairs, ascending, and the sums of their weights; holds a limited number of pairs at a time."""
    waiting = [(np.empty(0, dtype=np.int64), np.empty(0))]
    for pair, weight in parts:
        waiting.append((pair, np.full(len(pair), weight)))
        if sum(len(pairs) for pairs, _ in waiting[1:]) > PAIRS_AT_ONCE:
            waiting = [_merge(waiting)]
    return _merge(waiting)


def _merge(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    pair, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    distinct, place = np.unique(pair, return_inverse=True)
    return distinct, np.bincount(place, weight, minlength=len(distinct))
