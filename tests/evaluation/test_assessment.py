"""Metrics, intervals, groups and alarms, on rankings small enough to count by hand."""

import math

import numpy as np
import pytest

from gru4rec.data.sessions import Sessions
from gru4rec.evaluation.assessment import Settings, assess, compare
from gru4rec.evaluation.metrics import Interval, bootstrap, compute_metric
from gru4rec.evaluation.rankings import Rankings, Targets
from inference.shared.errors import UserError


def rankings_of(above: list[int], best: list[list[int]] | None = None, tied: list[int] | None = None) -> Rankings:
    return Rankings(
        np.array(above),
        np.array(tied or [1] * len(above)),
        np.array(best if best is not None else [[0]] * len(above), dtype=np.int32),
    )


def targets_of(sessions: list[list[int]]) -> Targets:
    return Targets.of(Sessions.from_lists(sessions))


def bootstrap_of(values: np.ndarray, session: np.ndarray, **options) -> Interval:
    return bootstrap({"value": values}, session, **options)["value"]


def test_second_and_fourth_place_by_hand():
    """Ranks 2, 4 and 21."""
    result = assess(rankings_of([1, 3, 20]), targets_of([[0, 1, 2, 3]]), 30, Settings((3, 20)))
    values = {name: interval.mean for name, interval in result.intervals.items()}
    assert values == pytest.approx(
        {
            "recall@3": 1 / 3,
            "recall@20": 2 / 3,
            "mrr@3": 1 / 6,
            "mrr@20": (1 / 2 + 1 / 4) / 3,
            "ndcg@3": 1 / math.log2(3) / 3,
            "ndcg@20": (1 / math.log2(3) + 1 / math.log2(5)) / 3,
        }
    )
    assert result.as_dict()["map@20"] == result.as_dict()["mrr@20"]


def test_average_precision_with_one_relevant_item_is_the_reciprocal_rank():
    """The mean of the precision at the ranks of the relevant items, computed as it is defined."""
    for rank in range(1, 30):
        is_relevant = np.arange(1, 41) == rank
        precision = np.cumsum(is_relevant) / np.arange(1, 41)
        average_precision = (precision * is_relevant)[:20].sum() / is_relevant.sum()
        assert compute_metric("mrr", np.array([float(rank)]), 20)[0] == pytest.approx(average_precision)


def test_coverage_and_popularity_count_what_is_recommended():
    best = [[0, 1], [0, 2], [1, 0]]
    settings = Settings((1, 2), support=np.array([10, 20, 30, 40, 50]))
    result = assess(rankings_of([0, 0, 0], best), targets_of([[0, 1, 4], [2, 3]]), 5, settings)
    assert result.coverage == {1: 2 / 5, 2: 3 / 5}
    assert result.popularity == {1: (10 + 10 + 20) / 3, 2: (10 + 20 + 10 + 30 + 20 + 10) / 6}
    assert result.clicked_popularity == (20 + 50 + 40) / 3


def test_groups_split_the_events_by_position_and_by_support():
    sessions = [[0, 1, 2, 1, 2, 1, 2], [0, 2]]
    settings = Settings((20,), support=np.array([1000, 7, 60]))
    result = assess(rankings_of([0, 99, 1, 99, 3, 99, 99]), targets_of(sessions), 3, settings)
    by_position = [(group.label, group.events, group.recall, group.mrr) for group in result.by_position]
    assert by_position == [
        ("1", 2, 0.5, 0.5),
        ("2", 1, 0.0, 0.0),
        ("3", 1, 1.0, 0.5),
        ("4", 1, 0.0, 0.0),
        ("5–9", 2, 0.5, 0.125),
    ]
    assert [(group.label, group.events, group.recall) for group in result.by_support] == [
        ("5–9", 3, 1.0),
        ("50–99", 4, 0),
    ]


def test_interval_holds_the_mean_and_is_that_of_resampled_sessions():
    """Two kinds of sessions, wholly hit or wholly missed: the interval is that of a coin tossed 50 times."""
    session = np.repeat(np.arange(50), 4)
    values = np.repeat(np.arange(50) % 2, 4).astype(float)
    interval = bootstrap_of(values, session, resamples=4000, seed=1)
    assert interval.mean == 0.5
    expected = 1.96 * math.sqrt(0.25 / 50)
    assert interval.high - 0.5 == pytest.approx(expected, abs=0.02)
    assert 0.5 - interval.low == pytest.approx(expected, abs=0.02)


def test_targets_of_one_session_are_drawn_together():
    """As many targets, each in a session of its own: an interval half as wide."""
    values = np.repeat(np.arange(50) % 2, 4).astype(float)
    together = bootstrap_of(values, np.repeat(np.arange(50), 4), resamples=2000, seed=1)
    apart = bootstrap_of(values, np.arange(200), resamples=2000, seed=1)
    assert (together.high - together.low) / (apart.high - apart.low) == pytest.approx(2, rel=0.15)


def test_same_seed_same_interval_and_other_seed_another():
    values = np.random.default_rng(0).random(60)
    session = np.arange(60) // 3
    first, again, other = (bootstrap_of(values, session, resamples=50, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_paired_comparison_sees_a_small_difference_that_the_intervals_hide():
    """Half the sessions are easy for both models; the second finds every third target one place later."""
    generator = np.random.default_rng(3)
    easy = np.repeat(generator.random(100) < 0.5, 5)
    above = np.where(easy, 0, 50)
    worse = above + easy * (np.arange(500) % 3 == 0)
    targets = targets_of([[0, 1, 2, 3, 4, 5]] * 100)
    settings = Settings((20,))
    first, second = (rankings_of(ranks.tolist()) for ranks in (above, worse))
    left, right = (assess(each, targets, 6, settings).intervals["mrr@20"] for each in (first, second))
    assert left.low < right.high  # alone, they overlap
    difference = compare(first, second, targets, settings)["mrr@20"]
    assert difference.mean == pytest.approx(left.mean - right.mean)
    assert difference.low > 0
    assert compare(first, first, targets, settings)["mrr@20"].high == 0


@pytest.mark.parametrize(("tied", "alarm"), [([100, 100], True), ([1, 2], False)])
def test_alarm_where_ties_decide(tied, alarm):
    """With ties in its favour a model of equal scores is always right, with ties against it never."""
    result = assess(rankings_of([0, 0], tied=tied), targets_of([[0, 1], [0, 1]]), 100, Settings((20,)))
    assert result.ties_decide is alarm
    assert result.tie_spread == (1.0 if alarm else 0.0)


def test_impossible_settings_are_refused():
    for wrong in ({"cutoffs": ()}, {"cutoffs": (0,)}, {"resamples": 0}, {"seed": -1}):
        with pytest.raises(UserError, match="expected"):
            Settings(**({"cutoffs": (20,)} | wrong))
    with pytest.raises(UserError, match="at least two items that the model knows"):
        assess(rankings_of([]), targets_of([[1]]), 3, Settings((20,)))
