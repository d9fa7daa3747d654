"""V-SKNN: score the items of the past sessions that are most similar to the current one.

Only the most recent of the training sessions that share an item with the current one are compared. The similarity of
such a session is a product of vectors: 1 for each of its items, times 1 / log₁₀(a + 1.7) for each item of the current
session that was clicked a clicks before the last one, so that recent clicks weigh most. The nearest neighbours vote for
their items, with their similarity divided by the number of clicks since the current session clicked an item that they
share. Rare items get a bonus for their inverse document frequency. Items of the current session may be recommended
again.

The defaults are those of the literature (1,000 recent sessions, log and div weights, an IDF weight of 5). On the last
tenth of the training sessions of three public logs they did best, or about as well as any other values tried.

Source: Ludewig & Jannach, Evaluation of Session-based Recommendation Algorithms, arXiv 1803.09587, section 3.3; IDF
weighting from Ludewig et al., Empirical Analysis of Session-Based Recommendation Algorithms, arXiv 1910.12781. There,
the most recent sessions are those with the latest last click, here those with the latest first click; for short
sessions this makes no difference.
"""

from collections.abc import Iterator

import numpy as np

from gru4rec.data.clicks import expand_ranges
from gru4rec.data.sessions import Sessions
from gru4rec.evaluation.baselines.item_transitions import distinct_items
from gru4rec.evaluation.baselines.popularity_backoff import ScoredItems
from gru4rec.evaluation.rankings import Targets

TARGETS_AT_ONCE = 1024


class SessionNeighbours:
    """The training sessions, indexed by their items.

    Args:
        sessions: the training sessions, in time order.
        support: int64 [N], clicks per item in them.
        n_recent: how many of the sessions that share an item are compared, the most recent ones.
        n_neighbours: how many of those vote, the most similar ones; the more recent of equally similar ones.
        idf_weight: bonus for rare items: a vote counts 1 + idf_weight · log(S / sessions with the item) times.
    """

    def __init__(
        self,
        sessions: Sessions,
        support: np.ndarray,
        *,
        n_recent: int = 1000,
        n_neighbours: int = 200,
        idf_weight: float = 5.0,
    ):
        self._support, self._n_recent, self._n_neighbours = support, n_recent, n_neighbours
        self._distinct = distinct_items(sessions, len(support))
        items = self._distinct.items
        number = np.repeat(np.arange(sessions.n_sessions), self._distinct.lengths)
        self._sessions_by_item = number[np.argsort(items, kind="stable")]  # ascending, so in time order, for each item
        n_sessions_of_item = np.bincount(items, minlength=len(support))
        self._item_begin = np.concatenate([[0], np.cumsum(n_sessions_of_item)])
        self._bonus = 1 + idf_weight * np.log(sessions.n_sessions / np.maximum(n_sessions_of_item, 1))
        self._similarity = np.zeros(sessions.n_sessions)  # scratch, zero between two calls
        self._clicks_ago = np.zeros(sessions.n_sessions)  # scratch

    def score(self, sessions: Sessions, targets: Targets) -> Iterator[tuple[slice, ScoredItems]]:
        """See `Baseline.score`."""
        for begin in range(0, len(targets), TARGETS_AT_ONCE):
            part = slice(begin, min(begin + TARGETS_AT_ONCE, len(targets)))
            first = sessions.offsets[targets.session[part]]
            votes = [
                self.vote(sessions.items[start : start + clicks])
                for start, clicks in zip(first, targets.n_clicks[part], strict=True)
            ]
            row = np.repeat(np.arange(len(votes)), [len(items) for items, _ in votes])
            items, scores = (np.concatenate(column) for column in zip(*votes, strict=True))
            yield part, ScoredItems.sort(row, items, scores, self._support)

    def vote(self, clicked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The items that the neighbours of a session vote for, ascending, and their scores.

        Args:
            clicked: item numbers of the session so far, oldest first.
        """
        items, since = np.unique(clicked[::-1], return_index=True)  # clicks since an item was last clicked
        found = []
        for place in np.argsort(-since):  # recent clicks last: they overwrite
            begin, end = self._item_begin[items[place]], self._item_begin[items[place] + 1]
            sharing = self._sessions_by_item[max(begin, end - self._n_recent) : end]
            self._similarity[sharing] += 1 / np.log10(since[place] + 1.7)
            self._clicks_ago[sharing] = since[place] + 1
            found.append(sharing)
        every = found[0] if len(found) == 1 else np.unique(np.concatenate(found))
        recent_first = every[: -self._n_recent - 1 : -1]
        similarity = self._similarity[recent_first]
        self._similarity[every] = 0.0
        if len(recent_first) > self._n_neighbours:
            nearest = np.argsort(-similarity, kind="stable")[: self._n_neighbours]
            recent_first, similarity = recent_first[nearest], similarity[nearest]
        weight = similarity / self._clicks_ago[recent_first]
        begin, sizes = self._distinct.offsets[recent_first], self._distinct.lengths[recent_first]
        items, number = np.unique(self._distinct.items[expand_ranges(begin, sizes)], return_inverse=True)
        score = np.bincount(number, np.repeat(weight, sizes), minlength=len(items))
        return items, score * self._bonus[items]
