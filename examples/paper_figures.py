"""The figures of "Recurrent Neural Networks with Top-k Gains" (arXiv 1706.03847) on your own log, with one command.

    python examples/paper_figures.py --train train.parquet --test test.parquet --out figures

(a) Recall@20 and MRR@20 against the number of additional samples, for TOP1, cross-entropy, TOP1-max and BPR-max, as in
figure 4; (b) training time against it, as in figure 5; (c) quality against alpha with few and with many samples;
(d) the argument behind them: the gradient on the target, and the share of the negatives that still carry gradient.

The models are grids of the search (`tune`), each in a folder of its own, so the same command resumes an interrupted
study. The learning rate of every loss is chosen with 512 samples on the last tenth of the training sessions. All other
models are trained on all of them and evaluated on the test only after their last epoch. OUT receives figures.md, which
says where the curves agree with the paper, PNG pictures and CSV tables.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from paper_gradients import Probe, count_states, train_with_probes
from paper_report import Results, write_report

from gru4rec.commands.terminal import print_status
from gru4rec.config.train_config import TrainConfig
from gru4rec.data.events import encode, hold_out_last, read_events
from gru4rec.data.sessions import EncodedLog, Sessions
from inference.shared.atomic import atomic_file, write_errors
from inference.shared.columns import Columns
from inference.shared.errors import UserError
from tune import SearchSettings, run_search
from tune.cluster.cluster import connect
from tune.trials.results import TrialResult
from tune.trials.trial import EPOCH_METRIC

LOSSES = ("top1", "cross-entropy", "top1-max", "bpr-max")
SAMPLES = "0,32,128,512,2048,8192,all"
TUNED_WITH = 512
RATES = "0.02,0.05,0.1,0.2"
ALPHAS = "0,0.25,0.5,0.75,1"
CLOCK_FILE = "seconds.json"


@dataclass(frozen=True)
class Study:
    """The data and flags of the study.

    Attributes:
        out: folder of the results.
        log: training sessions.
        test: sessions on which the curves are measured.
        arguments: the flags.
    """

    out: Path
    log: EncodedLog
    test: Sessions
    arguments: argparse.Namespace

    def run_grid(self, name: str, over: Sequence[str], values: dict[str, str], *, on_test: bool) -> list[TrialResult]:
        """Run a grid, or what is missing of it; returns its finished trials.

        Args:
            name: of its folder.
            over: the dimensions to vary.
            values: of these and of other dimensions.
            on_test: whether to measure on the test or on the last training sessions.
        """
        flags = self.arguments
        settings = SearchSettings(
            train=self.out / "data" / "train.parquet",
            valid=self.out / "data" / "test.parquet" if on_test else None,
            out=self.out / "grids" / name,
            grid=list(over),
            epochs=flags.epochs,
            seed=flags.seed,
            cpus_per_trial=flags.threads,
            threads=flags.threads,
            refit=False,
            space_values={"layers": str(flags.layers), "batch_size": str(flags.batch_size)} | values,
        )
        print_status(f"{name}: {', '.join(over)}")
        outcome = run_search(settings)
        if outcome.ending != "complete":
            raise KeyboardInterrupt
        return [trial for trial in outcome.trials if trial.status == "finished"]


def try_learning_rates(study: Study) -> list[dict[str, Any]]:
    """Quality of every loss with every learning rate, on held-out training sessions."""
    losses = study.arguments.losses
    values = {"loss": ",".join(losses), "learning_rate": study.arguments.rates, "n_sample": str(TUNED_WITH)}
    trials = study.run_grid("learning-rate", ("loss", "learning_rate"), values, on_test=False)
    return [
        {"loss": trial.config.loss, "learning_rate": trial.config.learning_rate, **_quality(trial)} for trial in trials
    ]


def choose_rates(study: Study, rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The best learning rate of every loss."""
    best: dict[str, str] = {}
    for loss in study.arguments.losses:
        of_loss = [row for row in rows if row["loss"] == loss]
        if not of_loss:
            raise UserError(
                f"{loss}: no learning rate of {study.arguments.rates} was trained to the end; give lower --rates"
            )
        best[loss] = str(max(of_loss, key=lambda row: row["mrr@20"])["learning_rate"])
    return best


