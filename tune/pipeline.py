"""A search from its data to the exported model.

    space → data → trials on Ray → results → the winner, trained again → evaluation on the test log → model.onnx

Every stage leaves its result in the search's folder, and a stage whose result is there is not run again; so a search
that was interrupted anywhere, or that is to have more trials, goes on by the same call."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from gru4rec.commands.terminal import ProgressLines, say
from gru4rec.config.files import to_toml
from gru4rec.config.train_config import TrainConfig, to_mapping
from gru4rec.data.events import encode
from gru4rec.evaluation.evaluator import evaluate
from gru4rec.model.device import available
from gru4rec.onnx_export.exporter import export
from gru4rec.training.checkpoint import load_model
from gru4rec.training.plugins import import_plugins
from gru4rec.training.run import data_digest
from gru4rec.training.trainer import Diverged
from inference.shared.atomic import atomic_file
from inference.shared.errors import UserError
from tune.cluster.cluster import Cluster, TrialResources, check_gpus, connect, count_concurrent, trial_resources
from tune.cluster.memory_fit import forecast_largest, plan_resources
from tune.cluster.node_check import check_nodes, place_marker
from tune.cluster.storage import has_experiment, new_location
from tune.outcome.folder import (
    BEST_FILE,
    MODEL_FILE,
    MODEL_FOLDER,
    Identity,
    Round,
    SearchFolder,
    SearchState,
    lock_folder,
    round_name,
)
from tune.outcome.leaderboard import write_results
from tune.outcome.overhead import Overhead, measure_overhead
from tune.outcome.report import write_report
from tune.outcome.winner import refit, restore_trainer, save_model
from tune.settings import Request
from tune.space.builder import search_space
from tune.space.published import first_points
from tune.space.search_space import SearchSpace
from tune.studies.finals import Finalist, Finals
from tune.studies.grid import Grid, by_point, runs
from tune.studies.study import Ending, Runnable, Study, run_study
from tune.trials.data import SearchData, read_search_data
from tune.trials.results import TrialResult, read_trials, winner, winning_config
from tune.trials.searchers import Experience
from tune.trials.trial import EPOCH_METRIC, METRIC


@dataclass(frozen=True)
class Outcome:
    """How a search ended.

    Attributes:
        ending: whether all trials and finals were run.
        n_trials: that there were to be.
        trials: what came of them.
        finalists: what came of the best with other seeds, the winner first; empty without finals.
        only_finals_left: whether all trials were run.
        test: figures of the final model on the test log; empty without one, or after an interruption.
        effort: where the time of the trials went.
    """

    ending: Ending
    n_trials: int
    trials: Sequence[TrialResult]
    finalists: Sequence[Finalist]
    only_finals_left: bool
    test: dict[str, Any]
    effort: Overhead

    @property
    def n_over(self) -> int:
        """Trials that will not go on."""
        return sum(trial.status != "unfinished" for trial in self.trials)


def run_search(request: Request) -> Outcome:
    """Do what was asked for.

    Raises:
        UserError: the arguments or the input are wrong, the folder holds another search, or no trial got anywhere.
    """
    import_plugins(TrainConfig(plugins=request.plugins))
    space = search_space(
        request.narrowed, n_epochs=request.n_epochs, seed=request.seed, plugins=request.plugins, grid=request.grid
    )
    if request.grid is not None:
        request = replace(request, n_trials=len(runs(space, request.repeats)))
    check_gpus(request.gpus_per_trial, request.address)
    with lock_folder(request.out) as folder:
        state = folder.read()
        if state is not None and not request.resume:
            raise UserError(f"{request.out} holds a search already; go on with it (--resume) or choose another folder")
        data = read_search_data(request.train, request.valid, request.test, request.columns)
        identity = Identity.of(space, _manner(request), data.sha256)
        if state is not None:
            folder.check_same(state.identity, identity)
            folder.check_same_storage(state, request.storage)
            if request.n_trials < state.n_trials:
                raise UserError(f"the search in {request.out} has {state.n_trials} trials; give that many, or more")
        sessions = data.trial.train.sessions
        say(
            f"{request.train}: {sessions.n_clicks:,} clicks, {sessions.n_sessions:,} sessions, "
            f"{len(data.trial.train.vocabulary):,} items to train on; {data.trial.valid.n_pairs:,} events to validate"
        )
        if state is None:
            state = SearchState(identity, storage=new_location(request.storage) if request.storage else "")
        state, ending = _run(request, folder, state, space, data)
        trials = _trials(folder, state)
        finalists = _finalists(request, folder, state, trials)
        if trials:
            write_results(request.out, trials, finalists, data.sha256)
        test: dict[str, Any] = {}
        made = None
        if ending != "interrupted":
            best = finalists[0].as_winner if finalists and finalists[0].mrr > 0 else winner(trials)
            try:
                made, test = _make_model(request, folder, state, data, best)
            except Diverged as error:
                write_report(request, space, trials, finalists, None, {}, state.effort)
                raise UserError(
                    f"the best model, trained again on training and validation sessions together, diverged ({error}); "
                    "give --no-refit to keep it as it was validated"
                ) from None
        if trials:
            write_report(request, space, trials, finalists, made, test, state.effort)
        only_finals_left = all(part.complete for part in state.rounds)
        return Outcome(ending, state.n_trials, trials, finalists, only_finals_left, test, state.effort)


def _run(
    request: Request, folder: SearchFolder, state: SearchState, space: SearchSpace, data: SearchData
) -> tuple[SearchState, Ending]:
    """Run what is left of the trials and the finals; gives the state after it, and how it ended."""
    added = request.n_trials - state.n_trials
    rounds = (*state.rounds, Round(added)) if added else state.rounds
    if all(part.complete for part in rounds) and not _finals_to_run(request, folder, state):
        return state, "complete"
    began = time.time()
    with connect(request.address, data.n_bytes) as cluster:
        until = None if request.time_budget is None else time.monotonic() + request.time_budget
        resources = _resources(request, cluster, space, data)
        n_places = count_concurrent(cluster, resources)
        with place_marker(state.storage or str(request.out.absolute())) as (marker, token):
            if cluster.address or request.plugins:
                check_nodes(marker, token, request.plugins)
        state = replace(state, rounds=rounds, threads=resources.cpus)
        folder.write(state)

        def run(study: Runnable, experiment: str, state: SearchState) -> tuple[SearchState, Ending]:
            nonlocal began
            location = folder.location(state, experiment)
            before = read_trials(location)
            left = None if until is None else max(until - time.monotonic(), 0.0)
            ending = run_study(study, data.trial, resources, location, left, n_places)
            after, ended = read_trials(location), time.time()
            spent = measure_overhead(before, after, began=began, ended=ended, n_places=n_places)
            state, began = replace(state, effort=state.effort + spent), ended
            folder.write(state)
            return state, ending

        say(
            f"{state.n_trials} trials of up to {request.n_epochs} epochs, each on {resources.cpus} CPU"
            + (f" and {resources.gpus:g} GPU" if resources.gpus else "")
        )
        for number, part in enumerate(rounds, start=1):
            if part.complete:
                continue
            study = _study(request, space, part.n_trials, _trials(folder, state, number - 1))
            state, ending = run(study, round_name(number), state)
            if ending != "complete":
                return state, ending
            state = state.with_round_complete(number)
            folder.write(state)
            not_there = part.n_trials - len(read_trials(folder.location(state, round_name(number))))
            if not_there:
                say(f"the search space holds no more models: {not_there} of {part.n_trials} trials were not run")
        finals = _finals_to_run(request, folder, state)
        if finals:
            runs_in_all = len(finals.finalists) * finals.repeats
            missing = "" if finals.n_trials == runs_in_all else f"; {finals.n_trials} of these runs are missing"
            say(f"the best {len(finals.finalists)} once more, each with {finals.repeats} other seeds{missing}")
            state, ending = run(finals, finals.name, state)
            if ending != "complete":
                return state, ending
            state = replace(state, finals=(*state.finals, finals.name))
            folder.write(state)
    return state, "complete"


def _resources(request: Request, cluster: Cluster, space: SearchSpace, data: SearchData) -> TrialResources:
    """What each trial gets; the user is told where memory limits how many run at once."""
    asked: dict[str, Any] = {"gpus": request.gpus_per_trial, "cpus": request.cpus_per_trial}
    on_gpu_here = cluster.address is None and trial_resources(cluster, **asked, n_trials=1).gpus > 0
    expected = forecast_largest(space, data.trial.train, "cuda" if on_gpu_here else "cpu")
    free_gpu = available(expected.device) if on_gpu_here else None
    plan = plan_resources(cluster, expected, **asked, n_trials=request.n_trials, free_gpu=free_gpu)
    if plan.note:
        say(plan.note)
    return plan.resources


def _finals_to_run(request: Request, folder: SearchFolder, state: SearchState) -> Finals | None:
    """The finals that are asked for and not complete."""
    if request.grid is not None or not request.finalists:
        return None
    finals = Finals.of(_trials(folder, state), request.finalists, request.repeats, _final_runs(folder, state))
    return finals if finals.missing else None


def _finalists(
    request: Request, folder: SearchFolder, state: SearchState, trials: Sequence[TrialResult]
) -> list[Finalist]:
    """What came of the finals that are asked for, or of a grid's points; empty if there are none, or not all yet."""
    if request.grid is not None:
        return by_point(trials) if all(part.complete for part in state.rounds) else []
    finals = Finals.of(trials, request.finalists, request.repeats, _final_runs(folder, state))
    return [] if finals.missing else finals.results()


