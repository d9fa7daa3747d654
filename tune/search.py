"""The search from the command line: from a click log to the best model, exported.

`python -m tune.search --help` lists the flags; `tune.pipeline` does the work. Exit codes: 0 done; 2 the arguments or
the input are wrong; 3 some trials, or runs of finalists, failed (one that diverged is a result, not a failure); 130
interrupted, and the same command goes on.
"""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

try:
    from cyclopts import App, Parameter

    from gru4rec.commands.column_flags import ColumnFlags
    from gru4rec.commands.terminal import examples, our_version, run_app, say, use_threads
    from inference.shared.errors import UserError
    from tune.settings import Request
    from tune.space.flags import SpaceFlags, narrowed
except ImportError as missing:  # the base install only scores
    if missing.name not in ("cyclopts", "tomli_w", "polars", "torch"):
        raise
    sys.stderr.write("error: the search needs its packages: pip install '.[tune]' in its folder\n")
    raise SystemExit(2) from None

if TYPE_CHECKING:
    from tune.pipeline import Outcome

HELP = """Search for the best GRU4Rec model for a click log, train it on all of the log and export it.

Any part of the search space can be narrowed: --n-sample 512 (fixed), --loss bpr-max,cross-entropy (some),
--learning-rate 0.02..0.1 (a range), --learning-rate 1e-3..1e-1:log (by magnitude), --layers 64..256:64 (in steps)."""

WIDTH_OF_FILES = 160
"""Columns of the leaderboard where there is no terminal to ask."""

app = App(
    name="python -m tune.search",
    help=HELP,
    help_format="plaintext",
    help_epilogue=examples(
        "python -m tune.search --train data --out search",
        "python -m tune.search --train clicks.tsv --out search --loss bpr-max --layers 100,200 --epochs 5",
        "python -m tune.search --train train.tsv --valid valid.tsv --test test.tsv --out search --trials 50",
        "python -m tune.search --train data --out study --grid loss n_sample --n-sample 0,512,2048 --repeats 3",
    ),
    version=our_version,
)

NO_FLAGS = SpaceFlags()
Flags = Annotated[SpaceFlags, Parameter(name="*", group="Search space")]  # type: ignore[valid-type]  # made at run time


@app.default
def run(
    *,
    train: Path,
    out: Path,
    valid: Path | None = None,
    test: Path | None = None,
    grid: Annotated[list[str] | None, Parameter(negative=(), consume_multiple=True)] = None,
    search: Literal["optuna", "random"] | None = None,
    scheduler: Literal["asha", "median", "none"] | None = None,
    trials: int | None = None,
    epochs: int = 10,
    seed: int = 42,
    storage: str | None = None,
    address: str | None = None,
    gpus_per_trial: str = "auto",
    cpus_per_trial: int | None = None,
    refit: bool = True,
    seeds: bool | None = None,
    resume: bool = True,
    finalists: int = 0,
    repeats: int | None = None,
    time_budget: str | None = None,
    space: Path | None = None,
    plugin: Annotated[list[str] | None, Parameter(negative=())] = None,
    threads: int | None = None,
    columns: ColumnFlags = ColumnFlags(),
    flags: Flags = NO_FLAGS,
) -> int:
    """Search, train the winner again, export it.

    Args:
        train: click log (TSV, CSV, JSON lines, parquet) or prepared folder
        out: folder for the results: model.onnx, best.toml, results.csv, report.html and more
        valid: click log or prepared folder to validate on; without it, the last tenth of the training sessions
        test: click log or prepared folder on which the final model is evaluated, once
        grid: names of parameters; every combination of their values is tried, in place of a search
        search: optuna learns from the trials so far, random does not [default: optuna]
        scheduler: which trials are stopped early: asha (of those that got as far as 1, 3, 9 … epochs one in three goes
            on), median (what stays below the others' median is stopped) or none [default: asha; none for a grid]
        trials: models to try; more than a finished search had adds some [default: 20]
        epochs: passes over the training sessions, for a trial that is not stopped early
        seed: of the search and of every trial
        storage: folder or URI (s3://bucket/folder) that trials leave checkpoints in, where the nodes of a cluster do
            not share the folder of the search [default: OUT/trials]
        address: of a Ray cluster; without it, trials run on this machine (or on the cluster whose job this is)
        gpus_per_trial: auto (one where there are any), 0, a share such as 0.25, or a number
        cpus_per_trial: processors, and so threads, of a trial [default: an even share]
        refit: train the winner again on training and validation sessions; otherwise it is kept as it was
        seeds: try the published best parameters first, as half of the trials at most [default: yes]
        resume: go on with the search that is in the folder; otherwise a folder with a search is refused
        finalists: that many of the best trials are run again, with other seeds, and name the winner
        repeats: runs of each finalist [default: 3], or of each point of a grid [default: 1], with a seed each
        time_budget: for the trials, such as 90s, 30m or 2h; the best model so far is made when it is up
        space: TOML file that narrows the search space (learning_rate = {low = 0.01, high = 0.1}); flags win over it
        plugin: module that registers losses or samplers
        threads: CPU threads of the final training and evaluation [default: as many as a trial has]
    """
    counts = {"trials": trials, "epochs": epochs, "repeats": repeats, "cpus-per-trial": cpus_per_trial}
    for name, value in counts.items():
        if value is not None and value < 1:
            raise UserError(f"{name}: expected at least 1, got {value}")
    if finalists < 0:
        raise UserError(f"finalists: expected at least 0, got {finalists}")
    if grid is not None:
        _check_grid(grid, trials=trials, search=search, finalists=finalists, seeds=seeds is not None)
    elif repeats is not None and not finalists:
        raise UserError(
            "repeats: expected --finalists or --grid beside it, whose runs it counts; give one or leave it out"
        )
    use_threads(threads)
    request = Request(
        train=train,
        valid=valid,
        test=test,
        out=out,
        columns=columns.columns(),
        grid=None if grid is None else tuple(name.replace("-", "_") for part in grid for name in part.split(",")),
        search=search or "optuna",
        scheduler=scheduler or ("asha" if grid is None else "none"),
        n_trials=0 if grid is not None else 20 if trials is None else trials,
        n_epochs=epochs,
        seed=seed,
        storage=storage,
        address=address,
        gpus_per_trial=gpus_per_trial,
        cpus_per_trial=cpus_per_trial,
        threads=threads,
        refit=refit,
        published=seeds is not False,
        resume=resume,
        finalists=finalists,
        repeats=repeats or (3 if grid is None else 1),
        time_budget=None if time_budget is None else seconds_of(time_budget),
        plugins=tuple(plugin or ()),
        narrowed=narrowed(flags, _space_file(space)),
    )
    from tune.pipeline import run_search  # Ray takes seconds to import; help should not

    return _told(request, run_search(request))


