"""Running the trials of a search with Ray Tune.

A searcher suggests, a scheduler stops what falls behind, every epoch leaves a checkpoint, and a trial whose process
dies goes on from it. Ray Tune keeps the state of all this in the round's folder, from which another process goes on:
finished trials stay as they are, unfinished ones continue from their checkpoints. Where a kill, or a full disk, has cut
that state off, the round begins anew with the models of the trials that were over, which only report again.

The number of trials of an experiment cannot be raised later, so more trials are another round: a new experiment whose
searcher and scheduler have been told of the trials before.
"""

import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from ray import tune as ray_tune

from tune.cluster.cluster import TrialResources
from tune.cluster.storage import forget, is_resumable, storage_errors
from tune.settings import Rule, Search
from tune.space.search_space import SearchSpace
from tune.studies.progress import SearchView
from tune.trials.checkpoints import CheckpointSweeper
from tune.trials.finished import FINISHED_FOLDER, FinishedTrials, read_last_reports
from tune.trials.schedulers import scheduler
from tune.trials.searchers import NUMBER, CheckedSearchGenerator, DistinctSuggestions, Experience
from tune.trials.trial import METRIC, TrialData, run_trial, serialize_model

Ending = Literal["complete", "interrupted", "out of time"]

ATTEMPTS_AFTER_FAILURE = 3


class Runnable(Protocol):
    """Trials that can be run."""

    @property
    def n_trials(self) -> int:
        """How many."""

    @property
    def n_total(self) -> int:
        """How many with those of earlier rounds."""

    @property
    def n_epochs(self) -> int:
        """Of a trial that is not stopped early."""

    def searcher(self, over: Sequence[Mapping[str, Any]]) -> Any:
        """What gives Ray the trials' configurations: the models that were over before are to be among them."""

    def scheduler(self) -> Any:
        """What stops trials early; None for nothing."""


@dataclass(frozen=True)
class Study:
    """A round of a search, its trials suggested one after the other.

    Attributes:
        space: what they may try.
        first_points: parameters of the space to begin with.
        n_trials: how many, without those of earlier rounds.
        n_epochs: of a trial that is not stopped early.
        seed: of the search.
        experience: the trials of earlier rounds.
        search: "optuna" learns from the trials so far, "random" does not.
        rule: which trials are stopped early.
    """

    space: SearchSpace
    first_points: list[dict[str, Any]]
    n_trials: int
    n_epochs: int
    seed: int
    experience: Sequence[Experience] = ()
    search: Search = "optuna"
    rule: Rule = "asha"

    @property
    def n_total(self) -> int:
        """Trials of this round and the earlier ones."""
        return self.n_trials + len(self.experience)

    def searcher(self, over: Sequence[Mapping[str, Any]]) -> Any:
        """Suggestions, told of the earlier trials; the models that were over before come first."""
        points = [point for point in map(self.space.parameters, over) if point is not None]
        return DistinctSuggestions(
            self.space,
            metric=METRIC,
            first_points=points + [point for point in self.first_points if point not in points],
            seed=self.seed + len(points),  # or random choices begin with the models that are over, again and again
            experience=self.experience,
            search=self.search,
        )

    def scheduler(self) -> Any:
        """The rule, told how the earlier trials went."""
        return scheduler(self.rule, self.n_epochs, self.experience)


def run_study(
    study: Runnable,
    data: TrialData,
    resources: TrialResources,
    location: str | Path,
    time_budget: float | None = None,
    n_places: int = 1,
) -> Ending:
    """Run the trials, or go on with them; what came out is at the location.

    Args:
        study: what to run; a study that goes on has to be what it was begun as.
        data: what the trials read; put into the object store once.
        resources: of each trial.
        location: of the experiment, an absolute path or a URI.
        time_budget: seconds after which the trials are interrupted; None for no limit.
        n_places: trials that can run at the same time, so that as many processes are started together. Ray's default
            is to wait for each to be there before it asks for the next.

    Returns:
        How it ended: after an interruption, or when its time was up, another call goes on.

    Raises:
        UserError: something could not be written to the location.
    """
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(max(1, min(n_places, study.n_trials)))
    with storage_errors(location):
        over = read_last_reports(location)
        trainable = ray_tune.with_resources(
            ray_tune.with_parameters(
                run_trial,
                data=data,
                place=resources.place,
                over={serialize_model(model): report for model, report in over},
            ),
            {"cpu": resources.cpus, "gpu": resources.gpus, "memory": resources.memory},
        )
        goes_on = is_resumable(location)
        if not goes_on:
            forget(location, but=FINISHED_FOLDER)
        tuner = _new_tuner(study, trainable, str(location), [model for model, _ in over])
        if goes_on:  # from the file that the new tuner has just written, for Ray's copies of it may be cut off, too
            tuner = ray_tune.Tuner.restore(str(location), trainable=trainable, resume_errored=True)
        return _fit(tuner, time_budget)


def _new_tuner(study: Runnable, trainable: Any, location: str, over: Sequence[Mapping[str, Any]]) -> Any:
    storage, _, name = location.rpartition("/")
    return ray_tune.Tuner(
        trainable,
        tune_config=ray_tune.TuneConfig(
            num_samples=study.n_trials,
            reuse_actors=True,
            search_alg=CheckedSearchGenerator(study.searcher(over)),
            scheduler=study.scheduler(),
            trial_dirname_creator=_trial_folder,
        ),
        run_config=ray_tune.RunConfig(
            name=name,
            storage_path=storage,
            verbose=0,
            callbacks=[
                SearchView(study.n_total, study.n_epochs, study.n_total - study.n_trials),
                FinishedTrials(),
                CheckpointSweeper(),
            ],
            failure_config=ray_tune.FailureConfig(max_failures=ATTEMPTS_AFTER_FAILURE),
        ),
    )


def _fit(tuner: Any, time_budget: float | None) -> Ending:
    """Run a tuner.

    Ray catches the first Ctrl-C (and SIGUSR1, which ends a search whose time is up in the same orderly way), saves its
    state and returns as if nothing were wrong, having put the handler of before back. Without a signal it leaves its
    own handler in place, where it would swallow the next Ctrl-C.
    """
    expired = threading.Event()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)}
    signal.signal(signal.SIGUSR1, lambda *_: None)  # may come before Ray listens
    try:
        with _alarm(time_budget, expired):
            tuner.fit()
        if expired.is_set():
            return "out of time"
        return "complete" if signal.getsignal(signal.SIGINT) is not handlers[signal.SIGINT] else "interrupted"
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _alarm(seconds: float | None, expired: threading.Event) -> Iterator[None]:
    """Send SIGUSR1 to this process when the time is up, until the block ends."""
    over = threading.Event()

    def wait() -> None:
        if seconds is None or over.wait(seconds):
            return
        expired.set()
        while not over.is_set():
            os.kill(os.getpid(), signal.SIGUSR1)
            over.wait(1.0)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _trial_folder(trial: Any) -> str:
    return f"trial-{trial.config[NUMBER]:04d}-{trial.trial_id}"
