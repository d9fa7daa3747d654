"""Which checkpoints are deleted, and when."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ray.tune import Checkpoint

from tune.trials.recovery import CheckpointSweeper
from tune.trials.trial import EPOCH_METRIC, METRIC


@dataclass
class Trial:
    """What the sweeper looks at."""

    trial_id: str
    last_result: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
def leave(tmp_path):
    """Lets a trial leave the checkpoint of an epoch, and tells the sweeper; gives its folder."""

    def leave(sweeper: CheckpointSweeper, trial: Trial, epoch: int, mrr: float) -> Path:
        folder = tmp_path / trial.trial_id / f"checkpoint_{epoch:06d}"
        folder.mkdir(parents=True)
        trial.last_result = {METRIC: max(mrr, trial.last_result.get(METRIC, 0.0))}
        result = {EPOCH_METRIC: mrr, "checkpoint_dir_name": folder.name}
        sweeper.on_checkpoint(0, [trial], trial, Checkpoint.from_directory(str(folder)))
        sweeper.on_trial_result(0, [trial], trial, result)
        return folder

    return leave


def test_what_the_saved_state_goes_on_from_stays_until_a_later_state_is_saved(leave):
    sweeper, trial = CheckpointSweeper(), Trial("a")
    first = leave(sweeper, trial, 1, mrr=0.1)
    sweeper.get_state()
    second = leave(sweeper, trial, 2, mrr=0.2)
    assert first.exists()  # killed now, the search goes on from it
    sweeper.get_state()
    assert first.exists()  # the state in which there is a second one is only being written
    sweeper.get_state()
    assert not first.exists()
    assert second.exists()


def test_a_checkpoint_that_is_left_a_second_time_stays(leave):
    sweeper, trial = CheckpointSweeper(), Trial("a")
    leave(sweeper, trial, 1, mrr=0.2)
    second = leave(sweeper, trial, 2, mrr=0.1)
    sweeper.on_checkpoint(0, [trial], trial, Checkpoint.from_directory(str(second)))  # after a kill, from the first
    for _ in range(3):
        sweeper.get_state()
    assert second.exists()


def test_the_best_and_the_latest_of_a_trial_that_runs_stay(leave):
    sweeper, trial = CheckpointSweeper(), Trial("a")
    folders = [leave(sweeper, trial, epoch, mrr) for epoch, mrr in enumerate([0.1, 0.3, 0.2, 0.1])]
    for _ in range(3):
        sweeper.get_state()
    assert [folder.exists() for folder in folders] == [False, True, False, True]


def test_of_the_trials_that_are_over_only_the_best_one_keeps_any_also_in_a_process_that_goes_on(leave):
    sweeper, good, bad = CheckpointSweeper(), Trial("good"), Trial("bad")
    folders = [leave(sweeper, good, 1, mrr=0.3), leave(sweeper, bad, 1, mrr=0.2)]
    for trial in (good, bad):
        sweeper.on_trial_complete(0, [good, bad], trial)
    other = CheckpointSweeper()
    other.set_state(sweeper.get_state())
    other.get_state()
    assert all(folder.exists() for folder in folders)
    other.on_experiment_end([good, bad])
    assert [folder.exists() for folder in folders] == [True, False]
