"""Early stopping: which trials go on, and that trials of earlier rounds count."""

import pytest

from tests.tune.studies.test_finals import run_with
from tune.trials.schedulers import scheduler

EARLIER = [run_with(number, *curve) for number, curve in enumerate(([0.2, 0.3, 0.4], [0.3, 0.4, 0.5], [0.4, 0.5, 0.6]))]


class Trial:
    """A trial, of which a rule needs no more than its name."""

    trial_id = "new"


def decisions(rule, curve, earlier=EARLIER):
    made, trial = scheduler(rule, 3, earlier), Trial()
    made.on_trial_add(None, trial)
    return [
        made.on_trial_result(None, trial, {"epoch": epoch, "mrr@20": best}) for epoch, best in enumerate(curve, start=1)
    ]


def test_the_median_rule_stops_what_is_below_the_median_of_means():
    # means of the earlier trials: .2 .3 .4 after one epoch, .25 .35 .45 after two, .3 .4 .5 after three
    assert decisions("median", [0.3, 0.35]) == ["CONTINUE", "CONTINUE"]
    assert decisions("median", [0.29]) == ["STOP"]
    assert decisions("median", [0.3, 0.34]) == ["CONTINUE", "STOP"]


def test_the_median_of_too_few_stops_nothing():
    assert decisions("median", [0.0, 0.0], EARLIER[:2]) == ["CONTINUE", "CONTINUE"]


def test_asha_stops_two_of_three_after_the_first_epoch():
    # two thirds of the way from the lowest of .2 .3 .4 to the highest lies a third of the way from .3 to .4
    assert decisions("asha", [0.33])[0] == "STOP"
    assert decisions("asha", [0.34])[0] == "CONTINUE"


@pytest.mark.parametrize("n_epochs", [1, 9])
def test_without_a_rule_there_is_no_scheduler(n_epochs):
    assert scheduler("none", n_epochs) is None
