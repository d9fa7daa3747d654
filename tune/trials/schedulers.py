"""Which trials are stopped early: those that fall behind what others reached after the same number of epochs."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule

from tune.settings import Rule
from tune.trials.results import TrialResult
from tune.trials.trial import EPOCH_METRIC, METRIC

REDUCTION_FACTOR = 3
"""Of the trials that get as far as 1, 3, 9 … epochs, about one in three continues."""
FEWEST_FOR_MEDIAN = 3
"""Trials to compare with; the median of fewer says little."""


@dataclass(frozen=True)
class _EarlierTrial:
    """What a rule needs of a trial."""

    trial_id: str


def scheduler(rule: Rule, n_epochs: int, earlier: Sequence[TrialResult] = ()) -> Any:
    """A scheduler of Ray Tune; None if no trial is to be stopped.

    Args:
        rule: "asha": after 1, 3, 9 … epochs about one in three trials continues; "median": a trial is stopped when its
            best is below the median of the others' means up to that epoch.
        n_epochs: of a trial that is not stopped.
        earlier: trials of earlier rounds, with which new ones are compared.
    """
    if rule == "none":
        return None
    made: Any
    if rule == "median":
        made = MedianStoppingRule(
            time_attr="epoch",
            metric=METRIC,
            mode="max",
            grace_period=1,
            min_samples_required=FEWEST_FOR_MEDIAN,
            min_time_slice=math.inf,  # too few to compare with are no reason to pause a trial
        )
    else:
        made = ASHAScheduler(
            time_attr="epoch",
            metric=METRIC,
            mode="max",
            max_t=n_epochs,
            grace_period=1,
            reduction_factor=REDUCTION_FACTOR,
        )
    for result in earlier:
        trial = _EarlierTrial(f"earlier-{result.number}")
        made.on_trial_add(None, trial)
        best_so_far = itertools.accumulate((epoch[EPOCH_METRIC] for epoch in result.history), max)
        for epoch, value in enumerate(best_so_far, start=1):
            made.on_trial_result(None, trial, {"epoch": epoch, METRIC: value})
        made.on_trial_remove(None, trial)
    return made
