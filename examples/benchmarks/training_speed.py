"""Training speed in events per second, next to the authors' PyTorch code.

    python examples/benchmarks/training_speed.py --official ../GRU4Rec_PyTorch_Official --data train.parquet \\
        --config retailrocket --precision auto fp32

Both train on the same log with the same parameters (one of the official parameter files), in turns, each turn in a
process of its own. After a warm-up, whole steps with all slots in use are timed. Loading, preparing and compiling come
before and are shown separately. Ours runs `Trainer`, as `gru4rec train` does. The official code draws ten million
negatives at a time, every few thousand steps. Whether such a pause falls into a turn is chance, so its cost is spread
over the steps that it serves; a second ratio, of the steps alone, leaves it out. Ours always draws its negatives within
the measured time. A ratio is the median of the rounds, with the lowest and highest.

Needs a clone of github.com/hidasib/GRU4Rec_PyTorch_Official, pandas and pyarrow.
"""

import argparse
import json
import platform
import statistics
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import official_code
from rounds import format_spread, run_turn
from training_turns import Stopwatch, Turn, time_official, time_ours, time_products

from gru4rec.config.train_config import from_mapping
from inference.shared.errors import UserError

OFFICIAL, FLOOR = "official", "floor"


def measure_turn(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one turn, in a process of its own."""
    import torch

    parameters = official_code.published_parameters(arguments.official, arguments.config)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.turn == FLOOR:
        return time_products(from_mapping(parameters), arguments.seconds)
    stopwatch = Stopwatch(arguments.warm_up, arguments.seconds, arguments.steps)
    if arguments.turn == OFFICIAL:
        return asdict(time_official(arguments.official, arguments.data, parameters, stopwatch))
    config = from_mapping({**parameters, "precision": arguments.turn, "device": "cpu"})
    return asdict(time_ours(arguments.data, config, stopwatch))


def run_once(arguments: argparse.Namespace, turn: str) -> dict[str, Any]:
    """Run a turn in a process of its own."""
    flags = ("official", "data", "config", "seconds", "steps", "warm_up", "threads")
    (result,) = run_turn(__file__, arguments, flags, "--turn", turn)
    return result


def processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run all rounds: the official code, ours in each precision, and the floor."""
    turns: dict[str, list[Turn]] = {name: [] for name in [OFFICIAL, *arguments.precision]}
    floors = []
    for number in range(arguments.rounds):
        for name, done in turns.items():
            done.append(Turn(**run_once(arguments, name)))
            sys.stderr.write(f"round {number + 1}, {name}: {done[-1].rate:,.0f} events/s\n")
        floors.append(run_once(arguments, FLOOR))
    floor = {name: statistics.median(result[name] for result in floors) for name in floors[0]}
    batch_size = from_mapping(official_code.published_parameters(arguments.official, arguments.config)).batch_size
    rows = {}
    for name, done in turns.items():
        pairs = list(zip(turns[OFFICIAL], done, strict=True))
        rate = statistics.median(turn.rate for turn in done)
        rows[name] = {
            "events_per_second": statistics.median(turn.rate_with_drawing for turn in done),
            "milliseconds_per_step": 1e3 * batch_size / rate,
            "until_first_step": statistics.median(turn.until_first_step for turn in done),
            "warm_up": statistics.median(turn.warm_up for turn in done),
            "ratios": [ours.rate_with_drawing / theirs.rate_with_drawing for theirs, ours in pairs],
            "ratios_of_steps": [ours.rate / theirs.rate for theirs, ours in pairs],
            "share_of_products": {kind: seconds * rate / batch_size for kind, seconds in floor.items()},
            "turns": [asdict(turn) for turn in done],
        }
    import torch

    machine = f"{processor_name()}, {turns[OFFICIAL][0].threads} threads, torch {torch.__version__}"
    return {"config": arguments.config, "data": str(arguments.data), "machine": machine, "floor": floor, "rows": rows}


def print_result(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    from rich.console import Console
    from rich.table import Table

    floor = result["floor"]
    table = Table(title=f"{result['config']} parameters on {result['data']}\n{result['machine']}", title_justify="left")
    columns = [
        "",
        "events/s",
        "ms/step",
        "ratio",
        "steps alone",
        "fp32 floor",
        "bf16 floor",
        "start + warm-up",
    ]
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left")
    for name, row in result["rows"].items():
        table.add_row(
            name if name == OFFICIAL else f"ours, {name}",
            f"{row['events_per_second']:,.0f}",
            f"{row['milliseconds_per_step']:.2f}",
            format_spread(row["ratios"]),
            format_spread(row["ratios_of_steps"]),
            *(f"{row['share_of_products'][kind]:.0%}" for kind in ("fp32", "bf16")),
            f"{row['until_first_step']:.1f} + {row['warm_up']:.1f} s",
        )
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(table)
    console.print(
        f"A step's matrix products alone: {1e3 * floor['fp32']:.2f} ms in fp32, {1e3 * floor['bf16']:.2f} ms in bf16; "
        "the columns 'floor' show their share of a step."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, required=True, help="a clone of the official repository")
    parser.add_argument("--data", type=Path, required=True, help="training log: SessionId, ItemId, Time")
    parser.add_argument("--config", choices=list(official_code.PARAMETER_FILES), required=True)
    parser.add_argument("--precision", nargs="+", default=["auto", "fp32"], help="of ours [auto fp32]")
    parser.add_argument("--rounds", type=int, default=3, help="[3]")
    parser.add_argument("--seconds", type=float, default=10.0, help="of timed steps in a turn [10]")
    parser.add_argument("--steps", type=int, help="timed steps in a turn, instead of --seconds")
    parser.add_argument("--warm-up", type=int, default=200, help="steps before the timing begins [200]")
    parser.add_argument("--threads", type=int, help="of torch, in both [its default]")
    parser.add_argument("--json", type=Path, help="also write the measurements to this file")
    parser.add_argument("--turn", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        if arguments.turn:
            print(json.dumps(measure_turn(arguments)))
            return 0
        parameters = official_code.published_parameters(arguments.official, arguments.config)
        for precision in arguments.precision:
            from_mapping({**parameters, "precision": precision})
        result = measure(arguments)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    print_result(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
