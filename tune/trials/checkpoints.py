"""Keeping the disk from filling: of the trials that are over, only the best one's checkpoints are kept.

A checkpoint is three times the size of a model, and a search may run hundreds of trials. Those that run keep their
latest and their best checkpoint; one that is over needs none, since nothing is ever continued from it and the best
model can be trained again from its configuration, bit for bit.

When a search is interrupted, Ray calls every trial terminated. Those go on from their checkpoints later, so what counts
here is which trials were said to be complete. And when the process is killed, a search goes on from the last state
that Ray had saved, in which a trial that has ended since is still running and needs its checkpoint, and one that has
left another since goes on from the one before: so a checkpoint is deleted only when a state has been saved in which
nothing would go on from it. Ray itself deletes the one before at once, and is told to keep all.
"""

from pathlib import PurePosixPath
from typing import Any

from ray import tune as ray_tune

from tune.trials.trial import EPOCH_METRIC, METRIC


class CheckpointSweeper(ray_tune.Callback):  # type: ignore[misc]  # Ray is untyped
    """Deletes the checkpoints of trials that are over and not the best, and those that others have followed."""

    def __init__(self) -> None:
        self._kept: dict[str, list[Any]] = {}
        self._quality: dict[str, dict[str, float]] = {}  # of a trial's epochs, by the names of their checkpoints
        self._over: set[str] = set()
        self._best = ""
        self._needless_when_saved: list[tuple[str, Any]] = []

    def get_state(self) -> dict[str, Any]:
        """What goes on when the search does; asked for by Ray when it begins to save its state."""
        self._sweep()  # the state before this one has been saved by now
        self._needless_when_saved = self._needless()
        return {"kept": self._kept, "quality": self._quality, "over": self._over, "best": self._best}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take up where another process stopped."""
        self._kept, self._quality = state["kept"], state["quality"]
        self._over, self._best = state["over"], state["best"]

    def on_checkpoint(self, iteration: int, trials: list[Any], trial: Any, checkpoint: Any, **_: Any) -> None:
        """A trial left a checkpoint, or once more that of an epoch that a killed process had finished, too."""
        others = [other for other in self._kept.get(trial.trial_id, []) if other.path != checkpoint.path]
        self._kept[trial.trial_id] = [*others, checkpoint]

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """An epoch of a trial is over."""
        if "checkpoint_dir_name" in result and EPOCH_METRIC in result:
            qualities = self._quality.setdefault(trial.trial_id, {})
            qualities[result["checkpoint_dir_name"]] = result[EPOCH_METRIC]

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial is over."""
        self._over.add(trial.trial_id)
        self._best = max(trials, key=lambda trial: trial.last_result.get(METRIC, 0.0)).trial_id

    def on_experiment_end(self, trials: list[Any], **_: Any) -> None:
        """All are over, or the search was interrupted."""
        self._sweep()

    def _needless(self) -> list[tuple[str, Any]]:
        """What nothing would go on from, and no model be made of, with the trial that left it."""
        needless = []
        for trial, checkpoints in self._kept.items():
            if trial in self._over and trial != self._best:
                needless += [(trial, checkpoint) for checkpoint in checkpoints]
                continue
            quality = self._quality.get(trial, {})
            qualities = [quality.get(PurePosixPath(checkpoint.path).name, -1.0) for checkpoint in checkpoints]
            best = checkpoints[qualities.index(max(qualities))] if checkpoints else None
            needless += [(trial, checkpoint) for checkpoint in checkpoints[:-1] if checkpoint is not best]
        return needless

    def _sweep(self) -> None:
        for trial, checkpoint in self._needless_when_saved:
            _delete(checkpoint)
            self._kept[trial] = [other for other in self._kept[trial] if other.path != checkpoint.path]
        self._needless_when_saved = []


def _delete(checkpoint: Any) -> None:
    try:
        checkpoint.filesystem.delete_dir(checkpoint.path)
    except FileNotFoundError:
        return  # deleted already, by a process that was killed before it wrote that down
