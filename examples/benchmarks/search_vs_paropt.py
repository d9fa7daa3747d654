"""Compare the time our search needs to find a model as good as the one that the authors' search finds.

    python examples/benchmarks/search_vs_paropt.py --official ../GRU4Rec_PyTorch_Official --train train.parquet

Their `paropt.py` and its `run.py` run unchanged, from a clone, one process per trial (see `official_code` for the two
things that are patched in memory; a small replacement of pexpect starts those processes). Ours is `python -m
tune.search` without the published parameters as first trials. Both search the space of their parameter file with the
same number of trials and epochs, for the MRR@20 on the same sessions, the last tenth of the log by time. Both use the
whole machine: theirs trains one model with all processors, ours shares them among trials.

Measured from the start of the command: the seconds until theirs reaches the best MRR@20 of all its trials, and until
ours first reaches one as good (from the second in which a trial reported it). Chance plays a large part, so the
comparison runs --repeats times and the result is the median of the ratio. A trial of theirs that diverges, which would
end `paropt.py`, counts as 0.
"""

import argparse
import json
import os
import runpy
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import types
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import official_code

from inference.shared.errors import UserError

SPACE = "gru4rec_bprmax_standard_parspace.json"
FIXED = {"loss": "bpr-max", "n_sample": 2048, "constrained_embedding": True, "embedding": 0}
"""Fixed, as their documentation advises."""


@dataclass(frozen=True)
class Point:
    """A quality that a search reached.

    Attributes:
        seconds: since its start.
        mrr: MRR@20 on the validation sessions, of a trial or of an epoch of one.
    """

    seconds: float
    mrr: float


@dataclass(frozen=True)
class Comparison:
    """The outcome of one repeat.

    Attributes:
        theirs: their best.
        ours: the first of ours that is as good; None if there is none.
        our_best: the best MRR@20 of ours.
        our_seconds: of our whole search.
    """

    theirs: Point
    ours: Point | None
    our_best: float
    our_seconds: float

    @property
    def share(self) -> float:
        """Our time as a share of theirs; infinite if ours was never as good."""
        return self.ours.seconds / self.theirs.seconds if self.ours else float("inf")


def compare(theirs: list[Point], ours: list[Point], our_seconds: float) -> Comparison:
    """Compare the points of both searches, at least one each."""
    best = max(theirs, key=lambda point: point.mrr)
    reached = min((point for point in ours if point.mrr >= best.mrr), key=lambda point: point.seconds, default=None)
    return Comparison(best, reached, max(point.mrr for point in ours), our_seconds)


def read_space(directory: Path) -> list[dict[str, Any]]:
    """The parameters of the official space, a JSON object a line.

    Raises:
        UserError: there is no such file in the clone.
    """
    file = directory / "paramspaces" / SPACE
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: expected the official parameter space, got an error: {error}") from None


def to_flags(space: list[dict[str, Any]]) -> list[str]:
    """Write the space as flags of our search.

    >>> to_flags([{"name": "layers", "dtype": "int", "values": [64, 512], "step": 32}])
    ['--layers=64..512:32']
    """
    flags = []
    for part in space:
        values = part["values"]
        if part["dtype"] == "categorical":
            text = ",".join(map(str, values))
        else:
            step = ":log" if part.get("log") else f":{part['step']}" if "step" in part else ""
            text = f"{values[0]}..{values[1]}{step}"
        flags.append(f"--{part['name'].replace('_', '-')}={text}")
    return flags


def run_theirs(arguments: argparse.Namespace, logs: Path) -> list[Point]:
    """Run `paropt.py`; returns the result of each of its trials."""
    command = [sys.executable, __file__, "--run", "paropt", "--official", str(arguments.official), "--", str(logs)]
    command += [str(arguments.trials), str(arguments.epochs)]
    began, points = time.time(), []
    noise = logs / "paropt.log"
    with open(noise, "w") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            ended = json.loads(line)
            points.append(Point(ended["time"] - began, ended["mrr"]))
            print_trial(points[-1], len(points), arguments.trials, ended["parameters"])
    if process.returncode or not points:
        last = noise.read_text(encoding="utf-8").strip().splitlines()[-3:]
        raise SystemExit("\n".join([*last, f"error: paropt.py ended with exit code {process.returncode}"]))
    return points


