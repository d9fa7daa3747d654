"""Recommend click by click: one model file, one small state per visitor, a few lines.

    python examples/streaming.py model.onnx clicks.tsv

Clicks of all visitors arrive mixed, in the order of their times, as in a shop. Each click advances the visitor's state
by one step, at the same cost for the thousandth click as for the first. The items to show next are known at once, and
they equal those of scoring the whole session. Needs the base install only.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

from inference import Recommender, SessionState, UserError
from inference.files.table import find_delimiter, read_table
from inference.files.text import open_input, read_lines
from inference.shared.columns import Columns


def clicks_of(path: str) -> Iterator[tuple[str, str]]:
    """Yield visitor and item of each click of a log with a header line, in the order of the times."""
    with open_input(path) as file:
        text = list(read_lines(file, path))
    delimiter = find_delimiter(text[0].text if text else "")
    for row in sorted(read_table(text, path, Columns(), delimiter), key=lambda row: row.time or 0):
        yield row.session, row.item


def stream(model: str, log: str) -> None:
    """Recommend after every click, and count how often the next click was among the items shown."""
    recommender = Recommender.load(model, threads=1)
    states: dict[str, SessionState] = {}
    hits = expected = 0
    shown: dict[str, tuple[str, ...]] = {}
    for visitor, item in clicks_of(log):
        if visitor in shown:  # was this item among those shown before this click?
            expected += 1
            hits += item in shown[visitor]
        before = states.get(visitor, recommender.new_state())
        states[visitor], recommendation = recommender.step(before, item, k=10, exclude_seen=True)
        shown[visitor] = recommendation.items
        if expected <= 3:
            print(f"{visitor} clicked {item}; next: {', '.join(recommendation.items[:5])}")
    print(f"{len(states):,} visitors; {hits:,} of {expected:,} clicks were among the ten items shown before them")


def parser() -> argparse.ArgumentParser:
    """Define the arguments."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    arguments.add_argument("model", help="the .onnx file")
    arguments.add_argument("log", help="TSV or CSV of clicks: SessionId, ItemId, Time")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code: 0 done, 2 bad arguments or input."""
    try:
        stream(**vars(parser().parse_args(argv)))
    except UserError as error:  # a user's mistake is one line
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
