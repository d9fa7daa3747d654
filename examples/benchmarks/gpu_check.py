"""Check that training on a GPU gives the same results as on the processor, and measure how much faster it is.

    python examples/benchmarks/gpu_check.py                # a synthetic log, RetailRocket's published parameters
    python examples/benchmarks/gpu_check.py --data train.parquet --official ../GRU4Rec_PyTorch_Official

First parity: with both kinds of mini-batches, the same steps run in fp32 on the processor and on the device, from the
same weights with the same negatives (and without dropout, whose random numbers depend on the device). Every step's loss
and all final weights must agree; otherwise the exit code is 1. Then speed with session-parallel mini-batches: events
per second on the processor and on the device in each precision that it supports, in turns, each in a process of its
own, as in `training_speed.py`; with --official, also of the authors' code on the same device.

The authors of this script had no GPU to run it on: only `--device cpu`, processor against processor, has been run.
"""

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import packages_first  # noqa: F401
import torch
from rounds import format_spread, run_turn
from training_turns import Stopwatch, Turn, time_official, time_ours

from gru4rec.config.files import read_config
from gru4rec.config.train_config import SESSION_PARALLEL, TrainConfig, from_mapping
from gru4rec.data.encoded_log import read_training_log
from gru4rec.data.sessions import EncodedLog
from gru4rec.data.synthetic import synthesize
from gru4rec.model.precision import choose_precision
from gru4rec.training.plugins import import_plugins
from gru4rec.training.trainer import Trainer
from inference.shared.errors import UserError
from tune.space.published import PUBLISHED

PARAMETERS = {**PUBLISHED["retailrocket"], "layers": [224]}
"""Used without --config."""
OFFICIAL = "official"
PASSED_ON = ("data", "config", "official", "seconds", "steps", "warm_up")
OFFICIAL_NAMES = (*PARAMETERS, "logq", "embedding", "n_epochs")
"""Parameters that the authors' code also has."""
LOSS_TOLERANCE, WEIGHT_TOLERANCE = (1e-3, 1e-5), (1e-2, 2e-3)
"""Relative and absolute tolerance of values that must be the same."""


def find_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        UserError: torch cannot use a GPU.
    """
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            f"expected a GPU that torch {torch.__version__} can use, found none; run this on a machine with one "
            "and a torch that was built for it (--device cpu tries the check itself)"
        )
    return torch.device(name)


def train_steps(config: TrainConfig, log: EncodedLog, n_steps: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Train for some steps; returns their losses and the weights after them."""
    import_plugins(config.plugins)
    trainer = Trainer(config, log)
    losses = [loss for _, loss in islice(trainer.batching.run(trainer.learner, 0), n_steps)]
    return torch.stack(losses).cpu(), {name: tensor.cpu() for name, tensor in trainer.network.tensors().items()}


def relative_excess(values: torch.Tensor, expected: torch.Tensor, allowed: tuple[float, float]) -> float:
    """The largest difference, divided by the tolerance: at most 1 if the two are the same."""
    share, absolute = allowed
    return float(((values - expected).abs() / (absolute + share * expected.abs())).nan_to_num(torch.inf).max())


def check_parity(parameters: dict[str, Any], log: EncodedLog, device: torch.device, n_steps: int) -> bool:
    """Whether steps on the device equal those on the processor; prints the largest differences."""
    same = True
    changes = {"precision": "fp32", "dropout_p_embed": 0.0, "dropout_p_hidden": 0.0}
    both = {name: parameters[name] for name in ("loss", "plugins", "loss_options") if name in parameters}
    for values in (parameters, {**both, "batching": "whole-session"}):
        config = from_mapping({**values, **changes, "device": "cpu"})
        expected_losses, expected = train_steps(config, log, n_steps)
        losses, weights = train_steps(config.replace(device=str(device)), log, n_steps)
        of_losses = relative_excess(losses, expected_losses, LOSS_TOLERANCE)
        of_weights = max(relative_excess(weights[name], expected[name], WEIGHT_TOLERANCE) for name in expected)
        same &= max(of_losses, of_weights) <= 1
        print(
            f"{config.batching}, {len(losses)} steps in fp32, {device} against cpu: largest difference of a loss "
            f"{of_losses:.3f}, of a weight {of_weights:.3f} of the tolerance"
        )
    return same


