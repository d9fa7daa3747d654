"""What a search costs beside training and validation."""

from dataclasses import replace

import pytest

from gru4rec.config.train_config import TrainConfig
from tests.tune.outcome.test_report import trial_of
from tune.cluster.cluster import Cluster, Node, TrialResources, count_concurrent
from tune.outcome.overhead import Overhead, measure_overhead


def ran(number, seconds, until, status="finished"):
    """A trial that has worked for some seconds and last reported at a time."""
    trial = trial_of(number, TrainConfig(n_epochs=3), lambda _: 0.1)
    return replace(trial, seconds=seconds, status=status, metrics={"timestamp": until})


def test_time_that_no_trial_worked_in_is_overhead_as_long_as_there_are_trials():
    # two places from 100 to 120, one from then to 130 (one trial is left), and one until all is over at 132
    spent = measure_overhead([], [ran(1, 17, 120), ran(2, 13, 115), ran(3, 9, 130)], began=100, ended=132, n_places=2)
    assert spent.available == 2 * 20 + 10 + 2
    assert spent.worked == 17 + 13 + 9
    assert spent.share == pytest.approx(1 - 39 / 52)


def test_what_was_done_before_an_interruption_does_not_count_again():
    before = [ran(1, 50, 90), ran(2, 20, 95, "unfinished")]
    after = [ran(1, 50, 90), ran(2, 28, 110), ran(3, 5, 110, "unfinished")]
    spent = measure_overhead(before, after, began=100, ended=110, n_places=2)
    assert (spent.worked, spent.available) == (13, 20)


def test_parts_of_a_search_add_up():
    total = Overhead(10, 20, 15) + Overhead(10, 10, 6)
    assert (total.seconds, total.share) == (20, pytest.approx(0.3))
    assert str(total) == "trials took 20 s, 30% of it neither training nor validation"
    assert Overhead().share == 0


def test_places_are_counted_per_node():
    cluster = Cluster((Node(5, 0), Node(8, 2)), None)
    assert count_concurrent(cluster, TrialResources(cpus=2, gpus=0)) == 2 + 4
    assert count_concurrent(cluster, TrialResources(cpus=1, gpus=0.25)) == 8
    assert count_concurrent(cluster, TrialResources(cpus=1, gpus=0.5)) == 4
