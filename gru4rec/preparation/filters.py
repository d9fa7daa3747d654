"""Which clicks a log is better without; every rule gives the mask [E] of those that stay.

The order of a pass is that of the papers' preprocessing: items with too little support go first, then the sessions that
are too short without them. Iterated until nothing changes, the order no longer matters: the result is the largest log
in which every item and every session is long enough.
"""

from collections.abc import Callable

import numpy as np

from gru4rec.data.clicks import Clicks

Rule = Callable[[Clicks], np.ndarray]


def not_repeated(clicks: Clicks) -> np.ndarray:
    """All but the clicks on the item that was clicked just before in the same session."""
    again = (clicks.session[1:] == clicks.session[:-1]) & (clicks.item[1:] == clicks.item[:-1])
    return np.append(True, ~again) if len(clicks) else np.empty(0, dtype=bool)


def item_support(least: int) -> Rule:
    """Clicks on items that have at least so many."""

    def rule(clicks: Clicks) -> np.ndarray:
        mask: np.ndarray = (clicks.support >= least)[clicks.item]
        return mask

    return rule


def session_length(least: int) -> Rule:
    """Clicks of sessions that have at least so many."""

    def rule(clicks: Clicks) -> np.ndarray:
        lengths = clicks.lengths
        return np.repeat(lengths >= least, lengths)

    return rule


def known_items(known: np.ndarray) -> Rule:
    """Clicks on known items.

    Args:
        known: bool by item number; numbers beyond its end are unknown.
    """

    def rule(clicks: Clicks) -> np.ndarray:
        inside = clicks.item < len(known)
        mask: np.ndarray = inside & known[np.where(inside, clicks.item, 0)] if len(known) else inside
        return mask

    return rule
