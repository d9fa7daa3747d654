"""How the rounds of a benchmark came out."""

import statistics
from collections.abc import Sequence


def spread(values: Sequence[float]) -> str:
    """The median of some values, with the lowest and the highest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"
