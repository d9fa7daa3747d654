"""Compare a warm start, new clicks on an old model, with training from scratch on all clicks.

    python examples/benchmarks/warm_start.py --train train.parquet --test test.parquet

The old model is trained on all but the last weeks of the training log; its training time is not counted. There are two
ways to a model that includes the last weeks:

* from scratch: `gru4rec train --train ALL`
* warm: `gru4rec train --train RECENT --init OLD --n-epochs … --learning-rate …`, where RECENT is the last weeks and,
  with --recent-weeks, some weeks before them, which the old model should not forget.

Both are evaluated on the test log, every item ranked, and timed from the encoded log to the model on disk, in turns
for every seed. The log's times must be in seconds. Configurations are those of `gru4rec train`; without --config, the
defaults of whole-session batching.
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
from gru4rec.evaluation.evaluator import evaluate
from gru4rec.training.checkpoint import Model
from gru4rec.training.run import train
from gru4rec.training.warm_start import WarmStart

WEEK = 7 * 86_400


def is_recent(events: pl.DataFrame, weeks: float) -> pl.Series:
    """Which clicks belong to sessions that began in the last weeks."""
    begins = events.select(pl.col("time").min().over("session")).to_series()
    return begins >= begins.max() - weeks * WEEK


def run(arguments: argparse.Namespace, config: TrainConfig, folder: Path) -> tuple[list[float], list[float]]:
    """Run one seed; returns the figures of training from scratch and of the warm start."""
    events, test = read_events(arguments.train), read_events(arguments.test, part="test")
    is_new = is_recent(events, arguments.weeks)
    everything, before = encode(events), encode(events.filter(~is_new))
    newest = encode(events.filter(is_recent(events, max(arguments.weeks, arguments.recent_weeks))))
    print(
        f"seed {config.seed}: {int(is_new.sum()):,} of {len(is_new):,} clicks are new; the warm start is trained on "
        f"{newest.sessions.n_clicks:,}"
    )

    def print_quality(name: str, begin: float, model: Model) -> list[float]:
        """Print the figures of a model; returns its seconds, Recall@20 and MRR@20."""
        seconds = time.perf_counter() - begin
        quality = evaluate(model.network, encode(test, model.vocabulary).sessions)
        recall, mrr = quality.recall[20], quality.mrr[20]
        print(f"  {name:20} {seconds:8.1f} s   Recall@20 {recall:.4f}   MRR@20 {mrr:.4f}", flush=True)
        return [seconds, recall, mrr]

    begin = time.perf_counter()
    print_quality("old model", begin, train(before, config, directory=folder / "old"))

    begin = time.perf_counter()
    scratch = print_quality("from scratch", begin, train(everything, config, directory=folder / "scratch"))

    begin = time.perf_counter()
    start = WarmStart.read(folder / "old")
    log = start.extend_vocabulary(newest)
    rate = config.learning_rate * arguments.rate_share
    config = config.replace(n_epochs=arguments.warm_epochs, learning_rate=rate)
    warm = print_quality("warm start", begin, train(log, config, directory=folder / "warm", init=start))
    return scratch, warm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="click log with times in seconds")
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--config", type=Path, help="TOML or official parameter file")
    parser.add_argument("--weeks", type=float, default=2, help="which the old model does not know [default: 2]")
    parser.add_argument("--recent-weeks", type=float, default=0, help="at least, of the warm start's training")
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