def run_ours(arguments: argparse.Namespace, logs: Path, repeat: int) -> tuple[list[Point], float]:
    """Run our search; returns the result of every epoch of its trials, and the seconds of the search."""
    out = logs / f"search-{repeat}"
    fixed = ["--loss=bpr-max", "--n-sample=2048", "--sampler=popularity", "--no-seeds", "--no-refit"]
    command = [sys.executable, "-m", "tune.search", f"--train={logs / 'train.tsv'}", f"--valid={logs / 'valid.tsv'}"]
    command += [f"--out={out}", f"--trials={arguments.trials}", f"--epochs={arguments.epochs}", f"--seed={repeat}"]
    command += ["--gpus-per-trial=0", *fixed, *to_flags(read_space(arguments.official))]
    began = time.time()
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    seconds = time.time() - began
    if ended.returncode not in (0, 3):
        raise SystemExit(f"error: the search ended with exit code {ended.returncode}")
    points = []
    for file in out.glob("trials/round-1/*/result.json"):
        reports = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        points += [Point(report["timestamp"] + 1 - began, report["mrr@20"]) for report in reports]  # whole seconds
    return sorted(points, key=lambda point: point.seconds), seconds


def run_paropt(official: Path, logs: Path, n_trials: int, n_epochs: int) -> None:
    """Run `paropt.py` in this process; prints a line of JSON for every trial."""
    out = sys.stdout
    replacement = types.ModuleType("pexpect")
    replacement.spawnu = lambda command, **_: Trial(command, official, out)  # type: ignore[attr-defined]
    sys.modules["pexpect"] = replacement
    fixed = ",".join(f"{name}={value}" for name, value in {**FIXED, "n_epochs": n_epochs}.items())
    sys.argv = ["paropt.py", str(logs / "train.tsv"), str(logs / "valid.tsv"), "-fp", fixed, "-nt", str(n_trials)]
    sys.argv += ["-opf", str(official / "paramspaces" / SPACE), "-pm", "mrr", "-d", "cpu"]
    os.chdir(official)
    with official_code.silence():
        runpy.run_path("paropt.py", run_name="__main__")