def vary_samples(study: Study, rates: dict[str, str]) -> list[dict[str, Any]]:
    """Quality and time of every loss with every number of samples."""
    wanted = study.arguments.samples.split(",")
    numbers = ",".join(number for number in wanted if number != "all")
    samplers = "popularity,full" if "all" in wanted else "popularity"
    rows = []
    for loss, rate in rates.items():
        values = {"loss": loss, "learning_rate": rate, "sampler": samplers, "n_sample": numbers}
        for trial in study.run_grid(f"samples-{loss}", ("sampler", "n_sample"), values, on_test=True):
            is_full = trial.config.sampler == "full"
            n_sample = len(study.log.vocabulary) if is_full else trial.config.n_sample
            seconds = study.log.sessions.n_pairs / trial.history[-1]["events_per_second"]
            rows.append({"loss": loss, "n_sample": n_sample, **_quality(trial), "seconds per epoch": round(seconds, 3)})
    return rows


def vary_alpha(study: Study, rates: dict[str, str]) -> list[dict[str, Any]]:
    """Quality of every loss with every alpha, with few and with many samples."""
    rows = []
    for loss, rate in rates.items():
        values = {
            "loss": loss,
            "learning_rate": rate,
            "n_sample": f"{study.arguments.few},{study.arguments.many}",
            "sample_alpha": study.arguments.alphas,
        }
        rows += [
            {
                "loss": loss,
                "n_sample": trial.config.n_sample,
                "sample_alpha": trial.config.sample_alpha,
                **_quality(trial),
            }
            for trial in study.run_grid(f"alpha-{loss}", ("n_sample", "sample_alpha"), values, on_test=True)
        ]
    return rows


def follow_gradients(study: Study, rates: dict[str, str]) -> list[Probe]:
    """Gradients of every loss with few, some and many samples, during training."""
    flags = study.arguments
    early, held_out = hold_out_last(study.log)
    folder = study.out / "gradients"
    folder.mkdir(exist_ok=True)
    probes = []
    for loss, rate in rates.items():
        for n_sample in sorted({flags.few, TUNED_WITH, flags.many}):
            print_status(f"gradients: {loss}, {n_sample} samples")
            config = TrainConfig(
                loss=loss,
                learning_rate=float(rate),
                n_sample=n_sample,
                layers=(flags.layers,),
                batch_size=flags.batch_size,
                n_epochs=flags.epochs,
                seed=flags.seed,
                device="cpu",
            )
            probes += train_with_probes(config, early, held_out, folder / f"{loss}-{n_sample}.json")
    return probes


def _quality(trial: TrialResult) -> dict[str, float]:
    """Of the last epoch: choosing the best one would use the test."""
    last = trial.history[-1]
    return {"recall@20": last["epoch_recall@20"], "mrr@20": last[EPOCH_METRIC]}


