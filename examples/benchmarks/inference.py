"""Speed of recommending: one session at a time, in batches, as a stream, in bulk, and from a cold start.

Catalogues, widths and sessions are those of the ETUDE study (ICDE 2024): synthetic models, since the time does not
depend on the weights, and sessions whose lengths follow a power law. All candidates take turns in one run: the exact
file, the file with an int8 scan, torch (the same network, eager, its best 20 by topk), and the floor: the time to read
the output weights from memory once, which no exact scoring of a single session can avoid.

    python examples/benchmarks/inference.py latency          # 10k, 100k and 1M items × 32, 100, 256
    python examples/benchmarks/inference.py latency --items 1000000 --widths 100               # one cell
    python examples/benchmarks/inference.py latency --items 10000000 --widths 64 --requests 40 --no-torch
    python examples/benchmarks/inference.py stream           # clicks per second, of short and of long sessions
    python examples/benchmarks/inference.py start            # a process up to its first recommendation
    python examples/benchmarks/inference.py bulk --test test.parquet --official DIR   # next to the authors' code
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import packages_first  # noqa: F401
import torch

from gru4rec.config.train_config import TrainConfig
from gru4rec.model.network import Network
from gru4rec.onnx_export.exporter import export, export_with_scan
from inference import Recommender, Vocabulary
from inference.shared.system import count_cores

LONGEST_SESSION = 50
SMALLEST_SCAN = 100_000
K = 20
INFER = [sys.executable, "-m", "inference.cli"]


def random_network(n_items: int, width: int) -> tuple[Network, Vocabulary]:
    """A network with embeddings of the size that training gives them."""
    network = Network(n_items, TrainConfig(layers=(width,)))
    generator = torch.Generator().manual_seed(0)
    network.output_table.normal_(0, 0.3, generator=generator)
    network.output_bias.normal_(0, 0.1, generator=generator)
    return network, Vocabulary(f"item-{number:08d}" for number in range(n_items))


def random_sessions(count: int, n_items: int, seed: int = 0) -> list[np.ndarray]:
    """Draw item numbers of sessions; lengths and popularity follow power laws."""
    generator = np.random.default_rng(seed)
    lengths = np.minimum(generator.zipf(2.0, count), LONGEST_SESSION)
    return [((n_items ** generator.random(length)).astype(np.int64) - 1).clip(0, n_items - 1) for length in lengths]


def time_in_turns(ways: dict[str, Callable[[int], object]], turns: int, warm: int = 3) -> dict[str, np.ndarray]:
    """Seconds of each way in each turn; way(turn) does the work.

    Threads that have just worked wait busily for more and would take the cores from the next way, so there is a pause
    between ways. Threads that sleep take long to wake, so each way does its work twice, and the second time counts.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(warm + turns):
        for name, way in ways.items():
            time.sleep(0.03)
            way(turn)
            begin = time.perf_counter()
            way(turn)
            seconds[name].append(time.perf_counter() - begin)
    return {name: np.array(values[warm:]) for name, values in seconds.items()}


def recommend_with_torch(network: Network, sessions: list[np.ndarray]) -> None:
    """The best items of a batch of sessions, as one would write it in torch."""
    lengths = torch.tensor([len(session) for session in sessions])
    items = torch.full((len(sessions), int(lengths.max())), network.n_items)
    for row, session in enumerate(sessions):
        items[row, : len(session)] = torch.from_numpy(session)
    scores, _ = network.score(items, lengths, torch.zeros(1, len(sessions), network.widths[0]))
    scores.topk(K)


def print_latency(arguments: argparse.Namespace) -> None:
    """Print a table of milliseconds per request and sessions per second."""
    print(
        f"{'items':>10} {'width':>5} {'batch':>5} {'':11} {'p50 ms':>8} {'p90 ms':>8} {'p99 ms':>8} {'sessions/s':>10}",
        end="",
    )
    print("  times exact, times floor")
    for n_items in arguments.items:
        for width in arguments.widths:
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                _print_cell(n_items, width, Path(folder), arguments)