def list_turns(device: torch.device) -> list[tuple[str, str]]:
    """(device, precision) of every turn of ours, those of the processor first."""
    turns = [("cpu", "fp32"), ("cpu", "bf16")]
    for precision in ("fp32", "tf32", "bf16") if device.type != "cpu" else ():
        try:
            choose_precision(precision, device)
        except UserError as error:
            print(f"not measured: {error}")
        else:
            turns.append((str(device), precision))
    return turns


def measure_turn(arguments: argparse.Namespace, parameters: dict[str, Any]) -> Turn:
    """Measure one turn, in a process of its own."""
    where, what = arguments.turn.split("/")
    stopwatch = Stopwatch(arguments.warm_up, arguments.seconds, arguments.steps, where)
    if what == OFFICIAL:
        theirs = {name: value for name, value in parameters.items() if name in OFFICIAL_NAMES}
        return time_official(arguments.official, arguments.data, theirs, stopwatch, where)
    return time_ours(arguments.data, from_mapping({**parameters, "precision": what, "device": where}), stopwatch)


def print_speed(arguments: argparse.Namespace, device: torch.device) -> None:
    """Measure all turns, round after round, and print them."""
    turns = list_turns(device) + ([(str(device), OFFICIAL)] if arguments.official else [])
    rates: list[list[float]] = [[] for _ in turns]
    for _ in range(arguments.rounds):
        for turn, measured in zip(turns, rates, strict=True):
            (result,) = run_turn(__file__, arguments, PASSED_ON, "--turn", "/".join(turn))
            measured.append(Turn(**result).rate)
    print("events per second, and relative to cpu in fp32: the median of the rounds (lowest–highest)")
    for (where, what), measured in zip(turns, rates, strict=True):
        ratios = [rate / base for rate, base in zip(measured, rates[0], strict=True)]
        print(f"{where:<8}{what:<10}{statistics.median(measured):>14,.0f}   {format_spread(ratios)}")


def check(arguments: argparse.Namespace) -> int:
    """Run all checks; returns the exit code."""
    parameters = {**(read_config(arguments.config) if arguments.config else PARAMETERS), "batching": SESSION_PARALLEL}
    if arguments.turn:
        print(json.dumps(asdict(measure_turn(arguments, parameters))))
        return 0
    device = find_device(arguments.device)
    from_mapping(parameters)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.data is None:
            arguments.data = Path(folder) / "clicks.parquet"
            synthesize(arguments.events, arguments.items).write_parquet(arguments.data)
        if not check_parity(parameters, read_training_log(arguments.data), device, arguments.parity_steps):
            sys.stderr.write(f"error: training on {device} differs from training on the processor\n")
            return 1
        print_speed(arguments, device)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu to try the check itself [cuda]")
    parser.add_argument("--data", type=Path, help="training log [a synthetic one]")
    parser.add_argument("--events", type=int, default=500_000, help="of the synthetic log [500000]")
    parser.add_argument("--items", type=int, default=40_000, help="of the synthetic log [40000]")
    parser.add_argument("--config", type=Path, help="TOML or an official parameter file [RetailRocket's parameters]")
    parser.add_argument("--official", type=Path, help="a clone of the official repository, to measure as well")
    parser.add_argument("--parity-steps", type=int, default=100, help="[100]")
    parser.add_argument("--rounds", type=int, default=3, help="[3]")
    parser.add_argument("--seconds", type=float, default=10.0, help="of timed steps in a turn [10]")
    parser.add_argument("--steps", type=int, help="timed steps in a turn, instead of --seconds")
    parser.add_argument("--warm-up", type=int, default=200, help="steps before the timing begins [200]")
    parser.add_argument("--turn", help=argparse.SUPPRESS)
    try:
        return check(parser.parse_args())
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
