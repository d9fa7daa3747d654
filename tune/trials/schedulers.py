"""Which trials are stopped early: those that fall behind what others reached after as many epochs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule

from tune.settings import Rule
from tune.trials.searchers import Experience
from tune.trials.trial import METRIC

REDUCTION_FACTOR = 3
"""Of the trials that get as far as 1, 3, 9 … epochs, about one in three goes on."""
FEWEST_FOR_MEDIAN = 3
"""Trials that got as far; a median of fewer says little."""


class Median(MedianStoppingRule):  # type: ignore[misc]  # Ray is untyped
    """Ray's rule, without its way of letting other trials go first where there are too few to compare with."""

    def _on_insufficient_samples(self, tune_controller: Any, trial: Any, time: float) -> str:
        decision: str = self.CONTINUE
        return decision


@dataclass(frozen=True)
class _EarlierTrial:
    """What a rule has to know of a trial: its name."""

    trial_id: str


def scheduler(rule: Rule, n_epochs: int, experience: Sequence[Experience] = ()) -> Any:
    """A scheduler of Ray Tune; None for one that stops nothing.

    Args:
        rule: "asha": after 1, 3, 9 … epochs about one in three trials goes on; "median": a trial is stopped when its
            best is below the median of what the others had on average up to that epoch.
        n_epochs: of a trial that is not stopped.
        experience: trials of earlier rounds, against which new ones are measured.
    """
    if rule == "none":
        return None
    made: Any
    if rule == "median":
        made = Median(
            time_attr="epoch", metric=METRIC, mode="max", grace_period=1, min_samples_required=FEWEST_FOR_MEDIAN
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
    for number, trial in enumerate(experience):
        earlier = _EarlierTrial(f"earlier-{number}")
        made.on_trial_add(None, earlier)
        for epoch, value in enumerate(trial.values, start=1):
            made.on_trial_result(None, earlier, {"epoch": epoch, METRIC: value})
        made.on_trial_remove(None, earlier)
    return made
