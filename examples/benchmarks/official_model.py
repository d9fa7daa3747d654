"""Train a model with the authors' PyTorch code and save it as a model directory of ours.

    python examples/benchmarks/official_model.py --official ../GRU4Rec_PyTorch_Official --train train.parquet \\
        --test test.parquet --config retailrocket --seed 1 --out theirs
    gru4rec evaluate model --test test.parquet --versus theirs

Their code trains with one of its parameter files and ranks the test. Its weights are copied into a network of ours,
which ranks the test as well. The model is saved only if both rankings reach the same Recall@20 and MRR@20. Then it can
be compared with a model of ours session by session, or exported as an ONNX file.

Needs a clone of github.com/hidasib/GRU4Rec_PyTorch_Official, pandas and pyarrow.
"""

import argparse
import sys
import time
from pathlib import Path

import official_code
import torch

from gru4rec.config.train_config import from_mapping
from gru4rec.data.events import encode, read_events
from gru4rec.evaluation.evaluator import evaluate
from gru4rec.model.network import Network
from gru4rec.training import checkpoint
from gru4rec.training.run import data_digest
from inference.shared.atomic import atomic_folder
from inference.shared.errors import UserError


def train_and_save(arguments: argparse.Namespace) -> str:
    """Train with their code, rank with both, and save the model; returns a summary in one line."""
    code = official_code.load(arguments.official)
    parameters = official_code.published_parameters(arguments.official, arguments.config)
    log = encode(read_events(arguments.train))
    network = Network(len(log.vocabulary), config := from_mapping(parameters | {"seed": arguments.seed}))
    test = encode(read_events(arguments.test, part="test"), log.vocabulary).sessions

    clicks = official_code.read_clicks(arguments.train)
    theirs = code.model(parameters, seed=arguments.seed)
    start = time.perf_counter()
    code.train(theirs, clicks)
    seconds = time.perf_counter() - start
    recall, mrr = code.evaluate(theirs, official_code.read_clicks(arguments.test))

    with torch.no_grad():
        for from_theirs, ours, rows in official_code.pair_weights(theirs, network, log.vocabulary):
            ours[torch.from_numpy(rows)] = from_theirs
    quality = evaluate(network, test, cutoffs=[20])
    if abs(quality.recall[20] - recall) > official_code.SAME or abs(quality.mrr[20] - mrr) > official_code.SAME:
        raise SystemExit(
            f"expected {recall}, {mrr} as from their evaluation, got {quality.as_dict()}: not the same model"
        )
    with atomic_folder(arguments.out) as folder:
        checkpoint.write_description(folder, config, log.vocabulary)
        (last := checkpoint.epoch_folder(folder, config.n_epochs)).mkdir()
        checkpoint.save_arrays(last, network.tensors())
        epochs = {"best_epoch": config.n_epochs, "last_epoch": config.n_epochs, "history": []}
        checkpoint.write_metrics(folder, epochs | {"data_sha256": data_digest(log)})
    return f"{arguments.out}: trained in {seconds:.0f} s, Recall@20 {recall:.4f}, MRR@20 {mrr:.4f}; ours ranks the same"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    official_code.add_flags(parser)
    parser.add_argument(
        "--config", default="retailrocket", help="of theirs: rsc15, retailrocket, diginetica or a file in paramfiles"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="the model directory to write")
    arguments = parser.parse_args()
    try:
        if arguments.out.exists():
            raise UserError(f"expected a new folder for the model, found {arguments.out}")
        print(train_and_save(arguments))
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
