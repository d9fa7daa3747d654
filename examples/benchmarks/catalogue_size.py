"""Cost of a training step for catalogues of two sizes. With sampled negatives, they should cost the same.

    python examples/benchmarks/catalogue_size.py --threads 1                # 40,000 items against 1,000,000

Two trainers of equal width train on two synthetic logs in turns, a few seconds each, in this process. Both logs have
sessions of the same lengths and the same skew of popularity, drawn from the same random numbers; only the size of the
catalogue differs. A turn measures whole steps, including drawing and preparing negatives. The ratio is the median of
the rounds, with the lowest and highest, once in wall-clock time and once in processor time of all threads, which other
work on the machine disturbs less. What remains is memory: fewer rows of a large table are in a cache.
"""

import argparse
import sys
import time
from collections.abc import Iterator

import numpy as np
import packages_first  # noqa: F401
import torch
from rounds import format_spread

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


def make_log(n_clicks: int, n_items: int, seed: int = 0) -> EncodedLog:
    """Sessions with the same lengths and popularity ranks for every size of the catalogue."""
    generator = np.random.default_rng(seed)
    lengths = 1 + generator.geometric(1 / (CLICKS_PER_SESSION - 1), size=n_clicks // CLICKS_PER_SESSION)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    places = (n_items * generator.random(offsets[-1]) ** SKEW).astype(np.int64)
    names = generator.permutation(n_items).astype(np.int32)  # numbers are independent of popularity
    width = len(str(n_items))
    vocabulary = Vocabulary(f"item-{number:0{width}d}" for number in range(n_items))
    return EncodedLog(Sessions(names[places], offsets), vocabulary)


def train_forever(trainer: Trainer) -> Iterator[int]:
    """Train epoch after epoch; yields the number of pairs of every step."""
    epoch = 0
    while True:
        for n_pairs, _ in trainer.batching.run(trainer.learner, epoch):
            yield n_pairs
        epoch += 1


def time_steps(steps: Iterator[int], n_steps: int) -> np.ndarray:
    """Mean seconds per step: wall-clock and processor time."""
    start = np.array([time.perf_counter(), time.process_time()])
    for _ in range(n_steps):
        next(steps)
    return (np.array([time.perf_counter(), time.process_time()]) - start) / n_steps


def measure(config: TrainConfig, sizes: list[int], arguments: argparse.Namespace) -> np.ndarray:
    """Seconds per step, [rounds, 2 sizes, 2 kinds of time]."""
    trainings = [train_forever(Trainer(config, make_log(arguments.clicks, size))) for size in sizes]
    for steps in trainings:  # compiles, and fills caches
        pace, _ = time_steps(steps, 20)
    n_steps = max(10, int(arguments.seconds / pace))
    return np.array([[time_steps(steps, n_steps) for steps in trainings] for _ in range(arguments.rounds)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs=2, default=[40_000, 1_000_000], help="[40000 1000000]")
    parser.add_argument("--clicks", type=int, default=3_000_000, help="of each log [3000000]")
    parser.add_argument("--config", nargs="+", choices=list(CONFIGS), default=list(CONFIGS), help="[all]")
    parser.add_argument("--precision", help="[of the parameters]")
    parser.add_argument("--rounds", type=int, default=7, help="[7]")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn, approximately [3]")
    parser.add_argument("--threads", type=int, help="of torch [its default]")
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
            ratios = format_spread(by_clock), format_spread(of_processor)
            print("  {} times as long, {} in processor time; goal at most {}".format(*ratios, GOAL))
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
