"""Speed and memory of `gru4rec prepare`, next to plain pandas code that does the same.

Both read the same synthetic log as text, drop repeats, split off the last tenth of the sessions, filter the training
part until nothing changes, and write parquet. Each runs in a process of its own, whose peak memory the system reports.
The written files are compared row by row. `gru4rec` also writes the encoded log that training starts from. With several
rounds they take turns, and medians are printed with the lowest and the highest.

    python examples/benchmarks/prepare.py --rounds 5                   # 5 million events; needs pandas and pyarrow
    python examples/benchmarks/prepare.py --events 50000000 --no-pandas
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import packages_first  # noqa: F401
from rounds import format_spread

PART = 5_000_000
SUPPORT, LENGTH, FRACTION = 5, 2, 0.1
MONTH = 86_400 * 31


def write_log(folder: Path, events: int, items: int) -> list[Path]:
    """Write a log as files of five million events each, one month after the other."""
    import polars as pl

    from gru4rec.data.synthetic import synthesize

    files = []
    for number in range(-(-events // PART)):
        log = synthesize(min(PART, events - number * PART), items, seed=number)
        files.append(folder / f"events-{number:03d}.tsv")
        log.with_columns(
            pl.format("{}-{}", pl.lit(number), "SessionId").alias("SessionId"), pl.col("Time") + number * MONTH
        ).write_csv(files[-1], separator="\t")
    return files


def prepare_with_pandas(files: list[Path], out: Path) -> None:
    """The same rules, as one would write them with pandas."""
    import pandas as pd

    ids = {"SessionId": str, "ItemId": str}
    log = pd.concat([pd.read_csv(file, sep="\t", dtype=ids) for file in files], ignore_index=True)
    log = log.sort_values(["SessionId", "Time"], kind="stable")
    repeated = (log["SessionId"] == log["SessionId"].shift()) & (log["ItemId"] == log["ItemId"].shift())
    log = log[~repeated]
    begins = log.groupby("SessionId")["Time"].min()
    boundary = begins.sort_values().iloc[len(begins) - max(1, round(len(begins) * FRACTION))]
    is_late = log["SessionId"].map(begins) >= boundary
    train, test = log[~is_late], log[is_late]
    before = -1
    while len(train) != before:
        before = len(train)
        train = train[train.groupby("ItemId")["ItemId"].transform("size") >= SUPPORT]
        train = train[train.groupby("SessionId")["SessionId"].transform("size") >= LENGTH]
    test = test[test["ItemId"].isin(train["ItemId"].unique())]
    test = test[test.groupby("SessionId")["SessionId"].transform("size") >= LENGTH]
    out.mkdir()
    train.to_parquet(out / "train.parquet", index=False, compression="zstd")
    test.to_parquet(out / "test.parquet", index=False, compression="zstd")


def prepare_with_gru4rec(files: list[Path], out: Path) -> None:
    """Run the command."""
    from gru4rec.cli import main

    flags = ["--min-item-support", str(SUPPORT), "--min-session-length", str(LENGTH), "--test-fraction", str(FRACTION)]
    assert main(["prepare", *map(str, files), "--out", str(out), "--no-valid", *flags]) == 0


def load_text(files: list[Path], out: Path) -> None:
    """Read and encode the first file for training."""
    from gru4rec.data.events import encode, read_events

    encode(read_events(files[0]))


def load_prepared(files: list[Path], out: Path) -> None:
    """Map the files that `gru4rec prepare` wrote for training."""
    from gru4rec.data.encoded_log import read_training_log

    read_training_log(files[0].parent / "gru4rec")


RUNS = {
    "pandas": prepare_with_pandas,
    "gru4rec": prepare_with_gru4rec,
    "load the text": load_text,
    "load what is prepared": load_prepared,
}


def measure(run: str, files: list[Path], out: Path) -> tuple[float, float]:
    """Run in a new process; returns its seconds, without its start, and its peak memory in GiB."""
    command = [sys.executable, __file__, "--run", run, "--out", str(out), *map(str, files)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    seconds = float(process.stdout.read().strip().splitlines()[-1])
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{run} ended with {process.returncode}")
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30


def have_same_rows(left: Path, right: Path) -> bool:
    """Whether two folders contain the same training and test clicks."""
    import polars as pl

    order = ["SessionId", "Time"]
    for part in ("train", "test"):
        frames = [
            pl.read_parquet(folder / f"{part}.parquet")
            .select(pl.col("SessionId", "ItemId").cast(pl.String), pl.col("Time").cast(pl.Int64))
            .sort(order, maintain_order=True)
            for folder in (left, right)
        ]
        if not frames[0].equals(frames[1]):
            return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--no-pandas", action="store_true", help="measure gru4rec alone")
    parser.add_argument("--folder", type=Path, help="where the log is written [default: a temporary folder]")
    parser.add_argument("--run", choices=list(RUNS), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("files", nargs="*", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        if arguments.run == "pandas":  # imports are not measured
            import pandas  # noqa: F401
        else:
            pass
        begin = time.perf_counter()
        RUNS[arguments.run](arguments.files, arguments.out)
        print(time.perf_counter() - begin)
        return
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary)
        with ProcessPoolExecutor(1) as process:  # else its memory would count as that of every process started here
            files = process.submit(write_log, folder, arguments.events, arguments.items).result()
        size = sum(file.stat().st_size for file in files) / 2**30
        print(f"{arguments.events:,} events, {size:.2f} GiB of text, {os.cpu_count()} cores")
        runs = [run for run in RUNS if run != "pandas" or not arguments.no_pandas]
        results: dict[str, list[tuple[float, float]]] = {run: [] for run in runs}
        for number in range(arguments.rounds):
            for run in runs:
                out = folder / run.replace(" ", "-")
                shutil.rmtree(out, ignore_errors=True)
                results[run].append(measure(run, files, out))
                seconds, memory = results[run][-1]
                print(f"round {number + 1}: {run:22} {seconds:8.2f} s {memory:6.2f} GiB", flush=True)
        for run, of_run in results.items():
            seconds, memory = zip(*of_run, strict=True)
            print(f"{run:22} {format_spread(seconds)} s, {max(memory):.2f} GiB at most")
        if "pandas" in results:
            pairs = list(zip(results["pandas"], results["gru4rec"], strict=True))
            faster = format_spread([pandas[0] / ours[0] for pandas, ours in pairs])
            memory_share = max(ours[1] for _, ours in pairs) / max(pandas[1] for pandas, _ in pairs)
            equal = "equal files" if have_same_rows(folder / "pandas", folder / "gru4rec") else "OTHER ROWS"
            print(f"gru4rec is {faster} times as fast with {memory_share:.0%} of the memory; {equal}")


if __name__ == "__main__":
    main()
