"""Evaluation speed, next to the evaluation loop of the authors' PyTorch code, on the same model and data.

    python examples/benchmarks/evaluation.py --official ../GRU4Rec_PyTorch_Official --model model \\
        --train train.parquet --test test.parquet

The weights of one of our models, trained on --train with a constrained embedding and one layer, are copied into a model
of theirs. Both rank every item for every event, in turns, in this process, and must reach the same Recall@20 and
MRR@20. A third row also collects the best items of every event, which `gru4rec evaluate` needs for coverage. A ratio is
the median of the rounds, with the lowest and highest. Reading files and encoding are not measured.

Needs a clone of github.com/hidasib/GRU4Rec_PyTorch_Official, pandas and pyarrow.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import official_code
import torch

from gru4rec.data.events import encode, read_events
from gru4rec.evaluation.assessment import summarize
from gru4rec.evaluation.network_ranking import rank_with_network
from gru4rec.model.network import Network
from gru4rec.training.checkpoint import load_model
from inference.shared.errors import UserError
from inference.shared.vocabulary import Vocabulary

CUTOFF = 20
OFFICIAL, OURS, WITH_BEST = "official", "ours", "ours, with the best 20"


def build_official_model(
    code: official_code.OfficialCode, network: Network, vocabulary: Vocabulary, clicks: Any
) -> Any:
    """Copy the weights of ours into a model of theirs.

    Raises:
        UserError: ours has more than one layer, another embedding or cosine scores, or was trained on other items.
    """
    parameters = {"layers": list(network.widths), "n_sample": 0, "n_epochs": 0, "constrained_embedding": True}
    model = code.model(parameters)
    code.train(model, clicks)  # for no epoch: this builds the model
    model.n_sample = 1  # else its loop stops before the end of the last session
    with torch.no_grad():
        for theirs, ours, rows in official_code.pair_weights(model, network, vocabulary):
            theirs.copy_(ours[torch.from_numpy(rows)])
    return model


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run all rounds: the official loop, ours, ours with the best items."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    code = official_code.load(arguments.official)
    loaded = load_model(arguments.model, device="cpu")
    train, test = (official_code.read_clicks(path) for path in (arguments.train, arguments.test))
    theirs = build_official_model(code, loaded.network, loaded.vocabulary, train)
    sessions = encode(read_events(arguments.test), loaded.vocabulary).sessions

    def ours(n_best: int) -> tuple[float, float]:
        result = summarize(rank_with_network(loaded.network, sessions, n_best=n_best), [CUTOFF], "standard")
        return result.recall[CUTOFF], result.mrr[CUTOFF]

    loops: dict[str, Callable[[], tuple[float, float]]] = {
        OFFICIAL: lambda: code.evaluate(theirs, test),
        OURS: lambda: ours(0),
        WITH_BEST: lambda: ours(CUTOFF),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    figures = {}
    for number in range(arguments.rounds):
        for name, loop in loops.items():
            start = time.perf_counter()
            figures[name] = loop()
            seconds[name].append(time.perf_counter() - start)
            sys.stderr.write(f"round {number + 1}, {name}: {seconds[name][-1]:.1f} s\n")
    for name, (recall, mrr) in figures.items():
        differences = abs(recall - figures[OFFICIAL][0]), abs(mrr - figures[OFFICIAL][1])
        if max(differences) > official_code.SAME:
            raise SystemExit(f"{name}: expected {figures[OFFICIAL]}, got {recall}, {mrr}: not the same evaluation")
    return {
        "events": sessions.n_pairs,
        "items": loaded.network.n_items,
        "units": loaded.network.widths[0],
        "threads": torch.get_num_threads(),
        "recall@20": figures[OURS][0],
        "mrr@20": figures[OURS][1],
        "seconds": seconds,
        "ratios": {
            name: [theirs / ours for theirs, ours in zip(seconds[OFFICIAL], each, strict=True)]
            for name, each in seconds.items()
        },
    }


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    official_code.add_flags(parser)
    parser.add_argument("--model", type=Path, required=True, help="model directory, trained on --train")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="CPU threads [default: those of torch]")
    parser.add_argument("--json", type=Path, help="also write the measurements to this file")
    arguments = parser.parse_args()
    try:
        result = measure(arguments)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    print(
        f"{result['events']:,} events, {result['items']:,} items, {result['units']} units, "
        f"{result['threads']} threads; both: Recall@20 {result['recall@20']:.4f}, MRR@20 {result['mrr@20']:.4f}"
    )
    for name, ratios in result["ratios"].items():
        median = statistics.median(result["seconds"][name])
        print(
            f"{name:24} {median:7.1f} s  {result['events'] / median:9,.0f} events/s  "
            f"{statistics.median(ratios):.2f} times ({min(ratios):.2f}–{max(ratios):.2f})"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
