"""V-SKNN: items of the past sessions that are most like the present one.

Of the training sessions that share an item with the session so far, the most recent ones are looked at. How alike such
a session is, is a product of vectors: 1 for each of its items, times 1 / log₁₀(a + 1.7) for each item of the present
session that was clicked a clicks before the last one, so that recent clicks weigh most. The nearest neighbours vote for
their items, with their similarity divided by how many clicks ago the present session clicked on what it shares with
them; rare items get a bonus for their inverse document frequency. Items of the present session may be recommended
again.

The defaults are those of the literature (1,000 recent sessions, log and div weights, an IDF weight of 5), which did
best, or about as well as any other that was tried, on the last tenth of the training sessions of three public logs.

Source: Ludewig & Jannach, Evaluation of Session-based Recommendation Algorithms, arXiv 1803.09587, section 3.3; IDF
weighting from Ludewig et al., Empirical Analysis of Session-Based Recommendation Algorithms, arXiv 1910.12781. Sessions
are recent by their first click there by their last one, which makes no difference where they are short.
"""

import numpy as np

from gru4rec.data.sessions import Sessions
from gru4rec.evaluation.baselines.item_transitions import distinct_items


class SessionNeighbours:
    """The training sessions, ready to be searched.

    Args:
        sessions: the training sessions, in time order.
        n_items: size of the catalogue.
        n_recent: how many of the sessions that share an item are compared, the most recent ones.
        n_neighbours: how many of those vote, the most similar ones; the more recent of equally similar ones.
        idf_weight: bonus for rare items: a vote counts 1 + idf_weight · log(S / sessions with the item) times.
    """

    def __init__(
        self,
        sessions: Sessions,
        n_items: int,
        *,
        n_recent: int = 1000,
        n_neighbours: int = 200,
        idf_weight: float = 5.0,
    ):
        self._n_recent, self._n_neighbours = n_recent, n_neighbours
        self._distinct = distinct_items(sessions, n_items)
        items = self._distinct.items
        number = np.repeat(np.arange(sessions.n_sessions), self._distinct.lengths)
        self._sessions_by_item = number[np.argsort(items, kind="stable")]  # ascending, so in time order, for each item
        n_sessions_of_item = np.bincount(items, minlength=n_items)
        self._item_begin = np.concatenate([[0], np.cumsum(n_sessions_of_item)])
        self._bonus = 1 + idf_weight * np.log(sessions.n_sessions / np.maximum(n_sessions_of_item, 1))
        self._similarity = np.zeros(sessions.n_sessions)  # scratch, zero between two questions
        self._clicks_ago = np.zeros(sessions.n_sessions)  # scratch

    def votes(self, clicked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
        vote = similarity / self._clicks_ago[recent_first]
        begin = self._distinct.offsets[recent_first]
        sizes = self._distinct.offsets[recent_first + 1] - begin
        ends = np.cumsum(sizes)
        place = np.arange(ends[-1] if len(ends) else 0) + np.repeat(begin - ends + sizes, sizes)
        voted, number = np.unique(self._distinct.items[place], return_inverse=True)
        score = np.bincount(number, np.repeat(vote, sizes), minlength=len(voted))
        return voted, score * self._bonus[voted]
