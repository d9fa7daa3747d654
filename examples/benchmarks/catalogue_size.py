"""Does a training step cost more with a larger catalogue? It should not if negatives are sampled.

    python examples/benchmarks/catalogue_size.py --threads 1                # 40,000 items against 1,000,000

Two trainers of equal width train on two synthetic logs in turns, a few seconds each, in this process. Both logs have
the same sessions and the same skew of popularity, drawn from the same random numbers; only the size of the catalogue
differs. A turn measures everything that a step costs, including drawing and preparing its negatives. The ratio is the
median of the rounds, with the lowest and the highest. It is given in wall-clock time and in processor time of all
threads, which other work on the machine disturbs less. What remains of a difference is memory: fewer rows of a large
table are already in a cache.
"""

import argparse
import sys
import time
from collections.abc import Iterator

import numpy as np
import packages_first  # noqa: F401
import torch
from spread import spread

from gru4rec.config.train_config import TrainConfig, from_mapping
from gru4rec.data.sessions import EncodedLog, Sessions
from gru4rec.training.trainer import Trainer
from inference.shared.errors import UserError
from inference.shared.vocabulary import Vocabulary
from tune.space.published import DEVELOPED_WITH, PUBLISHED

CONFIGS = {"rsc15": PUBLISHED["rsc15"], "retailrocket": PUBLISHED["retailrocket"], "whole-session": DEVELOPED_WITH}
GOAL = 1.3
CLICKS_PER_SESSION = 5
SKEW = 2.0
"""An item's place in the order of popularity is N u ** SKEW for a uniform number u."""


def synthetic_log(n_clicks: int, n_items: int, seed: int = 0) -> EncodedLog:
    """Sessions with the same lengths and places in the order of popularity for every size of the catalogue."""
    generator = np.random.default_rng(seed)
    lengths = 1 + generator.geometric(1 / (CLICKS_PER_SESSION - 1), size=n_clicks // CLICKS_PER_SESSION)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    places = (n_items * generator.random(offsets[-1]) ** SKEW).astype(np.int64)
    names = generator.permutation(n_items).astype(np.int32)  # item numbers say nothing about popularity
    width = len(str(n_items))
    vocabulary = Vocabulary(f"item-{number:0{width}d}" for number in range(n_items))
    return EncodedLog(Sessions(names[places], offsets), vocabulary)


def steps_without_end(trainer: Trainer) -> Iterator[int]:
    """Train without end; yields the number of pairs of every step."""
    epoch = 0
    while True:
        for n_pairs, _ in trainer.batching.run(trainer.learner, epoch):
            yield n_pairs
        epoch += 1


def seconds_per_step(steps: Iterator[int], n_steps: int) -> np.ndarray:
    """The mean wall-clock and processor time over this many steps."""
    began = np.array([time.perf_counter(), time.process_time()])
    for _ in range(n_steps):
        next(steps)
    return (np.array([time.perf_counter(), time.process_time()]) - began) / n_steps


def measure(config: TrainConfig, sizes: list[int], arguments: argparse.Namespace) -> np.ndarray:
    """Seconds per step, [rounds, 2 sizes, 2 kinds of time]."""
    runs = [steps_without_end(Trainer(config, synthetic_log(arguments.clicks, size))) for size in sizes]
    for steps in runs:  # compile, and fill caches
        pace, _ = seconds_per_step(steps, 20)
    n_steps = max(10, int(arguments.seconds / pace))
    return np.array([[seconds_per_step(steps, n_steps) for steps in runs] for _ in range(arguments.rounds)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs=2, default=[40_000, 1_000_000], help="[40000 1000000]")
    parser.add_argument("--clicks", type=int, default=3_000_000, help="of either log [3000000]")
    parser.add_argument("--config", nargs="+", choices=list(CONFIGS), default=list(CONFIGS), help="[all]")
    parser.add_argument("--precision", help="[that of the parameters]")
    parser.add_argument("--rounds", type=int, default=7, help="[7]")
    parser.add_argument("--seconds", type=float, default=3.0, help="about that long is a turn [3]")
    parser.add_argument("--threads", type=int, help="of torch [its own choice]")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        for name in arguments.config:
            chosen = {**CONFIGS[name], "device": "cpu"}
            config = from_mapping(chosen | ({"precision": arguments.precision} if arguments.precision else {}))
            times = measure(config, arguments.items, arguments)
            by_clock, of_processor = (times[:, 1] / times[:, 0]).T
            medians = 1e3 * np.median(times[:, :, 0], axis=0)
            each = ", ".join(f"{size:,} items {ms:.2f} ms" for size, ms in zip(arguments.items, medians, strict=True))
            units = "/".join(map(str, config.layers))
            print(f"{name} ({units} units, {config.precision}): {each} a step")
            print(f"  {spread(by_clock)} times as long, {spread(of_processor)} in processor time; goal at most {GOAL}")
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
