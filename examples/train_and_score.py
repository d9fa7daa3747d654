"""From a click log to recommendations, in Python, with every step explained.

    python examples/train_and_score.py                                   a synthetic log
    python examples/train_and_score.py --train clicks.tsv                your own: columns SessionId, ItemId, Time
    python examples/train_and_score.py --train clicks.tsv --out shop.onnx --epochs 5

Needs the training packages: pip install '.[train]'. Scoring needs only the base install.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gru4rec import TrainConfig, encode, evaluate, export, hold_out_last, read_events, train
from gru4rec.config import to_mapping
from gru4rec.data import synthesize
from inference import Recommender, UserError


def train_and_score(arguments: argparse.Namespace) -> None:
    """Run all steps."""
    # 1. The log: one row per click, in any order; sessions are sorted by time. Ids stay text, exactly as written.
    if arguments.train:
        clicks = read_events(arguments.train)
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clicks.tsv"
            synthesize(5_000, 300, seed=1).write_csv(path, separator="\t")
            clicks = read_events(path)

    # 2. Items become numbers, and the latest sessions are held out: a model is validated on what came after its
    #    training clicks. Items that only they have are left out.
    log, valid = hold_out_last(encode(clicks))
    print(f"{log.sessions.n_clicks:,} clicks to train on, {valid.n_clicks:,} to validate on")

    # 3. Training. The configuration uses the field's names and has a default for every option. With `valid`, every
    #    epoch is validated and the best one is kept.
    config = TrainConfig(loss="bpr-max", layers=(96,), n_sample=512, n_epochs=arguments.epochs)
    model = train(log, config, valid=valid)

    # 4. Evaluation. Every item of the catalogue is ranked after every click.
    metrics = evaluate(model.network, valid).as_dict()
    print(f"recall@20 {metrics['recall@20']:.4f}, mrr@20 {metrics['mrr@20']:.4f} on {metrics['events']:,} events")

    # 5. Export. One file holds all that scoring needs, including the ids of the items, and the configuration and
    #    figures for people. It is compared with the network before it appears.
    export(model.network, model.vocabulary, arguments.out, config=to_mapping(model.config), metrics=metrics)

    # 6. Scoring needs neither torch nor the log. Sessions are lists of ids, oldest first.
    recommender = Recommender.load(arguments.out)
    names = model.vocabulary.terms()
    session = [names[number] for number in valid.slice(0, 1).items]
    (recommendation,) = recommender.recommend([session], k=5, exclude_seen=True)
    print(f"after {' → '.join(session)}:")
    for item, score in zip(recommendation.items, recommendation.scores, strict=True):
        print(f"  {item}  {score:.3f}")

    # 7. Click by click, with a small state per visitor instead of the whole session.
    state = recommender.new_state()
    for item in session:
        state, following = recommender.step(state, item, k=5, exclude_seen=True)
    assert following.items == recommendation.items
    print(f"next: gru4rec-infer --model {arguments.out} --session clicks.tsv --group")


def build_parser() -> argparse.ArgumentParser:
    """The command-line arguments."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    arguments.add_argument("--train", type=Path, metavar="FILE", help="click log; without it, a synthetic one is made")
    arguments.add_argument("--out", type=Path, default=Path("model.onnx"), metavar="FILE", help="default: %(default)s")
    arguments.add_argument("--epochs", type=int, default=3, metavar="N", help="default: %(default)s")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code: 0 done, 2 bad arguments or input."""
    arguments = build_parser().parse_args(argv)
    try:
        train_and_score(arguments)
    except UserError as error:  # a mistake of the user, reported in one line
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
