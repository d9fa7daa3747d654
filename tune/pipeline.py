"""A search from its data to the exported model.

    prepare → run → choose → train the winner → report

Every stage keeps its result in the search's folder, and is skipped where the result is there. So the same call resumes
a search that was interrupted anywhere, and extends one that is to have more trials.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gru4rec.commands.terminal import print_status, use_threads
from gru4rec.config.files import parse_config
from gru4rec.config.train_config import TrainConfig, merge, to_mapping
from gru4rec.model.device import free_memory
from gru4rec.training.plugins import import_plugins
from gru4rec.training.trainer import Diverged
from inference.shared.errors import UserError
from tune.cluster.cluster import Cluster, TrialResources, check_gpus, connect, count_concurrent, trial_resources
from tune.cluster.memory_fit import forecast_largest, plan_resources
from tune.cluster.node_check import check_nodes, place_marker
from tune.cluster.storage import new_location
from tune.outcome import folder
from tune.outcome.leaderboard import write_results
from tune.outcome.overhead import measure_overhead
from tune.outcome.report import write_report
from tune.outcome.winner import make_model
from tune.settings import SearchSettings
from tune.space.builder import build_space
from tune.space.search_space import SearchSpace
from tune.studies.finals import Finalist, Finals
from tune.studies.grid import average_points, list_grid_models
from tune.studies.study import Ending, Study, create_study, fixed_study, run_study
from tune.trials.data import SearchData, read_search_data
from tune.trials.recovery import newest_state
from tune.trials.results import TrialResult, read_trials, winner, winning_config


@dataclass(frozen=True)
class Outcome:
    """How a search ended.

    Attributes:
        ending: whether all trials and finals were run.
        state: content of search.json.
        trials: their results, by number.
        finalists: the best with other seeds, or the points of a grid, the best first; empty if there are none, or if
            some runs are missing.
        test: figures of the final model on the test log; empty without one, or after an interruption.
    """

    ending: Ending
    state: folder.SearchState
    trials: Sequence[TrialResult]
    finalists: Sequence[Finalist]
    test: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> TrialResult:
        """The winner.

        Raises:
            UserError: no trial finished an epoch.
        """
        if self.finalists and self.finalists[0].mrr > 0:
            return self.finalists[0].as_winner
        return winner(self.trials)


@dataclass
class Search:
    """What the stages share.

    Attributes:
        settings: of the user.
        space: of the models.
        n_trials: planned, those of earlier calls included.
        data: that the search reads.
        state: content of search.json.
    """

    settings: SearchSettings
    space: SearchSpace
    n_trials: int
    data: SearchData
    state: folder.SearchState

    def update(self, **changes: Any) -> None:
        """Change the state, on disk too."""
        self.state = replace(self.state, **changes)
        folder.write_state(self.settings.out, self.state)

    def location(self, experiment: str) -> str:
        """Where Ray saves an experiment: the trials of a round, or the runs of finals."""
        return f"{self.state.storage or (self.settings.out / folder.TRIALS_FOLDER).absolute()}/{experiment}"

    def trials(self, n_rounds: int | None = None) -> list[TrialResult]:
        """The trials of the first rounds, or of all.

        Raises:
            UserError: those of a complete round are gone (a round whose space had no more models has none).
        """
        trials: list[TrialResult] = []
        for number, part in enumerate(self.state.rounds[:n_rounds], start=1):
            location = self.location(folder.round_name(number))
            found = read_trials(location)
            if part.complete and not found and newest_state(location) is None:
                raise UserError(
                    f"{location}: expected finished trials, found none; put them back or choose another --out"
                )
            trials += found
        return trials

    def finals(self) -> Finals:
        """The finals of the settings, those of earlier calls included; empty without --finalists."""
        known = [run for name in self.state.finals for run in read_trials(self.location(name))]
        return Finals(self.trials(), self.settings.finalists, self.settings.n_repeats, known)


def run_search(settings: SearchSettings) -> Outcome:
    """Run a search, resume it, or extend it.

    Raises:
        UserError: the settings or the input are wrong, the folder holds another search, or no trial finished an epoch.
    """
    space = read_settings(settings)
    with folder.lock_folder(settings.out):
        search = prepare(settings, space)
        ending = run(search)
        outcome = choose(search, ending)
        if ending == "interrupted":
            report(search, outcome)
            return outcome
        config, test = train_winner(search, outcome)
        outcome = replace(outcome, test=test)
        report(search, outcome, config)
        return outcome


def read_settings(settings: SearchSettings) -> SearchSpace:
    """Stage 0: what can be refused before anything is read or written; gives the search space."""
    use_threads(settings.threads)
    values = merge(parse_config(settings.space) if settings.space else {}, settings.space_values)
    import_plugins(settings.plugins)
    space = build_space(
        values, n_epochs=settings.epochs, seed=settings.seed, plugins=settings.plugins, grid=settings.grid_keys
    )
    check_gpus(settings.gpus_per_trial, settings.address)
    return space


def prepare(settings: SearchSettings, space: SearchSpace) -> Search:
    """Stage 1: read the data, and the state of the search in the folder, which has to be the same search."""
    state = folder.read_state(settings.out)
    if state is not None and not settings.resume:
        raise UserError(f"{settings.out} holds a search already; resume it (--resume) or choose another folder")
    data = read_search_data(settings.train, settings.valid, settings.test, settings.columns)
    grid = settings.grid_keys
    method: dict[str, Any] = {"search": settings.algorithm} if grid is None else {"grid": sorted(grid)}
    identity = folder.Identity(data.sha256, space.as_plain(), {**method, "scheduler": settings.rule})
    n_trials = (settings.trials or 20) if grid is None else len(list_grid_models(space, settings.n_repeats))
    if state is None:
        state = folder.SearchState(identity, storage=new_location(settings.storage) if settings.storage else "")
    else:
        folder.check_same(settings.out, state, identity, settings.storage)
        if n_trials < state.n_trials:
            raise UserError(f"the search in {settings.out} has {state.n_trials} trials; give that many, or more")
    train = data.trial.train
    print_status(
        f"{settings.train}: {train.sessions.n_clicks:,} clicks, {train.sessions.n_sessions:,} sessions, "
        f"{len(train.vocabulary):,} items to train on; {data.trial.valid.n_pairs:,} events to validate"
    )
    return Search(settings, space, n_trials, data, state)


def run(search: Search) -> Ending:
    """Stage 2: run the trials and finals that are missing."""
    settings, added = search.settings, search.n_trials - search.state.n_trials
    rounds = [*search.state.rounds, *([folder.Round(added)] if added else [])]
    if not added and search.state.trials_complete and not search.finals().missing:
        return "complete"
    began = time.time()
    with connect(settings.address, search.data.n_bytes) as cluster:
        deadline = None if settings.time_limit is None else time.monotonic() + settings.time_limit
        resources = _resources(search, cluster)
        with place_marker(search.state.storage or str(settings.out.absolute())) as (marker, token):
            if cluster.address or settings.plugins:
                check_nodes(marker, token, settings.plugins)
        search.update(rounds=tuple(rounds), threads=resources.cpus)
        print_status(
            f"{search.n_trials} trials of up to {settings.epochs} epochs, each on {resources.cpus} CPU"
            + (f" and {resources.gpus:g} GPU" if resources.gpus else "")
        )
        n_places = count_concurrent(cluster, resources)

        def run_one(study: Study, experiment: str) -> Ending:
            nonlocal began
            location = search.location(experiment)
            before = read_trials(location)
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            ending = run_study(study, search.data.trial, resources, location, left, n_places)
            after, ended = read_trials(location), time.time()
            spent = measure_overhead(before, after, began=began, ended=ended, n_places=n_places)
            search.update(effort=search.state.effort + spent)
            began = ended
            return ending

        for number, part in enumerate(rounds, start=1):
            if part.complete:
                continue
            study = create_study(settings, search.space, part.n_trials, search.trials(number - 1))
            ending = run_one(study, folder.round_name(number))
            if ending != "complete":
                return ending
            rounds[number - 1] = replace(part, complete=True)
            search.update(rounds=tuple(rounds))
            not_run = part.n_trials - len(read_trials(search.location(folder.round_name(number))))
            if not_run:
                print_status(f"the search space holds no more models: {not_run} of {part.n_trials} trials were not run")
        finals = search.finals()
        missing = finals.missing
        if missing:
            all_runs = len(finals.finalists) * finals.repeats
            left = "" if len(missing) == all_runs else f"; {len(missing)} of these runs are missing"
            print_status(f"the best {len(finals.finalists)} once more, each with {finals.repeats} other seeds{left}")
            ending = run_one(fixed_study([*map(to_mapping, missing)], settings.epochs), finals.name)
            if ending != "complete":
                return ending
            search.update(finals=(*search.state.finals, finals.name))
    return "complete"


def _resources(search: Search, cluster: Cluster) -> TrialResources:
    """What each trial gets."""
    settings = search.settings
    limits: dict[str, Any] = {"gpus": settings.gpus_per_trial, "cpus": settings.cpus_per_trial}
    on_gpu_here = cluster.address is None and trial_resources(cluster, **limits, n_trials=1).gpus > 0
    expected = forecast_largest(search.space, search.data.trial.train, "cuda" if on_gpu_here else "cpu")
    free_gpu = free_memory(expected.device) if on_gpu_here else None
    return plan_resources(cluster, expected, **limits, n_trials=search.n_trials, free_gpu=free_gpu)


def choose(search: Search, ending: Ending) -> Outcome:
    """Stage 3: read what the trials found, and write it as results.parquet and results.csv."""
    trials = search.trials()
    if search.settings.grid is None:
        finals = search.finals()
        finalists = [] if finals.missing else finals.results()
    else:
        finalists = average_points(trials) if search.state.trials_complete else []
    if trials:
        write_results(search.settings.out, trials, finalists, search.data.sha256)
    return Outcome(ending, search.state, trials, finalists)


def train_winner(search: Search, outcome: Outcome) -> tuple[TrainConfig, Mapping[str, Any]]:
    """Stage 4: best.toml, model/ and model.onnx; gives the model's configuration and its figures on the test log."""
    settings, state, best = search.settings, search.state, outcome.best
    config = winning_config(best, refit=settings.refit)
    made = {
        "trial": best.number,
        "best_epoch": best.best_epoch,
        "validation": [best.mrr, best.recall],
        "refit": settings.refit,
        "test_sha256": search.data.test_sha256,
    }
    is_there = all((settings.out / name).exists() for name in folder.WINNER_FILES)
    if is_there and state.outcome.get("made") == made:
        return config, state.outcome["test"]
    try:
        figures = make_model(settings, search.data, best, config, state.threads)
    except Diverged as error:
        report(search, outcome)
        raise UserError(
            f"the best model, trained again on training and validation sessions together, diverged ({error}); "
            "give --no-refit to keep it as it was validated"
        ) from None
    search.update(outcome={"made": made, **figures})
    return config, figures["test"]


def report(search: Search, outcome: Outcome, config: TrainConfig | None = None) -> None:
    """Stage 5: report.html and plots/; without the configuration of a final model, of the trials alone."""
    if outcome.trials:
        effort = search.state.effort
        write_report(search.settings, search.space, outcome.trials, outcome.finalists, config, outcome.test, effort)
