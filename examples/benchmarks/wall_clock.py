"""Time from the log on disk to the figures on the test, for the authors' PyTorch code and for ours.

    python examples/benchmarks/wall_clock.py --official ../GRU4Rec_PyTorch_Official --train train.parquet \\
        --test test.parquet --config retailrocket --recipe examples/recipes/retailrocket.toml

Three candidates take turns, each turn in a process of its own: the official code with one of its parameter files, ours
with the same parameters and --precision auto, ours with a recipe. A turn reads the log, prepares, trains for --epochs
epochs and ranks every item for every event of the test. The output is

    time to the first step  +  epochs of the configuration × seconds per epoch  +  ranking the test

each the median over the rounds, so that not all epochs of the official code have to run. Imports are not measured.
`gru4rec evaluate model --test test.parquet --baselines train.parquet` prints the seconds of the baselines.

Needs a clone of github.com/hidasib/GRU4Rec_PyTorch_Official, pandas and pyarrow.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import official_code
from rounds import run_turn

from gru4rec.config.files import read_config
from gru4rec.config.train_config import from_mapping
from inference.shared.errors import UserError

OFFICIAL, SAME, RECIPE = "the authors' code", "ours, the same parameters", "ours, the recipe"
PARTS = ("before", "epoch", "ranking")
PASSED_ON = ("official", "train", "test", "config", "recipe", "epochs")


def time_official(arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds of one turn of the official code."""
    official = official_code.load(arguments.official)
    parameters = official_code.published_parameters(arguments.official, arguments.config)
    steps: list[float] = []

    def on_step(_: int) -> None:
        if not steps:
            steps.append(time.perf_counter())

    start = time.perf_counter()
    clicks = official_code.read_clicks(arguments.train)
    model = official.model(parameters | {"n_epochs": arguments.epochs}, seed=1)
    official.train(model, clicks, on_step)
    trained = time.perf_counter()
    official.evaluate(model, official_code.read_clicks(arguments.test))
    return {
        "before": steps[0] - start,
        "epoch": (trained - steps[0]) / arguments.epochs,
        "ranking": time.perf_counter() - trained,
        "n_epochs": parameters["n_epochs"],
    }


def time_ours(arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds of one turn of ours."""
    from gru4rec.data.encoded_log import read_training_log
    from gru4rec.data.events import encode, read_events
    from gru4rec.evaluation.evaluator import evaluate
    from gru4rec.training.trainer import Trainer

    values = (
        read_config(arguments.recipe)
        if arguments.turn == RECIPE
        else official_code.published_parameters(arguments.official, arguments.config) | {"precision": "auto"}
    )
    config = from_mapping({**values, "device": "cpu", "seed": 1})
    start = time.perf_counter()
    log = read_training_log(arguments.train)
    trainer = Trainer(config, log)
    ready = time.perf_counter()
    for _ in range(arguments.epochs):
        trainer.run_epoch()
    trained = time.perf_counter()
    evaluate(trainer.network, encode(read_events(arguments.test, part="test"), log.vocabulary).sessions, cutoffs=[20])
    return {
        "before": ready - start,
        "epoch": (trained - ready) / arguments.epochs,
        "ranking": time.perf_counter() - trained,
        "n_epochs": config.n_epochs,
    }


def summarize(turns: list[dict[str, float]]) -> dict[str, Any]:
    """The median of each part, and of the whole, with its lowest and highest."""
    wholes = [turn["before"] + turn["n_epochs"] * turn["epoch"] + turn["ranking"] for turn in turns]
    return {part: statistics.median(turn[part] for turn in turns) for part in PARTS} | {
        "n_epochs": turns[0]["n_epochs"],
        "whole": statistics.median(wholes),
        "range": [min(wholes), max(wholes)],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    official_code.add_flags(parser)
    parser.add_argument(
        "--config", choices=list(official_code.PARAMETER_FILES), default="retailrocket", help="of theirs [retailrocket]"
    )
    parser.add_argument("--recipe", type=Path, required=True, help="a TOML file of ours")
    parser.add_argument("--epochs", type=int, default=1, help="trained per turn [1]")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each [3]")
    parser.add_argument("--turn", choices=[OFFICIAL, SAME, RECIPE], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        if arguments.turn:
            print(json.dumps(time_official(arguments) if arguments.turn == OFFICIAL else time_ours(arguments)))
            return 0
        turns: dict[str, list[dict[str, float]]] = {OFFICIAL: [], SAME: [], RECIPE: []}
        for number in range(arguments.rounds):
            for name, done in turns.items():
                done += run_turn(__file__, arguments, PASSED_ON, "--turn", name)
                sys.stderr.write(f"round {number + 1}, {name}: {done[-1]}\n")
        for name, done in turns.items():
            result = summarize(done)
            print(
                f"{name:28} {result['whole']:7.0f} s ({result['range'][0]:.0f}–{result['range'][1]:.0f}): "
                f"{result['before']:.1f} + {result['n_epochs']} × {result['epoch']:.1f} + {result['ranking']:.1f}"
            )
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