def _print_cell(n_items: int, width: int, folder: Path, arguments: argparse.Namespace) -> None:
    network, vocabulary = random_network(n_items, width)
    sessions = random_sessions(4096, n_items)
    description = {"config": {}, "metrics": {}}
    export(network, vocabulary, folder / "exact.onnx", **description)
    files = {"exact": folder / "exact.onnx"}
    if n_items >= arguments.smallest_scan:
        files["int8 scan"] = folder / "scan.onnx"
        export_with_scan(network, vocabulary, folder / "scan.onnx", **description, calibration=sessions[:256])
    table = network.output_table
    if arguments.no_torch:
        del network
    recommenders = {}
    for name, file in files.items():
        begin = time.perf_counter()
        recommenders[name] = Recommender.load(file)
        recommenders[name].recommend([[vocabulary.term(0)]], K)
        print(f"{n_items:10,} {width:5} {'':5} {name:11} ready in {time.perf_counter() - begin:.2f} s", flush=True)
    ids = [vocabulary.terms(session) for session in sessions]
    for batch in arguments.batches:

        def rows(turn: int, size: int = batch) -> range:
            return range(turn * size % (4096 - size), turn * size % (4096 - size) + size)

        ways: dict[str, Callable[[int], object]] = {
            name: lambda turn, one=one: one.recommend([ids[row] for row in rows(turn)], K)
            for name, one in recommenders.items()
        }
        if not arguments.no_torch:
            ways["torch"] = lambda turn: recommend_with_torch(network, [sessions[row] for row in rows(turn)])
        if batch == 1:
            ways["floor"] = lambda turn: table.sum()
        seconds = time_in_turns(ways, max(8, arguments.requests // batch))
        for name, values in seconds.items():
            p50, p90, p99 = 1e3 * np.quantile(values, [0.5, 0.9, 0.99])
            times = [1e3 * float(np.median(seconds[other])) / p50 for other in ("exact", "floor") if other in seconds]
            print(f"{n_items:10,} {width:5} {batch:5} {name:11} {p50:8.2f} {p90:8.2f} {p99:8.2f}", end="")
            print(f" {batch / np.mean(values):10,.0f}", *(f"{value:7.2f}" for value in times), flush=True)


def print_stream(arguments: argparse.Namespace) -> None:
    """Print clicks per second through the command line, for sessions of a few clicks and of very many."""
    n_items, width = arguments.items[0], arguments.widths[0]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        model = Path(folder) / "model.onnx"
        network, vocabulary = random_network(n_items, width)
        export(network, vocabulary, model, config={}, metrics={})
        seconds = {}
        for length in (5, 5000):
            for clicks in (2_000, 2_000 + arguments.clicks):  # the difference does not contain the start
                generator = np.random.default_rng(0)
                lines = [
                    json.dumps({"session": f"s{click // length}", "item": vocabulary.term(number)}) + "\n"
                    for click, number in enumerate(generator.integers(0, n_items, clicks))
                ]
                begin = time.perf_counter()
                subprocess.run(
                    [*INFER, "--model", str(model), "--stream"],
                    input="".join(lines), text=True, check=True, stdout=subprocess.DEVNULL,
                )  # fmt: skip
                seconds[length, clicks] = time.perf_counter() - begin
            taken = seconds[length, 2_000 + arguments.clicks] - seconds[length, 2_000]
            print(f"{n_items:,} items × {width}, sessions of {length:5,} clicks one after the other: ", end="")
            print(f"{arguments.clicks / taken:,.0f} clicks/s", flush=True)


def print_start(arguments: argparse.Namespace) -> None:
    """Print the time from the start of a process to its first recommendation, next to importing onnxruntime alone."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        model, session = Path(folder) / "model.onnx", Path(folder) / "one.txt"
        n_items, width = arguments.items[0], arguments.widths[0]
        network, vocabulary = random_network(n_items, width)
        export(network, vocabulary, model, config={}, metrics={})
        session.write_text(f"{vocabulary.term(3)} {vocabulary.term(1)}\n")
        commands = {
            "import onnxruntime": [sys.executable, "-c", "import onnxruntime"],
            "gru4rec-infer": [*INFER, "--model", str(model), "--session", str(session), "--format", "jsonl"],
        }
        seconds = time_in_turns(
            {
                name: lambda _, command=command: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                for name, command in commands.items()
            },
            arguments.requests // 10,
        )
        medians = {name: 1e3 * float(np.median(values)) for name, values in seconds.items()}
        print(f"{n_items:,} items × {width}: " + ", ".join(f"{name} {value:.0f} ms" for name, value in medians.items()))
        print(f"{medians['gru4rec-infer'] / medians['import onnxruntime']:.2f} times the import")


def print_bulk(arguments: argparse.Namespace) -> None:
    """Print sessions per second for a file on the command line, next to the authors' evaluation of the same file."""
    import polars as pl

    log = pl.read_parquet(arguments.test).sort("SessionId", "Time", maintain_order=True)
    n_sessions = log["SessionId"].n_unique()
    items, width = sorted(map(str, log["ItemId"].unique())), arguments.widths[0]
    network, _ = random_network(len(items), width)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        model, sessions = Path(folder) / "model.onnx", Path(folder) / "sessions.tsv"
        export(network, Vocabulary(items), model, config={}, metrics={})
        log.write_csv(sessions, separator="\t")
        command = [*INFER, "--model", str(model), "--session", str(sessions), "--output", f"{folder}/out.jsonl"]
        ways: dict[str, Callable[[int], object]] = {"gru4rec-infer": lambda _: subprocess.run(command, check=True)}
        if arguments.official:
            ways["authors' evaluation"] = _official(arguments.official, arguments.test, width)
        seconds = time_in_turns(ways, arguments.turns, warm=0)
    rates = {name: n_sessions / float(np.median(values)) for name, values in seconds.items()}
    print(f"{n_sessions:,} sessions, {len(log):,} clicks, {len(items):,} items × {width}")
    for name, rate in rates.items():
        print(f"{name:20} {rate:10,.0f} sessions/s   {rate / rates['gru4rec-infer']:.2f}")


def _official(folder: Path, test: Path, width: int) -> Callable[[int], object]:
    """The authors' evaluation loop on a network of the same shapes."""
    import official_code

    code = official_code.load(folder)
    clicks = official_code.read_clicks(test)
    parameters = {"layers": [width], "constrained_embedding": True, "embedding": 0, "n_epochs": 0, "n_sample": 0}
    model = code.model(parameters)
    code.train(model, clicks)
    return lambda _: code.evaluate(model, clicks)


def parse_numbers(text: str) -> list[int]:
    """Numbers separated by commas."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["latency", "stream", "start", "bulk"])
    parser.add_argument("--items", type=parse_numbers, help="sizes of the catalogue, such as 10000,1000000")
    parser.add_argument("--widths", type=parse_numbers, help="widths of the network, such as 32,100")
    parser.add_argument("--batches", type=parse_numbers, default=[1, 64], help="sessions per batch [default: 1,64]")
    parser.add_argument("--requests", type=int, default=200, help="measured for each [default: %(default)s]")
    parser.add_argument(
        "--smallest-scan", type=int, default=SMALLEST_SCAN, help="also scan catalogues from this size on"
    )
    parser.add_argument("--no-torch", action="store_true", help="leave torch out")
    parser.add_argument("--clicks", type=int, default=20_000, help="of a stream [default: %(default)s]")
    parser.add_argument("--test", type=Path, help="bulk: a parquet file of clicks")
    parser.add_argument("--official", type=Path, help="bulk: folder with the authors' evaluation.py")
    parser.add_argument("--turns", type=int, default=3, help="bulk: number of turns [default: %(default)s]")
    parser.add_argument("--folder", type=Path, help="where models are written [default: a temporary folder]")
    arguments = parser.parse_args()
    if arguments.what == "bulk" and not arguments.test:
        parser.error("bulk needs --test FILE")
    arguments.items = arguments.items or ([10_000, 100_000, 1_000_000] if arguments.what == "latency" else [40_000])
    arguments.widths = arguments.widths or ([32, 100, 256] if arguments.what == "latency" else [100])
    print(f"{platform.machine()}, {count_cores()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads")
    parts = {"latency": print_latency, "stream": print_stream, "start": print_start, "bulk": print_bulk}
    parts[arguments.what](arguments)


if __name__ == "__main__":
    main()
