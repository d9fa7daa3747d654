"""Running the trials of a search with Ray Tune.

Optuna suggests, ASHA stops what falls behind, every epoch leaves a checkpoint, and a trial whose process dies goes on
from it. Ray Tune keeps the state of all this in the search's folder.
"""

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune as ray_tune
from ray.tune.schedulers import ASHAScheduler

from tune.cluster import TrialResources
from tune.progress import SearchView
from tune.space import SearchSpace
from tune.suggestions import NUMBER, DistinctSuggestions
from tune.trial import EPOCH_METRIC, METRIC, TrialData, run_trial

ATTEMPTS_AFTER_FAILURE = 3
REDUCTION_FACTOR = 3
"""Of the trials that get as far as 1, 3, 9 … epochs, about one in three goes on."""


@dataclass(frozen=True)
class Study:
    """The trials to run.

    Attributes:
        space: what they may try.
        first_points: parameters of the space to begin with.
        n_trials: how many.
        n_epochs: of a trial that is not stopped early.
        seed: of the search.
    """

    space: SearchSpace
    first_points: list[dict[str, Any]]
    n_trials: int
    n_epochs: int
    seed: int


def run_study(study: Study, data: TrialData, resources: TrialResources, folder: Path) -> bool:
    """Run the trials; what came out is in the folder.

    Args:
        study: what to run.
        data: what the trials read; put into the object store once.
        resources: of each trial.
        folder: of the experiment; its parent exists.

    Returns:
        Whether they ran to their end; False after an interruption.
    """
    tuner = ray_tune.Tuner(
        _trainable(data, resources),
        tune_config=ray_tune.TuneConfig(
            num_samples=study.n_trials,
            reuse_actors=True,
            search_alg=DistinctSuggestions(
                study.space, metric=METRIC, first_points=study.first_points, seed=study.seed
            ),
            scheduler=ASHAScheduler(
                time_attr="epoch",
                metric=METRIC,
                mode="max",
                max_t=study.n_epochs,
                grace_period=1,
                reduction_factor=REDUCTION_FACTOR,
            ),
            trial_dirname_creator=_trial_folder,
        ),
        run_config=ray_tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent.absolute()),
            verbose=0,
            callbacks=[SearchView(study.n_trials, study.n_epochs)],
            failure_config=ray_tune.FailureConfig(max_failures=ATTEMPTS_AFTER_FAILURE),
            checkpoint_config=ray_tune.CheckpointConfig(
                num_to_keep=1, checkpoint_score_attribute=EPOCH_METRIC, checkpoint_score_order="max"
            ),
        ),
    )
    return _fit(tuner)


def _trainable(data: TrialData, resources: TrialResources) -> Any:
    return ray_tune.with_resources(
        ray_tune.with_parameters(run_trial, data=data, place=resources.place),
        {"cpu": resources.cpus, "gpu": resources.gpus},
    )


def _fit(tuner: Any) -> bool:
    """Run a tuner; False after Ctrl-C.

    Ray catches the first Ctrl-C, saves its state and returns as if nothing were wrong, having put the handler of before
    back. Without one it leaves its own handler in place, where it would swallow the next.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)}
    try:
        tuner.fit()
        return signal.getsignal(signal.SIGINT) is not handlers[signal.SIGINT]
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _trial_folder(trial: Any) -> str:
    return f"trial-{trial.config[NUMBER]:04d}-{trial.trial_id}"
