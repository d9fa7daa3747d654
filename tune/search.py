"""The search from the command line: from a click log to the best model, exported.

`tune.settings` has the flags; `tune.pipeline` does the work. Exit codes: 0 done; 2 the arguments or the input are
wrong; 3 some trials, or runs of finalists, failed (a trial that diverged is a result, not a failure); 130 interrupted,
and the same command resumes the search.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

try:
    from cyclopts import App, Parameter

    from gru4rec.commands.config_flags import read_flags
    from gru4rec.commands.terminal import format_examples, installed_version, print_status, run_app
    from tune.settings import SearchSettings
    from tune.space.flags import SpaceFlags
except ImportError as missing:  # the base install only scores
    if missing.name not in ("cyclopts", "tomli_w", "polars", "torch"):
        raise
    sys.stderr.write("error: the search needs its packages: pip install '.[tune]' in its folder\n")
    raise SystemExit(2) from None

if TYPE_CHECKING:
    from tune.pipeline import Outcome

HELP = """Search for the best GRU4Rec model for a click log, train it on all of the log and export it.

Any part of the search space can be narrowed: --n-sample 512 (fixed), --loss bpr-max,cross-entropy (some),
--learning-rate 0.02..0.1 (a range), --learning-rate 1e-3..1e-1:log (on a log scale), --layers 64..256:64 (in steps)."""

WIDTH_OF_FILES = 160
"""Columns of the leaderboard without a terminal."""

app = App(
    name="python -m tune.search",
    help=HELP,
    help_format="plaintext",
    help_epilogue=format_examples(
        "python -m tune.search --train data --out search",
        "python -m tune.search --train clicks.tsv --out search --loss bpr-max --layers 100,200 --epochs 5",
        "python -m tune.search --train train.tsv --valid valid.tsv --test test.tsv --out search --trials 50",
        "python -m tune.search --train data --out study --grid loss n_sample --n-sample 0,512,2048 --repeats 3",
    ),
    version=installed_version,
)

NO_FLAGS = SpaceFlags()
Flags = Annotated[SpaceFlags, Parameter(name="*", group="Search space")]  # type: ignore[valid-type]  # made at run time


@app.default
def run(*, settings: SearchSettings, space_flags: Flags = NO_FLAGS) -> int:
    """Search, train the winner again, export it."""
    from tune.pipeline import run_search  # Ray takes seconds to import; help should not

    return _print_outcome(settings, run_search(replace(settings, space_values=read_flags(space_flags))))


def _print_outcome(settings: SearchSettings, outcome: "Outcome") -> int:
    """Print how a search ended; gives the exit code."""
    from rich.console import Console

    from tune.outcome.leaderboard import build_leaderboard

    n_ended = sum(trial.status != "unfinished" for trial in outcome.trials)
    progress = f"after {n_ended} of {outcome.state.n_trials} trials; the same command resumes it"
    if outcome.state.trials_complete:
        progress = f"in the finals, after all {n_ended} trials; the same command resumes them"
    if outcome.ending == "interrupted":
        print_status(f"interrupted {progress}")
        return 130
    if outcome.ending == "out of time":
        print_status(f"the time is up {progress}, for as long again")
    Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES).print(
        build_leaderboard(outcome.trials, outcome.finalists)
    )
    for finalist in outcome.finalists:
        if finalist.failures:
            print_status(
                f"trial {finalist.trial.number}: {len(finalist.failures)} of {finalist.repeats} runs failed and count "
                f"as 0 in its mean; the first reason: {finalist.failures[0]}"
            )
    failed = [trial for trial in outcome.trials if trial.status == "failed"]
    if failed:
        print_status(f"{len(failed)} trials failed; the first is trial {failed[0].number}: {failed[0].error}")
    if outcome.test:
        test = outcome.test
        print(f"test: recall@20 {test['recall@20']:.4f}, mrr@20 {test['mrr@20']:.4f} on {test['events']:,} events")
    if outcome.state.effort.available:
        print(outcome.state.effort)
    print(f"report: {settings.out / 'report.html'}")
    print(f"next: gru4rec-infer --model {settings.out / 'model.onnx'} --session SESSIONS.tsv")
    return 3 if failed or any(finalist.failures for finalist in outcome.finalists) else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `python -m tune.search`; gives the exit code."""
    for package in ("ray", "optuna", "polars", "torch"):
        if find_spec(package) is None:
            print_status(f"error: the search needs {package}: pip install '.[tune]' in its folder")
            return 2
    return run_app(app, arguments)


if __name__ == "__main__":
    sys.exit(main())
