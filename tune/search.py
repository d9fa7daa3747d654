"""The search from the command line: from a click log to the best model, exported.

    flags → space → data → trials on Ray → results → the winner, trained again → evaluation on --test → model.onnx

`python -m tune.search --help` lists the flags. Only this module and `tune.progress` print. Exit codes: 0 done; 2 the
arguments or the input are wrong; 3 some trials failed (one that diverged is a result, not a failure); 130 interrupted.
"""

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

try:
    from cyclopts import App, Parameter
    from filelock import FileLock, Timeout

    from gru4rec.command_line import ProgressLines, run_app
    from gru4rec.config import TrainConfig, to_mapping, to_toml
    from gru4rec.events import Columns
    from inference.atomic import written_file
    from inference.errors import UserError
    from tune.flags import SpaceFlags, narrowed
except ImportError as missing:  # the base install only scores
    if missing.name not in ("cyclopts", "filelock", "tomli_w", "polars", "torch"):
        raise
    sys.stderr.write("error: the search needs its packages: pip install 'gru4rec[tune]'\n")
    raise SystemExit(2) from None

HELP = """Search for the best GRU4Rec model for a click log.

Any part of the search space can be narrowed: --n-sample 512 (fixed), --loss bpr-max,cross-entropy (some),
--learning-rate 0.02..0.1 (a range), --learning-rate 1e-3..1e-1:log (by magnitude), --layers 64..256:64 (in steps).

For example:

    python -m tune.search --train clicks.tsv --out search

    python -m tune.search --train train.parquet --valid valid.parquet --test test.parquet --out search --trials 50

    python -m tune.search --train clicks.tsv --out search --loss bpr-max --layers 100,200 --epochs 5
"""

app = App(name="python -m tune.search", help=HELP, version_flags=[])

LOCK_FILE = ".lock"
TRIALS_FOLDER = "trials"
MODEL_FOLDER = "model"
MODEL_FILE = "model.onnx"
BEST_FILE = "best.toml"
WIDTH_OF_FILES = 160
"""Columns of the leaderboard where there is no terminal to ask."""


@dataclass(frozen=True)
class Request:
    """What the user asks for; see `search` for the fields."""

    train: Path
    valid: Path | None
    test: Path | None
    out: Path
    columns: Columns
    n_trials: int
    n_epochs: int
    seed: int
    address: str | None
    gpus_per_trial: str
    cpus_per_trial: int | None
    refit: bool
    seeds: bool
    plugins: tuple[str, ...]
    threads: int | None
    narrowed: dict[str, Any]


NO_FLAGS = SpaceFlags()
Flags = Annotated[SpaceFlags, Parameter(name="*", group="Search space")]  # type: ignore[valid-type]  # made at run time


@app.default
def search(
    *,
    train: Path,
    out: Path,
    valid: Path | None = None,
    test: Path | None = None,
    trials: int = 20,
    epochs: int = 10,
    seed: int = 42,
    address: str | None = None,
    gpus_per_trial: str = "auto",
    cpus_per_trial: int | None = None,
    refit: bool = True,
    seeds: bool = True,
    plugin: Annotated[list[str] | None, Parameter(negative=())] = None,
    threads: int | None = None,
    session_column: str = "SessionId",
    item_column: str = "ItemId",
    time_column: str = "Time",
    flags: Flags = NO_FLAGS,
) -> int:
    """Search, train the winner again, export it.

    Args:
        train: click log (TSV, CSV, parquet) or prepared folder
        out: folder for the results
        valid: click log to validate on; without it, the last tenth of the training sessions
        test: click log on which the final model is evaluated, once
        trials: models to try
        epochs: passes over the training sessions, for a trial that is not stopped early
        seed: of the search and of every trial
        address: of a Ray cluster; without it, trials run on this machine (or on the cluster whose job this is)
        gpus_per_trial: auto (one where there are any), 0, a share such as 0.25, or a number
        cpus_per_trial: processors, and so threads, of a trial [default: an even share]
        refit: train the winner again on training and validation sessions; otherwise it is kept as it was
        seeds: try the published best parameters first, as half of the trials at most
        plugin: module that registers losses or samplers
        threads: CPU threads of the final training and evaluation [default: as many as a trial has]
        session_column: name of the column with the session ids
        item_column: name of the column with the item ids
        time_column: name of the column with the times
    """
    for name, value in (("trials", trials), ("epochs", epochs), ("threads", 1 if threads is None else threads)):
        if value < 1:
            raise UserError(f"{name}: expected at least 1, got {value}")
    request = Request(
        train=train,
        valid=valid,
        test=test,
        out=out,
        columns=Columns(session_column, item_column, time_column),
        n_trials=trials,
        n_epochs=epochs,
        seed=seed,
        address=address,
        gpus_per_trial=gpus_per_trial,
        cpus_per_trial=cpus_per_trial,
        refit=refit,
        seeds=seeds,
        plugins=tuple(plugin or ()),
        threads=threads,
        narrowed=narrowed(flags),
    )
    return run_search(request)


