"""Running the trials of a search with Ray Tune.

A searcher suggests models, a scheduler stops what falls behind, every epoch leaves a checkpoint, and a trial whose
process dies resumes from it. Ray Tune keeps the state of all this in the round's folder, from which another process
resumes: finished trials stay as they are, unfinished ones continue from their checkpoints. Where a kill, or a full
disk, has cut that state off, the round starts again with the models of the trials that had ended, which only report
again.

The number of trials of an experiment cannot be raised later, so more trials are another round: a new experiment whose
searcher and scheduler learn of the earlier trials.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ray import tune as ray_tune

from tune.cluster.cluster import TrialResources
from tune.cluster.storage import clear
from tune.settings import Rule, SearchSettings
from tune.space.published import select_starting_points
from tune.space.search_space import SearchSpace
from tune.studies.grid import list_grid_models
from tune.studies.live_view import SearchView
from tune.trials.recovery import (
    FINISHED_FOLDER,
    CheckedSearchGenerator,
    CheckpointSweeper,
    FinishedTrials,
    is_resumable,
    read_last_reports,
    storage_errors,
)
from tune.trials.results import TrialResult
from tune.trials.schedulers import scheduler
from tune.trials.searchers import DistinctSuggestions, ModelList
from tune.trials.trial import TrialData, run_trial, trial_folder

Ending = Literal["complete", "interrupted", "out of time"]

ATTEMPTS_AFTER_FAILURE = 3


@dataclass(frozen=True)
class Study:
    """Some trials: a round of a search or of a grid, or the runs of finals.

    Attributes:
        searcher: gives a searcher of Ray Tune, which begins with the models of trials that have ended already.
        scheduler: of Ray Tune; None if no trial is to be stopped early.
        n_trials: how many, without those of earlier rounds.
        n_epochs: of a trial that is not stopped early.
        n_before: trials of earlier rounds.
    """

    searcher: Callable[[Sequence[Mapping[str, Any]]], Any]
    scheduler: Any
    n_trials: int
    n_epochs: int
    n_before: int = 0


def fixed_study(models: Sequence[dict[str, Any]], n_epochs: int, rule: Rule = "none", n_before: int = 0) -> Study:
    """Trials whose models are known beforehand; those of ended trials come in their place."""

    def searcher(_: Sequence[Mapping[str, Any]]) -> ModelList:
        return ModelList(models, first_number=n_before + 1)

    return Study(searcher, scheduler(rule, n_epochs), len(models), n_epochs, n_before)


def create_study(settings: SearchSettings, space: SearchSpace, n_trials: int, earlier: Sequence[TrialResult]) -> Study:
    """The next trials of a search or a grid.

    Args:
        settings: of the search.
        space: of its models.
        n_trials: of the round.
        earlier: the trials of earlier rounds, from which the searcher learns and with which the scheduler compares.
    """
    if settings.grid is not None:
        models = list_grid_models(space, settings.n_repeats)[len(earlier) : len(earlier) + n_trials]
        return fixed_study(models, settings.epochs, settings.rule, len(earlier))
    first = select_starting_points(space, (n_trials + 1) // 2) if settings.seeds is not False and not earlier else []

    def searcher(ended: Sequence[Mapping[str, Any]]) -> DistinctSuggestions:
        points = [point for point in map(space.parameters, ended) if point is not None]
        seed = settings.seed + len(points)  # or a random search would draw the models of ended trials first, every time
        points += [point for point in first if point not in points]
        return DistinctSuggestions(space, points, seed, earlier, settings.algorithm)

    rule = scheduler(settings.rule, settings.epochs, earlier)
    return Study(searcher, rule, n_trials, settings.epochs, len(earlier))


def run_study(
    study: Study,
    data: TrialData,
    resources: TrialResources,
    location: str | Path,
    time_budget: float | None = None,
    n_places: int = 1,
) -> Ending:
    """Run the trials, or resume them; their results are at the location.

    Args:
        study: what to run; resumed, it has to be the same as before.
        data: what the trials read; put into the object store once.
        resources: of each trial.
        location: of the experiment, an absolute path or a URI.
        time_budget: seconds after which the trials are interrupted; None for no limit.
        n_places: trials that can run at the same time, so that as many processes are started together. Ray's default
            is to start the next one only when the one before is there.

    Returns:
        How it ended; after an interruption, or when its time is up, another call resumes it.

    Raises:
        UserError: something could not be written to the location.
    """
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(max(1, min(n_places, study.n_trials)))
    with storage_errors(location):
        over = read_last_reports(location)
        trainable = ray_tune.with_resources(
            ray_tune.with_parameters(run_trial, data=data, resources=resources, over=over),
            {"cpu": resources.cpus, "gpu": resources.gpus, "memory": resources.memory},
        )
        resumes = is_resumable(location)
        if not resumes:
            clear(location, but=FINISHED_FOLDER)
        tuner = _new_tuner(study, trainable, str(location), [*map(json.loads, over)])
        if resumes:  # from the file that the new tuner has just written, for Ray's copies of it may be cut off, too
            tuner = ray_tune.Tuner.restore(str(location), trainable=trainable, resume_errored=True)
        return _fit(tuner, time_budget)


def _new_tuner(study: Study, trainable: Any, location: str, ended: Sequence[Mapping[str, Any]]) -> Any:
    storage, _, name = location.rpartition("/")
    return ray_tune.Tuner(
        trainable,
        tune_config=ray_tune.TuneConfig(
            num_samples=study.n_trials,
            reuse_actors=True,
            search_alg=CheckedSearchGenerator(study.searcher(ended)),
            scheduler=study.scheduler,
            trial_dirname_creator=trial_folder,
        ),
        run_config=ray_tune.RunConfig(
            name=name,
            storage_path=storage,
            verbose=0,
            callbacks=[
                SearchView(study.n_before + study.n_trials, study.n_epochs, study.n_before),
                FinishedTrials(location),
                CheckpointSweeper(),
            ],
            failure_config=ray_tune.FailureConfig(max_failures=ATTEMPTS_AFTER_FAILURE),
        ),
    )


def _fit(tuner: Any, time_budget: float | None) -> Ending:
    """Run a tuner.

    Ray catches the first Ctrl-C, and SIGUSR1, which ends a search whose time is up in the same way: it saves its state,
    restores the earlier handler and returns without an error. Without a signal it leaves its own handler in place,
    which would swallow the next Ctrl-C.
    """
    is_expired = False

    def expire(*_: Any) -> None:
        nonlocal is_expired
        is_expired = True
        os.kill(os.getpid(), signal.SIGUSR1)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGALRM)}
    signal.signal(signal.SIGUSR1, lambda *_: None)  # may come before Ray listens, so it comes again every second
    signal.signal(signal.SIGALRM, expire)
    timer = signal.getitimer(signal.ITIMER_REAL)
    if time_budget is not None:
        signal.setitimer(signal.ITIMER_REAL, max(time_budget, 0.001), 1.0)
    try:
        tuner.fit()
        if is_expired:
            return "out of time"
        return "complete" if signal.getsignal(signal.SIGINT) is not handlers[signal.SIGINT] else "interrupted"
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        for number, handler in handlers.items():
            signal.signal(number, handler)


sys.modules.setdefault("tune.study", sys.modules[__name__])  # where Ray's state of older searches looks for:
_trial_folder = trial_folder