class Trial:
    """A process of `run.py`, read line by line as by pexpect.

    Args:
        command: that `paropt.py` runs.
        official: the clone.
        out: receives the result as JSON.
    """

    def __init__(self, command: str, official: Path, out: TextIO):
        flags = shlex.split(command)[2:]  # without "python run.py"
        if "-lpm" not in flags:
            raise SystemExit(0)  # all trials are over; the evaluation of the best is not measured
        self._out = out
        self._parameters = flags[flags.index("-ps") + 1]
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--run", "trial", "--official", str(official), "--", *flags],
            stdout=subprocess.PIPE,
            text=True,
        )

    def readline(self) -> str:
        """The next line of its output; empty at the end."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line.startswith("PRIMARY METRIC:"):
            result = {"time": time.time(), "mrr": float(line.split(":")[1]), "parameters": self._parameters}
            self._out.write(json.dumps(result) + "\n")
            self._out.flush()
        return line


def run_trial(official: Path, flags: list[str]) -> None:
    """Run `run.py` in this process, with the patches of `official_code`."""
    code = official_code.load(official)
    fit = code.training.GRU4Rec.fit
    code.training.GRU4Rec.fit = lambda model, data, **options: fit(model, data, compatibility_mode=False, **options)
    sys.modules["evaluation"] = code.evaluation
    sys.modules["joblib"] = types.ModuleType("joblib")  # for pickled logs only
    sys.argv = ["run.py", *flags]
    try:
        runpy.run_path(str(official / "run.py"), run_name="__main__")
    except Exception as error:
        if type(error) is not Exception:  # a plain one is raised after a NaN
            raise
        print("PRIMARY METRIC: 0.0", flush=True)


def write_logs(train: Path, folder: Path, n_sessions: int | None) -> None:
    """Write train.tsv and valid.tsv, the last tenth of the sessions by time.

    Args:
        train: the log.
        folder: for both files.
        n_sessions: only the last ones of the log; None for all.
    """
    import polars as pl

    from gru4rec.data.events import encode, hold_out_last, read_events

    log, valid = hold_out_last(encode(read_events(train)), 0.1)
    for name, sessions, share in (("train", log.sessions, 0.9), ("valid", valid, 0.1)):
        lengths = sessions.lengths
        first = 0 if n_sessions is None else max(len(lengths) - round(n_sessions * share), 0)
        items = sessions.items[sessions.offsets[first] :]
        numbers = [number for number, length in enumerate(lengths[first:].tolist()) for _ in range(length)]
        frame = pl.DataFrame(
            {
                "SessionId": numbers,
                "ItemId": [log.vocabulary.term(item) for item in items.tolist()],
                "Time": range(len(numbers)),
            }
        )
        frame.write_csv(folder / f"{name}.tsv", separator="\t")


def print_trial(point: Point, done: int, of: int, parameters: str) -> None:
    """Print the result of a trial of theirs."""
    print(f"paropt trial {done}/{of}  {point.seconds:8.1f} s  mrr@20 {point.mrr:.4f}  {parameters}", flush=True)


def describe(comparison: Comparison) -> str:
    """The outcome of one repeat in a sentence."""
    theirs, ours = comparison.theirs, comparison.ours
    reached = f"ours reached it after {ours.seconds:.1f} s" if ours else "ours never reached it"
    return (
        f"paropt.py found MRR@20 {theirs.mrr:.4f} after {theirs.seconds:.1f} s; {reached}: {comparison.share:.3f} of "
        f"the time (best of ours: {comparison.our_best:.4f}, {comparison.our_seconds:.1f} s in all)"
    )


def main() -> int:
    """Run all repeats; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, required=True, help="a clone of the official repository")
    parser.add_argument("--train", type=Path, help="log: SessionId, ItemId, Time; its last tenth validates")
    parser.add_argument("--trials", type=int, default=12, help="of each search [12]")
    parser.add_argument("--epochs", type=int, default=5, help="of a trial [5]")
    parser.add_argument("--repeats", type=int, default=3, help="of all of it [3]")
    parser.add_argument("--sessions", type=int, help="use only so many sessions of the log [all]")
    parser.add_argument("--json", type=Path, help="also write the measurements to this file")
    parser.add_argument("--run", choices=["paropt", "trial"], help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.official = arguments.official.absolute()
    try:
        if arguments.run == "paropt":
            run_paropt(arguments.official, Path(arguments.rest[0]), *map(int, arguments.rest[1:]))
            return 0
        if arguments.run == "trial":
            run_trial(arguments.official, arguments.rest)
            return 0
        if arguments.train is None:
            parser.error("--train: expected a log")
        read_space(arguments.official)
        comparisons = []
        with tempfile.TemporaryDirectory() as folder:
            write_logs(arguments.train, Path(folder), arguments.sessions)
            for repeat in range(1, arguments.repeats + 1):
                theirs = run_theirs(arguments, Path(folder))
                comparisons.append(compare(theirs, *run_ours(arguments, Path(folder), repeat)))
                print(describe(comparisons[-1]), flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    share = statistics.median(comparison.share for comparison in comparisons)
    print(f"median of {len(comparisons)}: {share:.3f} of the time of paropt.py")
    if arguments.json:
        measured = [asdict(comparison) | {"share": comparison.share} for comparison in comparisons]
        arguments.json.write_text(json.dumps({"median_share": share, "repeats": measured}, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
