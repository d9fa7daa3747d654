"""Recommend click by click: one model file, one small state per visitor, a few lines of code.

    python examples/streaming.py model.onnx clicks.tsv

The clicks of all visitors arrive in the order of their times, as in a shop. Each click advances the visitor's state by
one step, at the same cost for the thousandth click as for the first, and gives the best items to show next. They equal
those of scoring the whole session. Needs only the base install.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

from inference import Recommender, SessionState, UserError
from inference.files.table import find_delimiter, read_table
from inference.files.text import open_input, read_lines
from inference.shared.columns import Columns


def read_clicks(path: str) -> Iterator[tuple[str, str]]:
    """Visitor and item of each click of a log with a header line, in the order of the times."""
    with open_input(path) as file:
        text = list(read_lines(file, path))
    delimiter = find_delimiter(text[0].text if text else "")
    for row in sorted(read_table(text, path, Columns(), delimiter), key=lambda row: row.time):
        yield row.session, row.item


def stream(model: str, log: str) -> None:
    """Recommend after every click, and count how often the next click was on an item that was shown."""
    recommender = Recommender.load(model, threads=1)
    states: dict[str, SessionState] = {}
    hits = expected = 0
    shown: dict[str, tuple[str, ...]] = {}
    for visitor, item in read_clicks(log):
        if visitor in shown:
            expected += 1
            hits += item in shown[visitor]
        before = states.get(visitor, recommender.new_state())
        states[visitor], recommendation = recommender.step(before, item, k=10, exclude_seen=True)
        shown[visitor] = recommendation.items
        if expected <= 3:
            print(f"{visitor} clicked {item}; next: {', '.join(recommendation.items[:5])}")
    print(f"{len(states):,} visitors; {hits:,} of {expected:,} clicks were on one of the ten items shown before them")


def build_parser() -> argparse.ArgumentParser:
    """The command-line arguments."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    arguments.add_argument("model", help="the .onnx file")
    arguments.add_argument("log", help="TSV or CSV of clicks: SessionId, ItemId, Time")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code: 0 done, 2 bad arguments or input."""
    try:
        stream(**vars(build_parser().parse_args(argv)))
    except UserError as error:  # a mistake of the user, reported in one line
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