def _final_runs(folder: SearchFolder, state: SearchState) -> list[TrialResult]:
    """The runs of all finals that are complete."""
    return [run for name in state.finals for run in read_trials(folder.location(state, name))]


def _manner(request: Request) -> dict[str, Any]:
    """How models are chosen and stopped, which must not change while a search goes on."""
    chosen = {"search": request.search} if request.grid is None else {"grid": sorted(request.grid)}
    return {**chosen, "scheduler": request.scheduler}


def _study(request: Request, space: SearchSpace, n_trials: int, earlier: Sequence[TrialResult]) -> Runnable:
    if request.grid is not None:
        models = runs(space, request.repeats)[len(earlier) : len(earlier) + n_trials]
        return Grid(models, len(earlier), request.n_epochs, request.scheduler)
    known = [Experience(to_mapping(trial.config), _best_so_far(trial)) for trial in earlier]
    points = first_points(space, (n_trials + 1) // 2) if request.published and not earlier else []
    return Study(
        space, points, n_trials, request.n_epochs, request.seed, known, search=request.search, rule=request.scheduler
    )


def _best_so_far(trial: TrialResult) -> list[float]:
    return list(itertools.accumulate((epoch[EPOCH_METRIC] for epoch in trial.history), max))


def _trials(folder: SearchFolder, state: SearchState, n_rounds: int | None = None) -> list[TrialResult]:
    """The trials of the first rounds, or of all.

    Raises:
        UserError: those of a round that was run to its end are gone (one whose space held no more models has none).
    """
    trials: list[TrialResult] = []
    for number, part in enumerate(state.rounds[:n_rounds], start=1):
        location = folder.location(state, round_name(number))
        found = read_trials(location)
        if part.complete and not found and not has_experiment(location):
            raise UserError(f"{location}: expected finished trials, found none; put them back or choose another --out")
        trials += found
    return trials


def _make_model(
    request: Request, folder: SearchFolder, state: SearchState, data: SearchData, best: TrialResult
) -> tuple[TrainConfig, dict[str, Any]]:
    """The winner as best.toml, model directory and model.onnx; gives its configuration and figures on the test log."""
    config = winning_config(best, refit=request.refit)
    made = {
        "trial": best.number,
        "best_epoch": best.best_epoch,
        "validation": [best.mrr, best.recall],
        "refit": request.refit,
        "test_sha256": None if data.test is None else data_digest(encode(data.test)),
    }
    there = all((request.out / name).exists() for name in (BEST_FILE, MODEL_FOLDER, MODEL_FILE))
    if there and state.outcome.get("made") == made:
        return config, dict(state.outcome["test"])
    torch.set_num_threads(request.threads or request.cpus_per_trial or state.threads)
    directory = request.out / MODEL_FOLDER
    on_cpu = request.gpus_per_trial != "auto" and float(request.gpus_per_trial) == 0
    here = config.replace(device="cpu") if on_cpu else config
    if request.refit:
        say(f"training the best model (trial {best.number}) on training and validation sessions together")
        with ProgressLines(config.n_epochs) as progress:
            refit(data.everything, here, directory, progress)
    else:
        save_model(*restore_trainer(data.trial, here, best), directory)
    model = load_model(directory)
    test: dict[str, Any] = {}
    if data.test is not None:
        test = dict(evaluate(model.network, encode(data.test, model.vocabulary).sessions).as_dict())
    validation = {METRIC: best.mrr, "recall@20": best.recall}
    metrics = {**model.metrics, "validation": validation} | ({"test": test} if test else {})
    export(model.network, model.vocabulary, request.out / MODEL_FILE, config=to_mapping(config), metrics=metrics)
    with atomic_file(request.out / BEST_FILE) as file:
        file.write_text(to_toml(config), encoding="utf-8")
    folder.write(replace(state, outcome={"made": made, "validation": validation, "test": test}))
    return config, test
