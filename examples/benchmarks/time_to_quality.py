"""How long training takes until it is as good as the authors' PyTorch code is at the end.

    python examples/benchmarks/time_to_quality.py --official ../GRU4Rec_PyTorch_Official \\
        --train train.parquet --test test.parquet --config diginetica

The official code trains for all epochs of one of its parameter files; its MRR@20 on the test log is the goal. Ours
trains on whole-session mini-batches with their defaults and is evaluated after every epoch. Its time runs until the end
of the first epoch whose MRR@20 reaches the goal. Its learning rate falls towards the last epoch, so --epochs is part of
what is measured: choose it beforehand, not from the result. The remaining epochs run and are shown, too.

Both times are wall-clock times of separate processes, from before the log is read until the last step. Imports and
evaluations are left out: an evaluation checks the goal and is not part of training. In both, every item is ranked, with
ties in the target's favour.

The official run takes long. To reuse an earlier one, give --official-seconds and --official-mrr as printed here on the
same machine.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import official_code

from gru4rec.config.train_config import WHOLE_SESSION, from_mapping
from inference.shared.errors import UserError


def official_run(arguments: argparse.Namespace) -> None:
    """Train with the official code; one line of JSON."""
    official = official_code.load(arguments.official)
    parameters = official_code.published_parameters(arguments.official, arguments.config)
    began = time.perf_counter()
    clicks = official_code.read_clicks(arguments.train)
    model = official.model(parameters, seed=arguments.seed)
    official.train(model, clicks)
    seconds = time.perf_counter() - began
    recall, mrr = official.evaluate(model, official_code.read_clicks(arguments.test))
    print(json.dumps({"epoch": parameters["n_epochs"], "seconds": seconds, "recall@20": recall, "mrr@20": mrr}))


def our_run(arguments: argparse.Namespace) -> None:
    """Train with ours; a line of JSON after every epoch."""
    from gru4rec.data.encoded_log import read_training_log
    from gru4rec.data.events import encode, read_events
    from gru4rec.evaluation.evaluator import evaluate
    from gru4rec.training.trainer import Trainer

    config = our_config(arguments)
    began = time.perf_counter()
    log = read_training_log(arguments.train)
    trainer = Trainer(config, log)
    test, evaluating = None, 0.0
    while trainer.epoch < config.n_epochs:
        trainer.run_epoch()
        seconds = time.perf_counter() - began - evaluating
        if test is None:
            test = encode(read_events(arguments.test, part="test"), log.vocabulary).sessions
        quality = evaluate(trainer.network, test, cutoffs=[20])
        evaluating = time.perf_counter() - began - seconds
        print(
            json.dumps({"epoch": trainer.epoch, "seconds": seconds, **quality.as_dict()}),
            flush=True,
        )


def our_config(arguments: argparse.Namespace) -> Any:
    """The defaults of whole-session batching, but for what the flags say."""
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


def in_a_new_process(arguments: argparse.Namespace, run: str) -> list[dict[str, Any]]:
    """The lines that a run prints, also shown here as they come."""
    command = [sys.executable, __file__, "--run", run]
    for flag in ("official", "train", "test", "config", "seed", "epochs", "threads"):
        value = getattr(arguments, flag)
        command += [f"--{flag}", str(value)] if value is not None else []
    command += [part for pair in arguments.set or [] for part in ("--set", pair)]
    environment = dict(os.environ)
    if arguments.threads:
        environment["OMP_NUM_THREADS"] = str(arguments.threads)
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(json.loads(line))
            show(run, lines[-1])
    if process.returncode:
        raise SystemExit(process.returncode)
    return lines


def show(run: str, line: dict[str, Any]) -> None:
    """One measured point."""
    print(
        f"{run:9} epoch {line['epoch']:3}  {line['seconds']:8.1f} s  recall@20 {line['recall@20']:.4f}  "
        f"mrr@20 {line['mrr@20']:.4f}",
        flush=True,
    )


def compared(theirs: dict[str, Any], ours: list[dict[str, Any]]) -> tuple[float | None, str]:
    """The share of their time that ours took to their MRR@20, None if it never got there, and a sentence."""
    reached = next((line for line in ours if line["mrr@20"] >= theirs["mrr@20"]), None)
    goal = f"MRR@20 {theirs['mrr@20']:.4f} of the official code, reached there in {theirs['seconds']:.1f} s"
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
    parser.add_argument("--official", type=Path, help="a clone of the official repository")
    parser.add_argument("--train", type=Path, required=True, help="training log: SessionId, ItemId, Time")
    parser.add_argument("--test", type=Path, required=True, help="test log")
    parser.add_argument(
        "--config", choices=list(official_code.PARAMETER_FILES), default="retailrocket", help="theirs [retailrocket]"
    )
    parser.add_argument("--epochs", type=int, help="ours [the default of whole-session batching]")
    parser.add_argument(
        "--set", action="append", metavar="NAME=VALUE", help="another field of our configuration; may be repeated"
    )
    parser.add_argument("--seed", type=int, default=1, help="of both [1]")
    parser.add_argument("--threads", type=int, help="of torch, in both [its own choice]")
    parser.add_argument("--official-seconds", type=float, help="of a former official run")
    parser.add_argument("--official-mrr", type=float, help="MRR@20 of a former official run")
    parser.add_argument("--json", type=Path, help="write what was measured here, too")
    parser.add_argument("--run", choices=["official", "ours"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    former = arguments.official_seconds, arguments.official_mrr
    try:
        if arguments.run:
            if arguments.threads:
                import torch

                torch.set_num_threads(arguments.threads)
            {"official": official_run, "ours": our_run}[arguments.run](arguments)
            return 0
        our_config(arguments)
        if None in former and (former != (None, None) or arguments.official is None):
            raise UserError("give --official DIR, or both --official-seconds and --official-mrr of a former run")
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    ours = in_a_new_process(arguments, "ours")
    theirs = (
        in_a_new_process(arguments, "official")[-1]
        if None in former
        else {"seconds": arguments.official_seconds, "mrr@20": arguments.official_mrr}
    )
    share, sentence = compared(theirs, ours)
    print(sentence)
    if arguments.json:
        arguments.json.write_text(json.dumps({"official": theirs, "ours": ours, "share": share}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
