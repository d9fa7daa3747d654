"""Training time until ours is as good as the authors' PyTorch code at the end of its training.

    python examples/benchmarks/time_to_quality.py --official ../GRU4Rec_PyTorch_Official \\
        --train train.parquet --test test.parquet --config diginetica

The official code trains for all epochs of one of its parameter files; its MRR@20 on the test log is the goal. Ours
trains with the defaults of `--batching whole-session` and is evaluated after every epoch. Its time ends with the first
epoch whose MRR@20 reaches the goal; later epochs are run and printed as well. Its learning rate falls towards the last
epoch, so --epochs is part of the setting: give it beforehand, do not choose it from the result.

Both times are wall-clock time in a process of its own, from before the log is read until the last step, without imports
and evaluations. Both rank every item, with ties in the target's favour.

The official run takes long. The result of an earlier one on the same machine can replace it: --official-seconds and
--official-mrr, as printed here.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import official_code
from rounds import run_turn

from gru4rec.config.train_config import WHOLE_SESSION, from_mapping
from inference.shared.errors import UserError


def run_official(arguments: argparse.Namespace) -> None:
    """Train with the official code; prints one line of JSON."""
    official = official_code.load(arguments.official)
    parameters = official_code.published_parameters(arguments.official, arguments.config)
    start = time.perf_counter()
    clicks = official_code.read_clicks(arguments.train)
    model = official.model(parameters, seed=arguments.seed)
    official.train(model, clicks)
    seconds = time.perf_counter() - start
    recall, mrr = official.evaluate(model, official_code.read_clicks(arguments.test))
    print(json.dumps({"epoch": parameters["n_epochs"], "seconds": seconds, "recall@20": recall, "mrr@20": mrr}))


def run_ours(arguments: argparse.Namespace) -> None:
    """Train with ours; prints a line of JSON after every epoch."""
    from gru4rec.data.encoded_log import read_training_log
    from gru4rec.data.events import encode, read_events
    from gru4rec.evaluation.evaluator import evaluate
    from gru4rec.training.trainer import Trainer

    config = read_our_config(arguments)
    start = time.perf_counter()
    log = read_training_log(arguments.train)
    trainer = Trainer(config, log)
    test, evaluating = None, 0.0
    while trainer.epoch < config.n_epochs:
        trainer.run_epoch()
        seconds = time.perf_counter() - start - evaluating
        if test is None:
            test = encode(read_events(arguments.test, part="test"), log.vocabulary).sessions
        quality = evaluate(trainer.network, test, cutoffs=[20])
        evaluating = time.perf_counter() - start - seconds
        print(
            json.dumps({"epoch": trainer.epoch, "seconds": seconds, **quality.as_dict()}),
            flush=True,
        )


def read_our_config(arguments: argparse.Namespace) -> Any:
    """The defaults of whole-session batching, with the changes that the flags make."""
    chosen = {"n_epochs": arguments.epochs} if arguments.epochs else {}
    values = [pair.partition("=") for pair in arguments.set or []]
    return from_mapping(
        {
            "batching": WHOLE_SESSION,
            "device": "cpu",
            "seed": arguments.seed,
            **chosen,
            **{name.replace("-", "_"): value for name, _, value in values},
        }
    )


def collect(arguments: argparse.Namespace, run: str) -> list[dict[str, Any]]:
    """Run one of the trainings in a process of its own, and print its points as they come."""
    changes = [part for pair in arguments.set or [] for part in ("--set", pair)]
    flags = ("official", "train", "test", "config", "seed", "epochs", "threads")
    points = []
    for point in run_turn(__file__, arguments, flags, "--run", run, *changes):
        points.append(point)
        print_point(run, point)
    return points


def print_point(run: str, line: dict[str, Any]) -> None:
    """Print the quality after an epoch."""
    print(
        f"{run:9} epoch {line['epoch']:3}  {line['seconds']:8.1f} s  recall@20 {line['recall@20']:.4f}  "
        f"mrr@20 {line['mrr@20']:.4f}",
        flush=True,
    )


def compare(theirs: dict[str, Any], ours: list[dict[str, Any]]) -> tuple[float | None, str]:
    """The share of their time that ours took to their MRR@20 (None if never reached), and a sentence."""
    reached = next((line for line in ours if line["mrr@20"] >= theirs["mrr@20"]), None)
    goal = f"MRR@20 {theirs['mrr@20']:.4f} of the official code, which took {theirs['seconds']:.1f} s"
    if reached is None:
        best = max(line["mrr@20"] for line in ours)
        return None, f"{goal}: not reached by ours in {ours[-1]['epoch']} epochs (best {best:.4f})"
    share = reached["seconds"] / theirs["seconds"]
    return share, (
        f"{goal}: ours after epoch {reached['epoch']} of {ours[-1]['epoch']} in {reached['seconds']:.1f} s, "
        f"{share:.3f} of the time (1/{1 / share:.1f})"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    official_code.add_flags(parser, official_required=False)
    parser.add_argument(
        "--config", choices=list(official_code.PARAMETER_FILES), default="retailrocket", help="of theirs [retailrocket]"
    )
    parser.add_argument("--epochs", type=int, help="of ours [the default of whole-session batching]")
    parser.add_argument(
        "--set", action="append", metavar="NAME=VALUE", help="another field of our configuration; may be repeated"
    )
    parser.add_argument("--seed", type=int, default=1, help="of both [1]")
    parser.add_argument("--threads", type=int, help="of torch, in both [its own choice]")
    parser.add_argument("--official-seconds", type=float, help="of an earlier official run")
    parser.add_argument("--official-mrr", type=float, help="MRR@20 of an earlier official run")
    parser.add_argument("--json", type=Path, help="also write the measurements to this file")
    parser.add_argument("--run", choices=["official", "ours"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    earlier = arguments.official_seconds, arguments.official_mrr
    try:
        if arguments.run:
            if arguments.threads:
                import torch

                torch.set_num_threads(arguments.threads)
            {"official": run_official, "ours": run_ours}[arguments.run](arguments)
            return 0
        read_our_config(arguments)
        if None in earlier and (earlier != (None, None) or arguments.official is None):
            raise UserError("give --official DIR, or both --official-seconds and --official-mrr of an earlier run")
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    ours = collect(arguments, "ours")
    theirs = (
        collect(arguments, "official")[-1]
        if None in earlier
        else {"seconds": arguments.official_seconds, "mrr@20": arguments.official_mrr}
    )
    share, sentence = compare(theirs, ours)
    print(sentence)
    if arguments.json:
        arguments.json.write_text(json.dumps({"official": theirs, "ours": ours, "share": share}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
