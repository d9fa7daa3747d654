"""Keeping the disk from filling: of the trials that are over, only the best one's checkpoints are kept.

A checkpoint is three times the size of a model, and a search may run hundreds of trials. Those that run keep their
latest and their best checkpoint (Ray sees to that); one that is over needs none, since nothing is ever continued from
it and the best model can be trained again from its configuration, bit for bit.

When a search is interrupted, Ray calls every trial terminated. Those go on from their checkpoints later, so what counts
here is which trials were said to be complete. And when the process is killed, a search goes on from the last state
that Ray had saved, in which a trial that has ended since is still running and needs its checkpoint: so a trial's
checkpoints are deleted only when a state in which it is over has been saved.
"""

from typing import Any

from ray import tune as ray_tune

from tune.trial import METRIC


class CheckpointSweeper(ray_tune.Callback):  # type: ignore[misc]  # Ray is untyped
    """Deletes the checkpoints of trials that are over and not the best."""

    def __init__(self) -> None:
        self._kept: dict[str, list[Any]] = {}
        self._over: set[str] = set()
        self._over_when_saved: set[str] = set()
        self._best = ""

    def get_state(self) -> dict[str, Any]:
        """What goes on when the search does; asked for by Ray when it begins to save its state."""
        self._sweep(self._over_when_saved)  # the state before this one has been saved by now
        self._over_when_saved = set(self._over)
        return {"kept": self._kept, "over": self._over, "best": self._best}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take up where another process stopped."""
        self._kept, self._over, self._best = state["kept"], state["over"], state["best"]

    def on_checkpoint(self, iteration: int, trials: list[Any], trial: Any, checkpoint: Any, **_: Any) -> None:
        """A trial left a checkpoint."""
        self._kept.setdefault(trial.trial_id, []).append(checkpoint)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial is over."""
        self._over.add(trial.trial_id)
        self._best = max(trials, key=lambda trial: trial.last_result.get(METRIC, 0.0)).trial_id

    def on_experiment_end(self, trials: list[Any], **_: Any) -> None:
        """All are over, or the search was interrupted."""
        self._sweep(self._over_when_saved)

    def _sweep(self, over: set[str]) -> None:
        for trial in over - {self._best}:
            for checkpoint in self._kept.pop(trial, []):
                _delete(checkpoint)


def _delete(checkpoint: Any) -> None:
    try:
        checkpoint.filesystem.delete_dir(checkpoint.path)
    except FileNotFoundError:
        return  # Ray keeps the best and the latest only
