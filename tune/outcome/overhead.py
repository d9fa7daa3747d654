"""What a search costs beside training and validation: starting Ray and its processes, handing trials over, waiting.

Every place where a trial can run is there for as long as there are trials left to put on it. What of that time no trial
spent in training or validation is overhead. Time of a process that was killed is in none of the figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tune.trials.results import TrialResult


@dataclass(frozen=True)
class Overhead:
    """Where the time of a search went.

    Attributes:
        seconds: wall-clock, of the trials and what is around them.
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
        """Share of the available time, from 0 to 1, that was neither training nor validation."""
        return min(max(1 - self.worked / self.available, 0.0), 1.0) if self.available else 0.0

    def __str__(self) -> str:
        return f"trials took {self.seconds:.0f} s, {self.share:.0%} of it neither training nor validation"


def measure_overhead(
    before: Sequence[TrialResult], after: Sequence[TrialResult], *, began: float, ended: float, n_places: int
) -> Overhead:
    """Where the time of some trials went.

    Args:
        before, after: the trials of an experiment as they were when this process began, and are now.
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
    """When a trial was over: at its last report, or not yet."""
    last = float(metrics.get("timestamp", ended)) if status != "unfinished" else ended
    return min(max(last, began), ended)
