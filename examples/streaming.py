"""Recommending click by click: one model file, one small state per visitor, a few lines.

    python examples/streaming.py model.onnx clicks.tsv

The clicks come as they would in a shop, those of all visitors mixed, in the order of their times. After each one the
visitor's state moves on by one step, at the same cost for the thousandth click as for the first, and the best items
to show next are known at once; they equal those of scoring the whole session. Needs the base install alone.
"""

import argparse
import csv
from collections.abc import Iterator

from inference import Recommender, SessionState


def clicks_of(path: str) -> Iterator[tuple[str, str]]:
    """Visitor and item of each click of a tab-separated log, in the order of the times."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file, delimiter="\t"), key=lambda row: float(row["Time"]))
    for row in rows:
        yield row["SessionId"], row["ItemId"]


def main(model: str, log: str) -> None:
    recommender = Recommender.load(model, threads=1)
    states: dict[str, SessionState] = {}
    hits = expected = 0
    shown: dict[str, tuple[str, ...]] = {}
    for visitor, item in clicks_of(log):
        if visitor in shown:  # what was shown before this click: was this item among it?
            expected += 1
            hits += item in shown[visitor]
        before = states.get(visitor, recommender.new_state())
        states[visitor], recommendation = recommender.step(before, item, k=10, exclude_seen=True)
        shown[visitor] = recommendation.items
        if expected <= 3:
            print(f"{visitor} clicked {item}; next: {', '.join(recommendation.items[:5])}")
    print(f"{len(states):,} visitors; {hits:,} of {expected:,} clicks were among the ten items shown before them")


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    arguments.add_argument("model", help="the .onnx file")
    arguments.add_argument("log", help="tab-separated clicks: SessionId, ItemId, Time")
    return arguments


if __name__ == "__main__":
    main(**vars(parser().parse_args()))
