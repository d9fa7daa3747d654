"""What a rank is worth, and how sure one can be of a mean of it.

With one relevant item per event, the item that came next, at rank r ≤ N (beyond N everything is worth 0):

    Recall@N: 1      MRR@N: 1 / r      NDCG@N: 1 / log₂(r + 1)      MAP@N: 1 / r

Average precision is the mean of the precision at the ranks of the relevant items; there is one of them, and the
precision there is 1 / r, so MAP@N is MRR@N, whatever the model.

Events of one session are not independent: whoever is easy to predict once is easy to predict again. Intervals are
therefore percentiles of a bootstrap that draws whole sessions (Efron & Tibshirani, An Introduction to the Bootstrap,
chapters 8 and 13). Two models are compared on the same draws, which leaves out of their difference what makes a session
easy for both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.shared.errors import UserError

METRICS = ("recall", "mrr", "ndcg")
LEVEL = 0.95


def check_cutoffs(cutoffs: Sequence[int]) -> None:
    """Refuse cutoffs at which nothing can be counted.

    Raises:
        UserError: there is none, or one that is not positive.
    """
    if not cutoffs or min(cutoffs) < 1:
        raise UserError(f"cutoffs: expected positive numbers, got {list(cutoffs)}")


def worth(metric: str, ranks: np.ndarray, cutoff: int) -> np.ndarray:
    """What each of the ranks [E], from 1, is worth, float64 [E].

    >>> worth("ndcg", np.array([1.0, 3.0, 21.0]), 20).tolist()
    [1.0, 0.5, 0.0]
    """
    assert metric in METRICS
    if metric == "recall":
        return (ranks <= cutoff).astype(np.float64)
    values = 1 / ranks if metric == "mrr" else 1 / np.log2(ranks + 1)
    return np.where(ranks <= cutoff, values, 0.0)


@dataclass(frozen=True)
class Interval:
    """A mean and where it would lie, with other sessions, 95 times out of 100.

    Attributes:
        mean: over all events.
        low, high: the ends of the interval.
    """

    mean: float
    low: float
    high: float


def intervals(values: np.ndarray, session: np.ndarray, *, resamples: int, seed: int) -> list[Interval]:
    """Means over events with percentile bootstrap intervals over sessions.

    Args:
        values: float64 [E, M], M quantities of every event.
        session: int64 [E], the session of every event.
        resamples: how often as many sessions as there are, are drawn.
        seed: of the draws; the same seed draws the same sessions.

    Returns:
        An interval for each of the M.
    """
    assert len(values)
    assert resamples > 0
    _, number = np.unique(session, return_inverse=True)
    n_sessions = int(number.max()) + 1
    weights = np.column_stack([np.ones(len(values)), values])  # [E, 1 + M]
    sums = np.stack([np.bincount(number, column, minlength=n_sessions) for column in weights.T], axis=1)  # [S, 1 + M]
    generator = np.random.default_rng(seed)
    drawn = np.empty((resamples, sums.shape[1]))
    for row in range(resamples):
        times = np.bincount(generator.integers(n_sessions, size=n_sessions), minlength=n_sessions)
        drawn[row] = times @ sums
    means = drawn[:, 1:] / drawn[:, :1]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return [
        Interval(float(mean), float(left), float(right))
        for mean, left, right in zip(values.mean(axis=0), low, high, strict=True)
    ]
