"""What a search costs besides training and validation: starting Ray and its processes, assigning trials, waiting.

A place for a trial is available as long as there are trials left for it. The part of this time that no trial spent in
training or validation is overhead. The time of a process that was killed is not counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tune.trials.results import TrialResult


@dataclass(frozen=True)
class Overhead:
    """How the time of a search was spent.

    Attributes:
        seconds: wall-clock time of the trials and everything around them.
        available: seconds of all places together.
        worked: seconds that trials spent in training and validation.
    """

    seconds: float = 0.0
    available: float = 0.0
    worked: float = 0.0

    def __add__(self, other: "Overhead") -> "Overhead":
        return Overhead(self.seconds + other.seconds, self.available + other.available, self.worked + other.worked)

    @property
    def share(self) -> float:
        """Share of the available time that was neither training nor validation, from 0 to 1."""
        return min(max(1 - self.worked / self.available, 0.0), 1.0) if self.available else 0.0

    def __str__(self) -> str:
        return f"trials took {self.seconds:.0f} s, {self.share:.0%} of it neither training nor validation"


def measure_overhead(
    before: Sequence[TrialResult], after: Sequence[TrialResult], *, began: float, ended: float, n_places: int
) -> Overhead:
    """How the time of some trials was spent.

    Args:
        before, after: the trials of an experiment when this process began, and now.
        began, ended: seconds since the epoch.
        n_places: trials that can run at the same time.
    """
    over = {trial.trial_id for trial in before if trial.status not in ("unfinished", "failed")}
    ends = sorted(_end(trial.metrics, trial.status, began, ended) for trial in after if trial.trial_id not in over)
    available, now = 0.0, began
    for place, end in enumerate(ends):
        available += (end - now) * min(n_places, len(ends) - place)
        now = end
    available += ended - now
    worked = sum(trial.seconds for trial in after) - sum(trial.seconds for trial in before)
    return Overhead(ended - began, available, worked)


def _end(metrics: Mapping[str, Any], status: str, began: float, ended: float) -> float:
    """When a trial ended: at its last report, or not yet."""
    last = float(metrics.get("timestamp", ended)) if status != "unfinished" else ended
    return min(max(last, began), ended)
