"""What the last click alone says about the next: first-order transitions, counted.

The baseline that every sequence model has to beat, and a test of the log itself: if the same counts do as well after
the clicks of every session are shuffled, their order carries nothing that could be learned.
"""

import numpy as np

from gru4rec.clicks import Clicks


def shuffled(clicks: Clicks, generator: np.random.Generator) -> Clicks:
    """The same sessions with their items in a random order."""
    order = np.lexsort((generator.random(len(clicks)), clicks.session))
    return Clicks(clicks.session, clicks.item[order], clicks.time)


def transition_recall(train: Clicks, test: Clicks, cutoff: int = 20) -> float:
    """Share of the test's clicks that are among the most frequent successors of the click before them.

    Args:
        train: where successors are counted; equal counts are ranked by item number.
        test: sessions in the same item numbers; must hold a session of two clicks.
        cutoff: successors per item.

    Returns:
        Recall@cutoff over all consecutive pairs of the test.
    """
    n_items = int(max(train.item.max(initial=0), test.item.max(initial=0))) + 1
    pairs, counts = np.unique(_pairs(train, n_items), return_counts=True)
    item = pairs // n_items
    order = np.lexsort((pairs, -counts, item))
    begins = np.flatnonzero(np.diff(item[order], prepend=-1))  # sorted by item: where each one's successors begin
    rank = np.arange(len(order)) - np.repeat(begins, np.diff(begins, append=len(order)))
    likely = np.sort(pairs[order[rank < cutoff]])
    wanted = _pairs(test, n_items)
    return float(np.isin(wanted, likely).mean())


def popularity_recall(train: Clicks, test: Clicks, cutoff: int = 20) -> float:
    """Share of the test's clicks but the first of each session that are on the most clicked items of the training."""
    popular = np.argsort(-train.support, kind="stable")[:cutoff]
    follows = np.diff(test.session, prepend=-1) == 0
    return float(np.isin(test.item[follows], popular).mean())


def _pairs(clicks: Clicks, n_items: int) -> np.ndarray:
    """Consecutive pairs within sessions, as one number each."""
    same = clicks.session[1:] == clicks.session[:-1]
    pairs: np.ndarray = clicks.item[:-1][same].astype(np.int64) * n_items + clicks.item[1:][same]
    return pairs