def read_logs(flags: argparse.Namespace) -> tuple[EncodedLog, Sessions]:
    """Read the latest training sessions and a sample of the test sessions, and write both to --out."""
    columns = Columns(flags.session_column, flags.item_column, flags.time_column)
    everything = encode(read_events(flags.train, columns))
    first = everything.sessions.n_sessions - max(2, round(everything.sessions.n_sessions * flags.fraction))
    events = _events(everything, everything.sessions.slice(max(first, 0), everything.sessions.n_sessions))
    log = encode(events)
    known = encode(read_events(flags.test, columns, part="test"), log.vocabulary).sessions
    longer = [number for number in range(known.n_sessions) if known.lengths[number] > 1]
    if not longer:
        raise UserError(f"{flags.test}: expected sessions with two items of the training sessions, got none")
    every = max(1, len(longer) // flags.test_sessions)
    items = [
        known.items[known.offsets[number] : known.offsets[number + 1]].tolist()
        for number in longer[::every][: flags.test_sessions]
    ]
    test = Sessions.from_lists(items)
    folder = flags.out / "data"
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, frame in (("train", events), ("test", _events(log, test))):
        names = {"session": "SessionId", "item": "ItemId", "time": "Time"}
        with atomic_file(folder / f"{name}.parquet") as file:
            frame.rename(names).write_parquet(file)
    return log, test


def check_held_out(log: EncodedLog, flags: argparse.Namespace) -> None:
    """Fail early, before hours of training, if (d) would be impossible.

    Raises:
        UserError: the last tenth of the training sessions is smaller than a batch.
    """
    found = count_states(hold_out_last(log)[1].lengths)
    if found < flags.batch_size:
        raise UserError(
            f"{flags.train}: expected {flags.batch_size} clicks, a batch, or more in the last tenth of the training "
            f"sessions, got {found}; give a larger --fraction or a smaller --batch-size"
        )


def _events(log: EncodedLog, sessions: Sessions) -> pl.DataFrame:
    """Sessions as a table of events, in their order."""
    terms = pl.Series("item", log.vocabulary.terms())
    number = (
        pl.Series("session", range(sessions.n_sessions), dtype=pl.Int64)
        .repeat_by(pl.Series(sessions.lengths))
        .explode()
    )
    return pl.DataFrame(
        {
            "session": number.cast(pl.String),
            "item": terms.gather(sessions.items),
            "time": pl.Series(range(sessions.n_clicks), dtype=pl.Int64),
        }
    )


def run(flags: argparse.Namespace) -> None:
    """Make all figures, reusing what is there already."""
    start = time.time()
    clock = flags.out / CLOCK_FILE
    log, test = read_logs(flags)
    check_held_out(log, flags)
    before = json.loads(clock.read_text()) if clock.exists() else 0.0
    study = Study(flags.out, log, test, flags)
    (flags.out / "grids").mkdir(exist_ok=True)
    try:
        with connect(None, log.sessions.items.nbytes + 64 * len(log.vocabulary)):
            rate_rows = try_learning_rates(study)
            rates = choose_rates(study, rate_rows)
            sample_rows = vary_samples(study, rates)
            alpha_rows = vary_alpha(study, rates)
        probes = follow_gradients(study, rates)
    finally:
        seconds = before + time.time() - start
        with atomic_file(clock) as file:
            file.write_text(json.dumps(seconds))
    summary = (
        f"{log.sessions.n_clicks:,} clicks to train on ({log.sessions.n_sessions:,} sessions, "
        f"{len(log.vocabulary):,} items), {test.n_pairs:,} events to test on; {flags.epochs} epochs, "
        f"{flags.layers} units, batches of {flags.batch_size}, seed {flags.seed}; learning rates, chosen on the last "
        f"tenth of the training sessions: {', '.join(f'{loss} {rate}' for loss, rate in rates.items())}. "
        f"All of it took {seconds / 60:.1f} minutes. Trials ran side by side: compare their times with each other only."
    )
    results = Results(rate_rows, sample_rows, alpha_rows, [vars(probe) for probe in probes])
    write_report(flags.out, results, summary)
    print(flags.out / "figures.md")


def parse_flags() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--train", type=Path, required=True, help="click log to train on")
    add("--test", type=Path, required=True, help="click log to measure on")
    add("--out", type=Path, required=True, help="folder of the results; an interrupted study in it is resumed")
    add("--losses", default=",".join(LOSSES), type=lambda text: text.split(","), help="[default: %(default)s]")
    add("--samples", default=SAMPLES, help="additional samples of (a) and (b) [default: %(default)s]")
    add("--rates", default=RATES, help="learning rates to choose from [default: %(default)s]")
    add("--alphas", default=ALPHAS, help="of (c) [default: %(default)s]")
    add("--few", type=int, default=32, help="samples of (c) and (d) [default: %(default)s]")
    add("--many", type=int, default=2048, help="samples of (c) and (d) [default: %(default)s]")
    add("--epochs", type=int, default=3, help="of every model [default: %(default)s]")
    add("--fraction", type=float, default=0.1, help="of the training sessions, the latest [default: %(default)s]")
    add("--test-sessions", type=int, default=2000, help="at most, evenly spread over the test [default: %(default)s]")
    add("--layers", type=int, default=100, help="units [default: %(default)s]")
    add("--batch-size", type=int, default=64, help="[default: %(default)s]")
    add("--threads", type=int, default=1, help="processors of a trial [default: %(default)s]")
    add("--seed", type=int, default=1, help="[default: %(default)s]")
    for role, name in (("session", "SessionId"), ("item", "ItemId"), ("time", "Time")):
        add(f"--{role}-column", default=name, help=f"name of the column with the {role} [default: %(default)s]")
    flags = parser.parse_args()
    if not 0 < flags.fraction <= 1:
        parser.error(f"--fraction: expected more than 0 and at most 1, got {flags.fraction}")
    if flags.test_sessions < 1:
        parser.error(f"--test-sessions: expected at least 1, got {flags.test_sessions}")
    if flags.few >= flags.many:
        parser.error(f"--few: expected fewer than the {flags.many} of --many, got {flags.few}")
    return flags


def main() -> int:
    """Run the study; returns the exit code."""
    flags = parse_flags()
    try:
        run(flags)
    except UserError as error:
        print_status(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        print_status("interrupted; the same command resumes")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
