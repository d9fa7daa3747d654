"""Check that a search that is killed twice still beats the parameters that the authors published for another log.

    python examples/benchmarks/search_acceptance.py --official ../GRU4Rec_PyTorch_Official --train train.parquet \\
        --out acceptance -- --cpus-per-trial=1

A search without the published parameters as first trials is started. Its process is killed (SIGKILL) when a quarter of
its trials are over and again when half of them are, and the same command is run again each time. In the end every trial
must be there, and those that were over before a kill must be unchanged. Then the parameters that the authors published
for RetailRocket are trained for as many epochs and validated on the same sessions. Arguments after -- go to the search,
such as flags that narrow its space. The exit code is 1 if a check fails.
"""

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import official_code
import polars as pl

from inference.shared.errors import UserError
from tune.trials.recovery import read_finished


def build_command(arguments: argparse.Namespace, out: Path, *flags: str) -> list[str]:
    """The command of a search of ours on the log."""
    command = [sys.executable, "-m", "tune.search", f"--train={arguments.train}", f"--out={out}"]
    return [*command, f"--epochs={arguments.epochs}", "--no-seeds", "--no-refit", "--gpus-per-trial=0", *flags]


def read_reports(out: Path) -> dict[str, dict[str, Any]]:
    """The last report of every trial that is over, by its id."""
    return {note["trial_id"]: note["report"] for note in read_finished(out / "trials" / "round-1")}


def kill_after(command: list[str], out: Path, n_trials: int) -> dict[str, dict[str, Any]]:
    """Run a search until so many trials are over, and kill it; returns the reports of those."""
    process = subprocess.Popen(command)
    while len(read_reports(out)) < n_trials:
        if process.poll() is not None:
            raise SystemExit(f"error: the search ended with exit code {process.returncode} before it could be killed")
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return read_reports(out)


def run(command: list[str]) -> None:
    """Run a search to its end."""
    ended = subprocess.run(command, check=False)
    if ended.returncode not in (0, 3):
        raise SystemExit(f"error: the search ended with exit code {ended.returncode}")


def main() -> int:
    """Run both searches and print the checks; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, required=True, help="a clone of the official repository")
    parser.add_argument("--train", type=Path, required=True, help="log; its last tenth validates")
    parser.add_argument("--out", type=Path, required=True, help="folder for both searches")
    parser.add_argument("--trials", type=int, default=20, help="of the search [20]")
    parser.add_argument("--epochs", type=int, default=5, help="of a trial [5]")
    parser.add_argument("flags", nargs="*", help="of the search")
    arguments = parser.parse_args()
    searched, alone = arguments.out / "search", arguments.out / "published"
    if searched.exists():
        parser.error(f"--out: {searched} exists already; choose another folder")
    try:
        published = official_code.published_parameters(arguments.official, "retailrocket")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    shared = [flag for flag in arguments.flags if flag.startswith("--cpus-per-trial")]  # others narrow ours
    command = build_command(arguments, searched, f"--trials={arguments.trials}", *arguments.flags)
    start, before = time.time(), []
    for share in (0.25, 0.5):
        before.append(kill_after(command, searched, max(1, round(share * arguments.trials))))
        print(f"killed after {time.time() - start:.0f} s with {len(before[-1])} trials over", flush=True)
    run(command)
    print(f"done after {time.time() - start:.0f} s", flush=True)

    values = {name: value for name, value in published.items() if name not in ("n_epochs", "logq")}  # its loss has none
    values["layers"] = "/".join(map(str, values["layers"]))
    fixed = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
    run(build_command(arguments, alone, "--trials=1", "--scheduler=none", "--sampler=popularity", *shared, *fixed))

    rows = pl.read_parquet(searched / "results.parquet")
    after = {row["trial_id"]: row for row in rows.iter_rows(named=True)}
    statuses = dict(sorted(rows["status"].value_counts().iter_rows()))
    kept = all(
        (after[name]["mrr@20"], after[name]["epochs"], after[name]["seconds"])
        == (report["mrr@20"], report["epoch"], report["seconds"])
        for reports in before
        for name, report in reports.items()
    )
    ours, theirs = rows["mrr@20"].max(), pl.read_parquet(alone / "results.parquet")["mrr@20"].max()
    checks = {
        f"all {arguments.trials} trials are over: {statuses}": sorted(rows["trial"])
        == list(range(1, arguments.trials + 1))
        and "unfinished" not in statuses,
        "trials that were over before a kill were not run again": kept,
        f"best validation MRR@20 {ours:.4f}, with the published parameters {theirs:.4f}": ours >= theirs,
    }
    for check, passed in checks.items():
        print(f"{'yes' if passed else 'NO '}  {check}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
