"""Does the order of clicks carry information? First-order transitions, counted.

They are the baseline that every sequence model has to beat. And they test the log itself: if the same counts do as well
after the clicks of every session are shuffled, there is nothing to learn from their order.
"""

import numpy as np

from gru4rec.data.clicks import Clicks, expand_ranges, pairs_at


def shuffle(clicks: Clicks, generator: np.random.Generator) -> Clicks:
    """The same sessions with their items in a random order."""
    order = np.lexsort((generator.random(len(clicks)), clicks.session))
    return Clicks(clicks.session, clicks.item[order], clicks.time)


def transition_recall(train: Clicks, test: Clicks, cutoff: int = 20) -> float:
    """Share of the test's clicks that are among the most frequent successors of the click before them.

    Args:
        train: successors are counted in it; equal counts are ranked by item number.
        test: in the same item numbers, with at least one session of two clicks.
        cutoff: successors per item.

    Returns:
        Recall@cutoff over all consecutive pairs of the test.
    """
    n_items = int(max(train.item.max(initial=0), test.item.max(initial=0))) + 1
    pairs, counts = np.unique(pairs_at(1, train.item, train.session, n_items), return_counts=True)
    order = np.lexsort((-counts, pairs // n_items))  # stable: equal counts stay in the order of the pairs
    rank = expand_ranges(0, np.unique(pairs // n_items, return_counts=True)[1])
    likely = pairs[order[rank < cutoff]]
    wanted = pairs_at(1, test.item, test.session, n_items)
    return float(np.isin(wanted, likely).mean())


def popularity_recall(train: Clicks, test: Clicks, cutoff: int = 20) -> float:
    """Share of the test's clicks, except the first of each session, on the training's most clicked items."""
    popular = np.argsort(-train.support, kind="stable")[:cutoff]
    follows = np.diff(test.session, prepend=-1) == 0
    return float(np.isin(test.item[follows], popular).mean())
