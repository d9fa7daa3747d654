"""Simple methods that a network has to beat, ranked in full like the network itself.

* popularity: the most clicked items.
* session-popularity: the items of the session itself by their clicks in it, then the most clicked ones.
* markov, sequential-rules, item-knn: what follows the last click (`item_transitions`).
* v-sknn: what similar sessions clicked, the strongest of them (`vsknn`).

None of them learns; counting takes seconds. A network that loses to one of them is not worth its training.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np

from gru4rec.data.clicks import expand_ranges
from gru4rec.data.sessions import Sessions
from gru4rec.evaluation.baselines.item_transitions import count_markov, count_rules, count_similar_items
from gru4rec.evaluation.baselines.popularity_backoff import (
    PopularityBackoff,
    ScoredItems,
    split_targets,
)
from gru4rec.evaluation.baselines.vsknn import SessionNeighbours
from gru4rec.evaluation.rankings import Rankings, Targets


class Baseline(Protocol):
    """A method that was counted from training sessions."""

    def score(self, sessions: Sessions, targets: Targets) -> Iterator[tuple[slice, ScoredItems]]:
        """Score items for the targets of some sessions: for consecutive ones at a time, with rows from 0 in each."""
        ...


class Popularity:
    """Scores nothing, so that popularity alone decides."""

    def score(self, sessions: Sessions, targets: Targets) -> Iterator[tuple[slice, ScoredItems]]:
        nothing = np.empty(0, dtype=np.int64)
        yield slice(0, len(targets)), ScoredItems(nothing, nothing.astype(np.int32), nothing.astype(np.float32))


class SessionPopularity:
    """Scores the items of the session so far by their clicks."""

    def __init__(self, support: np.ndarray):
        self._support = support

    def score(self, sessions: Sessions, targets: Targets) -> Iterator[tuple[slice, ScoredItems]]:
        n_items = len(self._support)
        for part in split_targets(targets.n_clicks):
            sizes = targets.n_clicks[part]
            row = np.repeat(np.arange(len(sizes)), sizes)
            clicked = sessions.items[expand_ranges(sessions.offsets[targets.session[part]], sizes)]
            pair, clicks = np.unique(row * n_items + clicked, return_counts=True)
            item = (pair % n_items).astype(np.int32)
            yield part, ScoredItems.sort(pair // n_items, item, clicks, self._support)


BASELINES: Mapping[str, Callable[[Sessions, np.ndarray], Baseline]] = {
    "popularity": lambda sessions, support: Popularity(),
    "session-popularity": lambda sessions, support: SessionPopularity(support),
    "markov": count_markov,
    "sequential-rules": count_rules,
    "item-knn": count_similar_items,
    "v-sknn": SessionNeighbours,
}
"""By name: counts a baseline from training sessions and their support [N]."""


def rank_with_baseline(
    baseline: Baseline,
    sessions: Sessions,
    support: np.ndarray,
    *,
    n_best: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Rankings:
    """Rank every target among all items.

    Args:
        baseline: counted from the training sessions.
        sessions: of the test, in the item numbers of the training.
        support: int64 [N], clicks per item in the training.
        n_best: how many of the best items to keep for every target.
        progress: called with the number of targets ranked so far.
    """
    targets = Targets.of(sessions)
    backoff = PopularityBackoff(support)
    n_best = min(n_best, len(support))
    rankings = Rankings.empty(len(targets), n_best)
    for part, scored in baseline.score(sessions, targets):
        rankings.fill(part, *backoff.rank(scored, targets.item[part], n_best))
        if progress is not None:
            progress(part.stop)
    return rankings
