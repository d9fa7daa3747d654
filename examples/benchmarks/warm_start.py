"""What a warm start is worth: new clicks on an old model, compared with training from scratch.

    python examples/benchmarks/warm_start.py --train train.parquet --test test.parquet

The old model is trained on all but the last weeks of the training log; that time does not count. Then there are two
ways to a new model:

* from scratch: `gru4rec train --train ALL`
* warm: `gru4rec train --train RECENT --init OLD --n-epochs … --learning-rate …`. RECENT is the last weeks and, with
  --recent-weeks, some weeks before them that the old model knows and should not forget.

Both are evaluated on the test log with every item ranked. They are timed from the encoded log to the model on disk, in
turns for every seed. The times of the clicks have to be in seconds. Configurations are those of `gru4rec train`; the
default is that of whole-session mini-batches.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import packages_first  # noqa: F401
import polars as pl

from gru4rec.config.files import read_config
from gru4rec.config.train_config import WHOLE_SESSION, TrainConfig, from_mapping
from gru4rec.data.events import encode, read_events
from gru4rec.evaluation.assessment import Evaluation
from gru4rec.evaluation.evaluator import evaluate
from gru4rec.training.run import train
from gru4rec.training.warm_start import WarmStart

WEEK = 7 * 86_400


def recent(events: pl.DataFrame, weeks: float) -> pl.Series:
    """Which clicks belong to sessions that began in the last weeks."""
    begins = events.select(pl.col("time").min().over("session")).to_series()
    return begins >= begins.max() - weeks * WEEK


def measured(name: str, seconds: float, result: Evaluation) -> tuple[float, float, float]:
    """Print one way's figures and give its seconds, Recall@20 and MRR@20."""
    recall, mrr = result.recall[20], result.mrr[20]
    print(f"  {name:20} {seconds:8.1f} s   Recall@20 {recall:.4f}   MRR@20 {mrr:.4f}", flush=True)
    return seconds, recall, mrr


def run(arguments: argparse.Namespace, config: TrainConfig, folder: Path) -> tuple[list[float], list[float]]:
    """One seed: the figures of training from scratch, and those of the warm start."""
    events, test = read_events(arguments.train), read_events(arguments.test, part="test")
    is_new = recent(events, arguments.weeks)
    everything, before = encode(events), encode(events.filter(~is_new))
    newest = encode(events.filter(recent(events, max(arguments.weeks, arguments.recent_weeks))))
    n_new = int(is_new.sum())
    print(
        f"seed {config.seed}: {n_new:,} of {len(is_new):,} clicks are new; the warm start is trained on "
        f"{newest.sessions.n_clicks:,}"
    )

    began = time.perf_counter()
    old = train(before, config, directory=folder / "old")
    measured("old model", time.perf_counter() - began, evaluate(old.network, encode(test, old.vocabulary).sessions))

    began = time.perf_counter()
    scratch = train(everything, config, directory=folder / "scratch")
    seconds = time.perf_counter() - began
    of_scratch = measured("from scratch", seconds, evaluate(scratch.network, encode(test, scratch.vocabulary).sessions))

    began = time.perf_counter()
    start = WarmStart.read(folder / "old")
    rate = config.learning_rate * arguments.rate_share
    log = start.extend_vocabulary(newest)
    warm = train(
        log, config.replace(n_epochs=arguments.warm_epochs, learning_rate=rate), directory=folder / "warm", init=start
    )
    seconds = time.perf_counter() - began
    of_warm = measured("warm start", seconds, evaluate(warm.network, encode(test, warm.vocabulary).sessions))
    return list(of_scratch), list(of_warm)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="click log with times in seconds")
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--config", type=Path, help="TOML or official parameter file")
    parser.add_argument("--weeks", type=float, default=2, help="weeks that the old model does not know [default: 2]")
    parser.add_argument("--recent-weeks", type=float, default=0, help="weeks that the warm start trains on, at least")
    parser.add_argument("--warm-epochs", type=int, default=3)
    parser.add_argument("--rate-share", type=float, default=0.5, help="of the learning rate, for the warm start")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    arguments = parser.parse_args()
    values = read_config(arguments.config) if arguments.config else {"batching": WHOLE_SESSION}
    pairs = []
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            pairs.append(run(arguments, from_mapping({**values, "seed": seed}), Path(folder)))
    (seconds, recall, mrr), (warm_seconds, warm_recall, warm_mrr) = (
        [statistics.mean(column) for column in zip(*way, strict=True)] for way in zip(*pairs, strict=True)
    )
    print(
        f"warm start: {warm_recall / recall:.1%} of the Recall@20 and {warm_mrr / mrr:.1%} of the MRR@20 of training "
        f"from scratch in {warm_seconds / seconds:.1%} of its time"
    )


if __name__ == "__main__":
    main()
