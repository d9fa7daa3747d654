"""Simple methods that a network has to beat, ranked in full like the network itself.

* popularity: the most clicked items.
* session-popularity: the items of the session itself by their clicks in it, then the most clicked ones.
* markov, sequential-rules, item-knn: what the last click says (`successors`).
* v-sknn: what similar sessions say, the strongest of them (`session_neighbours`).

None of them learns; counting them takes seconds. A network that loses to one of them has not earned its place.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np

from gru4rec.data.sessions import Sessions
from gru4rec.evaluation.baselines.candidate_ranking import CandidateRanking, Candidates, portions
from gru4rec.evaluation.baselines.item_transitions import Successors, markov_successors, rule_successors, similar_items
from gru4rec.evaluation.baselines.vsknn import SessionNeighbours
from gru4rec.evaluation.rankings import Events, Rankings

Portion = tuple[slice, Candidates]
EVENTS_AT_ONCE = 1024


class Baseline(Protocol):
    """A method that was counted from training sessions."""

    def candidates(self, sessions: Sessions, events: Events) -> Iterator[Portion]:
        """What it says about the events of some sessions: consecutive ones at a time, rows numbered from 0 in each."""
        ...


class Popularity:
    """Has nothing to say about the session."""

    def candidates(self, sessions: Sessions, events: Events) -> Iterator[Portion]:
        nothing = np.empty(0, dtype=np.int64)
        yield slice(0, len(events.target)), Candidates(nothing, nothing.astype(np.int32), nothing.astype(np.float32))


class SessionPopularity:
    """The clicks of the session so far, counted."""

    def __init__(self, support: np.ndarray):
        self._support = support

    def candidates(self, sessions: Sessions, events: Events) -> Iterator[Portion]:
        n_items = len(self._support)
        for part in portions(events.n_clicks):
            sizes = events.n_clicks[part]
            row = np.repeat(np.arange(len(sizes)), sizes)
            within = np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            clicked = sessions.items[sessions.offsets[events.session[part]][row] + within]
            together, clicks = np.unique(row * n_items + clicked, return_counts=True)
            item = (together % n_items).astype(np.int32)
            yield part, Candidates.sorted(together // n_items, item, clicks.astype(np.float64), self._support)


class LastClick:
    """What a table says of the item that was clicked last."""

    def __init__(self, successors: Successors):
        self._successors = successors

    def candidates(self, sessions: Sessions, events: Events) -> Iterator[Portion]:
        for part in portions(self._successors.sizes(events.last)):
            yield part, self._successors.after(events.last[part])


class Neighbours:
    """What similar sessions say."""

    def __init__(self, neighbours: SessionNeighbours, support: np.ndarray):
        self._neighbours, self._support = neighbours, support

    def candidates(self, sessions: Sessions, events: Events) -> Iterator[Portion]:
        for begin in range(0, len(events.target), EVENTS_AT_ONCE):
            part = slice(begin, min(begin + EVENTS_AT_ONCE, len(events.target)))
            first = sessions.offsets[events.session[part]]
            votes = [
                self._neighbours.votes(sessions.items[start : start + clicks])
                for start, clicks in zip(first, events.n_clicks[part], strict=True)
            ]
            row = np.repeat(np.arange(len(votes)), [len(items) for items, _ in votes])
            items, scores = (np.concatenate(column) for column in zip(*votes, strict=True))
            yield part, Candidates.sorted(row, items, scores, self._support)


BASELINES: Mapping[str, Callable[[Sessions, np.ndarray], Baseline]] = {
    "popularity": lambda sessions, support: Popularity(),
    "session-popularity": lambda sessions, support: SessionPopularity(support),
    "markov": lambda sessions, support: LastClick(markov_successors(sessions, support)),
    "sequential-rules": lambda sessions, support: LastClick(rule_successors(sessions, support)),
    "item-knn": lambda sessions, support: LastClick(similar_items(sessions, support)),
    "v-sknn": lambda sessions, support: Neighbours(SessionNeighbours(sessions, len(support)), support),
}
"""By name: what makes a baseline of training sessions and their support [N]."""


def rank_with_baseline(
    baseline: Baseline,
    sessions: Sessions,
    support: np.ndarray,
    *,
    n_best: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Rankings:
    """Rank the next item of every event among all items.

    Args:
        baseline: counted from the training sessions.
        sessions: of the test, in the item numbers of the training.
        support: int64 [N], clicks per item in the training.
        n_best: how many of the best items to keep of every event.
        progress: called with the number of events ranked so far.
    """
    events = Events.of(sessions)
    ranking = CandidateRanking(support)
    n_events, n_best = len(events.target), min(n_best, len(support))
    above, tied = np.empty(n_events, dtype=np.int64), np.empty(n_events, dtype=np.int64)
    best = np.empty((n_events, n_best), dtype=np.int32)
    for part, candidates in baseline.candidates(sessions, events):
        above[part], tied[part], best[part] = ranking.counts(candidates, events.target[part], n_best)
        if progress is not None:
            progress(part.stop)
    return Rankings(above, tied, best)