def run_search(request: Request) -> int:
    """Do what was asked for; gives the exit code.

    Raises:
        UserError: the arguments or the input are wrong.
    """
    import torch

    from gru4rec.trainer import import_plugins
    from tune.cluster import check_gpus
    from tune.data import read_search_data
    from tune.narrowing import search_space
    from tune.results import read_trials, write_results

    basics = TrainConfig(n_epochs=request.n_epochs, seed=request.seed, plugins=request.plugins)
    import_plugins(basics)
    space = search_space(request.narrowed, n_epochs=request.n_epochs, seed=request.seed, plugins=request.plugins)
    check_gpus(request.gpus_per_trial, request.address)
    with in_use(request.out):
        if (request.out / TRIALS_FOLDER).exists():
            raise UserError(f"{request.out} holds a search already; choose another folder")
        data = read_search_data(request.train, request.valid, request.test, request.columns)
        sessions = data.trial.train.sessions
        say(
            f"{request.train}: {sessions.n_clicks:,} clicks, {sessions.n_sessions:,} sessions, "
            f"{len(data.trial.train.vocabulary):,} items to train on; {data.trial.valid.n_pairs:,} events to validate"
        )
        resources, completed = _run_trials(request, space, data)
        trials = read_trials(request.out / TRIALS_FOLDER / "round-1")
        if trials:
            write_results(request.out, trials, data.sha256)
        if not completed:
            say("interrupted; the results so far are in " + str(request.out / "results.csv"))
            return 130
        torch.set_num_threads(request.threads or resources.cpus)
        _finish(request, data, trials)
        return 3 if any(trial.status == "failed" for trial in trials) else 0


def _run_trials(request: Request, space: Any, data: Any) -> tuple[Any, bool]:
    """Run the trials; gives what each of them had, and whether they ran to their end."""
    from tune.cluster import connected, trial_resources
    from tune.published import first_points
    from tune.study import Study, run_study

    with connected(request.address, data.n_bytes) as cluster:
        resources = trial_resources(
            cluster, gpus=request.gpus_per_trial, cpus=request.cpus_per_trial, n_trials=request.n_trials
        )
        points = first_points(space, (request.n_trials + 1) // 2) if request.seeds else []
        study = Study(space, points, request.n_trials, request.n_epochs, request.seed)
        folder = request.out / TRIALS_FOLDER / "round-1"
        folder.parent.mkdir()
        say(
            f"{request.n_trials} trials of up to {request.n_epochs} epochs, {len(points)} with published parameters; "
            f"each on {resources.cpus} CPU" + (f" and {resources.gpus:g} GPU" if resources.gpus else "")
        )
        return resources, run_study(study, data.trial, resources, folder)


def _finish(request: Request, data: Any, trials: Sequence[Any]) -> None:
    """The winner as best.toml, model directory and model.onnx, and what to do next."""
    from rich.console import Console

    from gru4rec.checkpoint import load_model
    from gru4rec.evaluation import evaluate
    from gru4rec.events import encode
    from gru4rec.export import export
    from tune.results import leaderboard, winner, winning_config
    from tune.winner import keep, refit

    best = winner(trials)
    config = winning_config(best)
    directory = request.out / MODEL_FOLDER
    if request.refit:
        say(f"training the best model (trial {best.number}) on training and validation sessions together")
        with ProgressLines(config.n_epochs) as progress:
            refit(data.everything, config, directory, progress)
    else:
        with best.checkpoints[best.best_epoch].as_directory() as saved:
            keep(data.trial.train, config, Path(saved), directory)
    model = load_model(directory)
    metrics = {**model.metrics, "validation": {"recall@20": best.recall, "mrr@20": best.mrr}}
    if data.test is not None:
        test = evaluate(model.network, encode(data.test, model.vocabulary).sessions)
        metrics["test"] = test.as_dict()
    export(model.network, model.vocabulary, request.out / MODEL_FILE, config=to_mapping(config), metrics=metrics)
    with written_file(request.out / BEST_FILE) as file:
        file.write_text(to_toml(config), encoding="utf-8")

    Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES).print(leaderboard(trials))
    if data.test is not None:
        print(f"test: recall@20 {test.recall[20]:.4f}, mrr@20 {test.mrr[20]:.4f} on {test.events:,} events")
    print(f"next: gru4rec-infer --model {request.out / MODEL_FILE} --session SESSIONS.tsv")


@contextmanager
def in_use(directory: Path) -> Iterator[None]:
    """Hold the folder of a search, so that no other writes into it; the lock goes with the process, however it ends.

    Raises:
        UserError: another search holds it, or it cannot be written to.
    """
    if directory.exists() and not directory.is_dir():
        raise UserError(f"expected a folder for the search, found a file at {directory}")
    is_new = not directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory / LOCK_FILE, timeout=0)
        lock.acquire()
    except Timeout:
        raise UserError(
            f"{directory} is in use by another search; wait for it to end or choose another folder"
        ) from None
    except OSError as error:
        raise UserError(f"cannot write to {directory}: {error.strerror or error}") from None
    try:
        yield
    finally:
        lock.release()
        if is_new and [path.name for path in directory.iterdir()] in ([LOCK_FILE], []):
            shutil.rmtree(directory)  # nothing came of it: the input was refused


def say(line: str) -> None:
    """Tell the user how it goes on."""
    sys.stderr.write(line + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `python -m tune.search`; gives the exit code."""
    for package in ("ray", "optuna"):
        if find_spec(package) is None:
            say(f"error: the search needs {package}: pip install 'gru4rec[tune]'")
            return 2
    return run_app(app, arguments)


if __name__ == "__main__":
    sys.exit(main())
