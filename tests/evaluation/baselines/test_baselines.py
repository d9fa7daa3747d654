"""Every baseline ranks as a loop does that is written plainly from its definition, with dense scores of all items."""

import math
from collections import Counter, defaultdict
from itertools import combinations, pairwise

import numpy as np
import pytest

from gru4rec.data.sessions import Sessions
from gru4rec.evaluation.baselines.item_transitions import ItemTransitions
from gru4rec.evaluation.baselines.registry import BASELINES, rank_with_baseline
from gru4rec.evaluation.baselines.vsknn import SessionNeighbours
from gru4rec.evaluation.rankings import Targets

N_ITEMS = 25


def random_sessions(n_sessions: int, seed: int) -> list[list[int]]:
    """Short sessions over a few popular and many rare items, with repetitions, and items that never occur."""
    generator = np.random.default_rng(seed)
    chance = 1 / np.arange(1, N_ITEMS - 2)
    return [
        generator.choice(N_ITEMS - 3, size=size, p=chance / chance.sum()).tolist()
        for size in generator.integers(1, 9, size=n_sessions)
    ]


TRAIN, TEST = random_sessions(60, seed=1), [*random_sessions(25, seed=2), [24, 23, 1, 24]]
SUPPORT = np.bincount([item for session in TRAIN for item in session], minlength=N_ITEMS)


def popularity(_clicked: list[int]) -> dict[int, float]:
    return {}


def session_popularity(clicked: list[int]) -> dict[int, float]:
    return dict(Counter(clicked))


def markov(clicked: list[int]) -> dict[int, float]:
    return dict(Counter(right for session in TRAIN for left, right in pairwise(session) if left == clicked[-1]))


def sequential_rules(clicked: list[int]) -> dict[int, float]:
    scores: dict[int, float] = defaultdict(float)
    for session in TRAIN:
        for i, j in combinations(range(len(session)), 2):
            if session[i] == clicked[-1] and j - i <= 10:
                scores[session[j]] += 1 / (j - i)
    return scores


def item_knn(clicked: list[int]) -> dict[int, float]:
    having = {item: {number for number, session in enumerate(TRAIN) if item in session} for item in range(N_ITEMS)}
    here = having[clicked[-1]]
    return {
        item: len(here & there) / math.sqrt((len(here) + 20) * (len(there) + 20))
        for item, there in having.items()
        if item != clicked[-1] and here & there
    }


def v_sknn(clicked: list[int], n_recent=1000, n_neighbours=200, idf_weight=5.0) -> dict[int, float]:
    last_place = {item: place for place, item in enumerate(clicked, 1)}
    sharing = [number for number, session in enumerate(TRAIN) if set(session) & set(clicked)][-n_recent:]
    similarity = {
        number: sum(1 / math.log10(len(clicked) - last_place[item] + 1.7) for item in set(TRAIN[number]) & set(clicked))
        for number in sharing
    }
    scores: dict[int, float] = defaultdict(float)
    for number in sorted(sharing, key=lambda number: (-similarity[number], -number))[:n_neighbours]:
        ago = next(steps for steps, item in enumerate(reversed(clicked), 1) if item in TRAIN[number])
        for item in set(TRAIN[number]):
            idf = math.log(len(TRAIN) / sum(item in session for session in TRAIN))
            scores[item] += similarity[number] / ago * (1 + idf_weight * idf)
    return scores


PLAIN = {
    "popularity": popularity,
    "session-popularity": session_popularity,
    "markov": markov,
    "sequential-rules": sequential_rules,
    "item-knn": item_knn,
    "v-sknn": v_sknn,
}


def assert_ranks_like(rankings, plain) -> None:
    """Compare with a dense ranking by score, where there is one, and then by support."""
    event = 0
    for session in TEST:
        for length in range(1, len(session)):
            scores = plain(session[:length])
            order = {item: (np.float32(scores.get(item, -1.0)), SUPPORT[item]) for item in range(N_ITEMS)}
            target = order[session[length]]
            assert rankings.above[event] == sum(each > target for each in order.values())
            assert rankings.tied[event] == sum(each == target for each in order.values())
            best = [order[item] for item in rankings.best[event].tolist()]
            assert best == sorted(order.values(), reverse=True)[: len(best)]
            assert len(set(rankings.best[event].tolist())) == len(best)
            event += 1
    assert event == len(rankings.above)


@pytest.mark.parametrize("name", BASELINES)
def test_baseline_ranks_as_its_definition_says(name, monkeypatch):
    monkeypatch.setattr("gru4rec.evaluation.baselines.popularity_backoff.SCORES_AT_ONCE", 40)
    monkeypatch.setattr("gru4rec.evaluation.baselines.item_transitions.PAIRS_AT_ONCE", 50)
    monkeypatch.setattr("gru4rec.evaluation.baselines.vsknn.TARGETS_AT_ONCE", 7)
    baseline = BASELINES[name](Sessions.from_lists(TRAIN), SUPPORT)
    rankings = rank_with_baseline(baseline, Sessions.from_lists(TEST), SUPPORT, n_best=10)
    assert_ranks_like(rankings, PLAIN[name])


@pytest.mark.parametrize(("n_recent", "n_neighbours", "idf_weight"), [(20, 5, 0.0), (30, 3, 2.0), (4, 4, 0.5)])
def test_only_recent_sessions_are_compared_and_only_the_nearest_vote(n_recent, n_neighbours, idf_weight):
    options = {"n_recent": n_recent, "n_neighbours": n_neighbours, "idf_weight": idf_weight}
    baseline = SessionNeighbours(Sessions.from_lists(TRAIN), SUPPORT, **options)
    rankings = rank_with_baseline(baseline, Sessions.from_lists(TEST), SUPPORT, n_best=N_ITEMS)
    assert_ranks_like(rankings, lambda clicked: v_sknn(clicked, **options))


def test_neighbours_are_asked_for_one_session_after_the_other_without_a_trace():
    neighbours = SessionNeighbours(Sessions.from_lists(TRAIN), SUPPORT, n_recent=10)
    first = neighbours.vote(np.array([0, 1, 2]))
    neighbours.vote(np.array([3, 0, 4, 1]))
    for before, after in zip(first, neighbours.vote(np.array([0, 1, 2])), strict=True):
        np.testing.assert_array_equal(before, after)


def test_where_a_method_is_silent_popularity_speaks_and_only_equals_tie():
    """Item 0 is followed by 1; of the silent ones 2 is more popular than 3, and 4 is as popular as 3."""
    support = np.array([9, 1, 8, 5, 5])
    baseline = ItemTransitions(np.array([0 * 5 + 1]), np.array([1.0]), support)
    test = Sessions.from_lists([[0, 1], [0, 0], [0, 2], [0, 3]])
    rankings = rank_with_baseline(baseline, test, support, n_best=5)
    assert rankings.above.tolist() == [0, 1, 2, 3]
    assert rankings.tied.tolist() == [1, 1, 1, 2]
    assert rankings.best.tolist() == [[1, 0, 2, 3, 4]] * 4


def test_targets_are_all_clicks_but_the_first_of_every_session_in_their_order():
    targets = Targets.of(Sessions(np.array([5, 6, 7, 8, 9], np.int32), np.array([0, 1, 4, 4, 5])))
    assert targets.session.tolist() == [1, 1]
    assert targets.n_clicks.tolist() == [1, 2]
    assert targets.last.tolist() == [6, 7]
    assert targets.item.tolist() == [7, 8]
