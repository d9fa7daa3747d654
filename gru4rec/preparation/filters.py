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


def is_duplicate(clicks: Clicks) -> np.ndarray:
    """Clicks with the session, item and time of a click before them."""
    columns = (clicks.item, clicks.time, clicks.session)
    order = np.lexsort(columns)
    again = np.ones(max(len(clicks) - 1, 0), dtype=bool)
    for column in columns:
        again &= column[order][1:] == column[order][:-1]
    mask = np.zeros(len(clicks), dtype=bool)
    mask[order[1:][again]] = True
    return mask


def has_support(clicks: Clicks, least: int) -> np.ndarray:
    """Clicks on items that have at least `least` clicks."""
    mask: np.ndarray = (clicks.support >= least)[clicks.item]
    return mask


def has_length(clicks: Clicks, least: int) -> np.ndarray:
    """Clicks of sessions that have at least `least` clicks."""
    return np.repeat(clicks.lengths >= least, clicks.lengths)