def _check_grid(grid: list[str], **others: Any) -> None:
    if not grid:
        raise UserError("grid: expected the names of parameters, such as --grid loss n_sample")
    for name, value in others.items():
        if value:
            raise UserError(f"{name}: a grid tries every combination, each with --repeats seeds; leave it out")


def _space_file(path: Path | None) -> dict[str, Any]:
    from tune.space.builder import read_space  # torch takes seconds to import; help should not

    return {} if path is None else read_space(path)


def _told(request: Request, outcome: "Outcome") -> int:
    """Say how a search ended; gives the exit code."""
    from rich.console import Console

    from tune.outcome.leaderboard import build_leaderboard

    progress = f"after {outcome.n_over} of {outcome.n_trials} trials; the same command goes on"
    if outcome.only_finals_left:
        progress = f"in the finals, after all {outcome.n_over} trials; the same command goes on"
    if outcome.ending == "interrupted":
        say(f"interrupted {progress}")
        return 130
    if outcome.ending == "out of time":
        say(f"the time is up {progress}, for as long again")
    Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES).print(
        build_leaderboard(outcome.trials, outcome.finalists)
    )
    for finalist in outcome.finalists:
        if finalist.failures:
            say(
                f"trial {finalist.trial.number}: {len(finalist.failures)} of {finalist.repeats} runs failed and count "
                f"as 0 in its mean; the first reason: {finalist.failures[0]}"
            )
    if outcome.test:
        test = outcome.test
        print(f"test: recall@20 {test['recall@20']:.4f}, mrr@20 {test['mrr@20']:.4f} on {test['events']:,} events")
    if outcome.effort.available:
        print(outcome.effort)
    print(f"report: {request.out / 'report.html'}")
    print(f"next: gru4rec-infer --model {request.out / 'model.onnx'} --session SESSIONS.tsv")
    runs_failed = any(finalist.failures for finalist in outcome.finalists)
    return 3 if runs_failed or any(trial.status == "failed" for trial in outcome.trials) else 0


def seconds_of(text: str) -> float:
    """Seconds from a duration: 90, 90s, 30m, 2h.

    Raises:
        UserError: it is no positive duration.

    >>> seconds_of("1.5h")
    5400.0
    """
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UserError(f"time-budget: expected a duration such as 90s, 30m or 2h, got {text!r}")
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `python -m tune.search`; gives the exit code."""
    for package in ("ray", "optuna", "polars", "torch"):
        if find_spec(package) is None:
            say(f"error: the search needs {package}: pip install '.[tune]' in its folder")
            return 2
    return run_app(app, arguments)


if __name__ == "__main__":
    sys.exit(main())
