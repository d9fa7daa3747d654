"""How many events per second training processes, compared with the authors' PyTorch code.

    python examples/benchmarks/training_speed.py --official ../GRU4Rec_PyTorch_Official --data train.parquet \\
        --config retailrocket --precision auto fp32

Both train on the same log with the same parameters (one of the official parameter files), in turns, each turn in its
own process. After a warm-up, whole steps are timed in which every slot has a session. What comes before (loading,
preparing, compiling) is shown separately. Ours goes through `Trainer`, as `gru4rec train` does.

The official code draws ten million negatives at a time, every few thousand steps. Whether such a pause falls into a
turn is chance, so it is removed and its cost spread over the steps that it serves: that is the ratio. A second ratio,
of the steps alone, leaves it out. Ours always draws its negatives within the measured time. A ratio is the median of
the rounds, with the lowest and the highest.

Needs a clone of github.com/hidasib/GRU4Rec_PyTorch_Official, pandas and pyarrow.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import official_code
from spread import spread
from training_turns import Stopwatch, Turn, floor_turn, official_turn, our_turn

from gru4rec.config.train_config import from_mapping
from inference.shared.errors import UserError

OFFICIAL, FLOOR = "official", "floor"


def run_turn(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the process of one turn does."""
    import torch

    parameters = official_code.published_parameters(arguments.official, arguments.config)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.turn == FLOOR:
        return floor_turn(from_mapping(parameters), arguments.seconds)
    stopwatch = Stopwatch(arguments.warm_up, arguments.seconds, arguments.steps)
    if arguments.turn == OFFICIAL:
        return asdict(official_turn(arguments.official, arguments.data, parameters, stopwatch))
    config = from_mapping({**parameters, "precision": arguments.turn, "device": "cpu"})
    return asdict(our_turn(arguments.data, config, stopwatch))


def in_a_new_process(arguments: argparse.Namespace, turn: str) -> dict[str, Any]:
    """Run a turn there; whatever goes wrong in it ends this process, too."""
    command = [sys.executable, __file__, "--turn", turn]
    for flag in ("official", "data", "config", "seconds", "steps", "warm_up", "threads"):
        value = getattr(arguments, flag)
        command += [f"--{flag.replace('_', '-')}", str(value)] if value is not None else []
    environment = dict(os.environ)
    if arguments.threads:
        environment["OMP_NUM_THREADS"] = str(arguments.threads)
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    if ended.returncode:
        raise SystemExit(ended.returncode)
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result


def processor() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All rounds: the official code, ours in each precision, the floor, and again."""
    turns: dict[str, list[Turn]] = {name: [] for name in [OFFICIAL, *arguments.precision]}
    floors = []
    for number in range(arguments.rounds):
        for name, done in turns.items():
            done.append(Turn(**in_a_new_process(arguments, name)))
            sys.stderr.write(f"round {number + 1}, {name}: {done[-1].rate:,.0f} events/s\n")
        floors.append(in_a_new_process(arguments, FLOOR))
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

    machine = f"{processor()}, {turns[OFFICIAL][0].threads} threads, torch {torch.__version__}"
    return {"config": arguments.config, "data": str(arguments.data), "machine": machine, "floor": floor, "rows": rows}


def show(result: dict[str, Any]) -> None:
    """The result as a table."""
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
            spread(row["ratios"]),
            spread(row["ratios_of_steps"]),
            *(f"{row['share_of_products'][kind]:.0%}" for kind in ("fp32", "bf16")),
            f"{row['until_first_step']:.1f} + {row['warm_up']:.1f} s",
        )
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(table)
    console.print(
        f"A step's matrix products alone: {1e3 * floor['fp32']:.2f} ms in fp32, {1e3 * floor['bf16']:.2f} ms in bf16; "
        "the columns 'floor' are their share of a step."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, required=True, help="a clone of the official repository")
    parser.add_argument("--data", type=Path, required=True, help="training log: SessionId, ItemId, Time")
    parser.add_argument("--config", choices=list(official_code.PARAMETER_FILES), required=True)
    parser.add_argument("--precision", nargs="+", default=["auto", "fp32"], help="ours is run in each [auto fp32]")
    parser.add_argument("--rounds", type=int, default=3, help="[3]")
    parser.add_argument("--seconds", type=float, default=10.0, help="of timed steps in a turn [10]")
    parser.add_argument("--steps", type=int, help="timed steps in a turn, in place of --seconds")
    parser.add_argument("--warm-up", type=int, default=200, help="steps before the timing begins [200]")
    parser.add_argument("--threads", type=int, help="of torch, in both [its own choice]")
    parser.add_argument("--json", type=Path, help="write everything that was measured here, too")
    parser.add_argument("--turn", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        if arguments.turn:
            print(json.dumps(run_turn(arguments)))
            return 0
        parameters = official_code.published_parameters(arguments.official, arguments.config)
        for precision in arguments.precision:
            from_mapping({**parameters, "precision": precision})
        result = measure(arguments)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    show(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
