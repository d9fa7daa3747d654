"""How fast a test is evaluated, compared with the evaluation loop of the authors' PyTorch code.

    python examples/benchmarks/evaluation.py --official ../GRU4Rec_PyTorch_Official --model model \\
        --train train.parquet --test test.parquet

The weights of one of our models, trained on --train with a constrained embedding and one layer, are copied into a model
of theirs. Both rank every item for every event, in turns, in this process, and both have to give the same Recall@20 and
MRR@20. A third column also collects the best items of every event, as `gru4rec evaluate` does for coverage. A ratio is
the median of the rounds, with the lowest and the highest. Only the loop is measured, not reading files or encoding.

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


def official_model(code: official_code.OfficialCode, network: Network, vocabulary: Vocabulary, clicks: Any) -> Any:
    """A model of theirs with the weights of ours.

    Raises:
        UserError: ours has more than one layer, another embedding or cosine scores, or was trained on other items.
    """
    parameters = {"layers": list(network.widths), "n_sample": 0, "n_epochs": 0, "constrained_embedding": True}
    model = code.model(parameters)
    code.train(model, clicks)  # no epoch: it only builds the model
    model.n_sample = 1  # without additional samples its loop leaves the last session as soon as it is the only one
    with torch.no_grad():
        for theirs, ours, rows in official_code.paired_weights(model, network, vocabulary):
            theirs.copy_(ours[torch.from_numpy(rows)])
    return model


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All rounds: the official loop, ours, ours with more, and again."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    code = official_code.load(arguments.official)
    loaded = load_model(arguments.model, device="cpu")
    train, test = (official_code.read_clicks(path) for path in (arguments.train, arguments.test))
    theirs = official_model(code, loaded.network, loaded.vocabulary, train)
    sessions = encode(read_events(arguments.test), loaded.vocabulary).sessions

    def ours(n_best: int) -> tuple[float, float]:
        result = summarize(rank_with_network(loaded.network, sessions, n_best=n_best), [CUTOFF], "standard")
        return result.recall[CUTOFF], result.mrr[CUTOFF]

    ways: dict[str, Callable[[], tuple[float, float]]] = {
        OFFICIAL: lambda: code.evaluate(theirs, test),
        OURS: lambda: ours(0),
        WITH_BEST: lambda: ours(CUTOFF),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    figures = {}
    for number in range(arguments.rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            figures[name] = way()
            seconds[name].append(time.perf_counter() - began)
            sys.stderr.write(f"round {number + 1}, {name}: {seconds[name][-1]:.1f} s\n")
    for name, (recall, mrr) in figures.items():
        if (
            abs(recall - figures[OFFICIAL][0]) > official_code.SAME
            or abs(mrr - figures[OFFICIAL][1]) > official_code.SAME
        ):
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
    """Measure and show; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, required=True, help="clone of the official repository")
    parser.add_argument("--model", type=Path, required=True, help="model directory")
    parser.add_argument("--train", type=Path, required=True, help="the log that it was trained on")
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="CPU threads [default: those of torch]")
    parser.add_argument("--json", type=Path, help="write what was measured here, too")
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
