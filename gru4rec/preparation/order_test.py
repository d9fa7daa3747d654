"""What the last click alone says about the next: first-order transitions, counted.

The baseline that every sequence model has to beat, and a test of the log itself: if the same counts do as well after
the clicks of every session are shuffled, their order carries nothing that could be learned.
"""

import numpy as np

from gru4rec.data.clicks import Clicks, pairs_at


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
    pairs, counts = np.unique(pairs_at(1, train.item, train.session, n_items), return_counts=True)
    item = pairs // n_items
    order = np.lexsort((pairs, -counts, item))
    begins = np.flatnonzero(np.diff(item[order], prepend=-1))  # sorted by item: where each one's successors begin
    rank = np.arange(len(order)) - np.repeat(begins, np.diff(begins, append=len(order)))
    likely = np.sort(pairs[order[rank < cutoff]])
    wanted = pairs_at(1, test.item, test.session, n_items)
    return float(np.isin(wanted, likely).mean())


def popularity_recall(train: Clicks, test: Clicks, cutoff: int = 20) -> float:
    """Share of the test's clicks but the first of each session that are on the most clicked items of the training."""
    popular = np.argsort(-train.support, kind="stable")[:cutoff]
    follows = np.diff(test.session, prepend=-1) == 0
    return float(np.isin(test.item[follows], popular).mean())
