"""Which clicks to keep: every function gives a mask [E].

A pass drops items with too little support first, then the sessions that are too short without them, as the papers'
preprocessing does. Repeated until nothing changes, the order no longer matters: the result is the largest log in which
every item and every session is long enough.
"""

import numpy as np

from gru4rec.data.clicks import Clicks


def is_no_repeat(clicks: Clicks) -> np.ndarray:
    """Clicks on another item than the click before them in the same session."""
    repeat = (clicks.session[1:] == clicks.session[:-1]) & (clicks.item[1:] == clicks.item[:-1])
    return np.append(True, ~repeat)


def has_support(clicks: Clicks, least: int) -> np.ndarray:
    """Clicks on items that have at least `least` clicks."""
    mask: np.ndarray = (clicks.support >= least)[clicks.item]
    return mask


def has_length(clicks: Clicks, least: int) -> np.ndarray:
    """Clicks of sessions that have at least `least` clicks."""
    return np.repeat(clicks.lengths >= least, clicks.lengths)
