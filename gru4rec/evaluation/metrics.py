"""The metrics of a ranking, and how certain their means are.

There is one relevant item per target, the target itself. At rank r ≤ N it counts as follows, and as 0 beyond N:

    Recall@N: 1      MRR@N: 1 / r      NDCG@N: 1 / log₂(r + 1)      MAP@N: 1 / r

Average precision is the mean of the precision at the ranks of the relevant items. With one of them it is 1 / r, so
MAP@N always equals MRR@N.

Targets of one session are not independent: a session that is easy to predict once is easy to predict again. Intervals
are therefore percentiles of a bootstrap over whole sessions (Efron & Tibshirani, An Introduction to the Bootstrap,
chapters 8 and 13). Two models are compared on the same resamples, so that sessions that are easy for both cancel out.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from inference.shared.errors import UserError

METRICS = ("recall", "mrr", "ndcg")
CONFIDENCE = 0.95


def check_cutoffs(cutoffs: Sequence[int]) -> None:
    """Refuse an empty list of cutoffs, and cutoffs below 1.

    Raises:
        UserError: there is no cutoff, or one below 1.
    """
    if not cutoffs or min(cutoffs) < 1:
        raise UserError(f"cutoffs: expected positive numbers, got {list(cutoffs)}")


def compute_metric(metric: str, ranks: np.ndarray, cutoff: int) -> np.ndarray:
    """The metric of each of the ranks [E], from 1, float64 [E].

    >>> compute_metric("ndcg", np.array([1.0, 3.0, 21.0]), 20).tolist()
    [1.0, 0.5, 0.0]
    """
    assert metric in METRICS
    if metric == "recall":
        return (ranks <= cutoff).astype(np.float64)
    values = 1 / ranks if metric == "mrr" else 1 / np.log2(ranks + 1)
    return np.where(ranks <= cutoff, values, 0.0)


class Interval(NamedTuple):
    """A mean with its 95 % interval.

    Attributes:
        mean: over all targets.
        low, high: the ends of the interval.
    """

    mean: float
    low: float
    high: float


def bootstrap(
    values: Mapping[str, np.ndarray], session: np.ndarray, *, resamples: int, seed: int
) -> dict[str, Interval]:
    """Means over targets with percentile bootstrap intervals over sessions.

    Args:
        values: by name, float64 [E]: a quantity of every target, at least one.
        session: int64 [E], the session of every target.
        resamples: how often as many sessions as there are, are drawn with replacement; at least 1.
        seed: of the draws; the same seed draws the same sessions.

    Returns:
        An interval for each of the quantities.
    """
    columns = np.stack(list(values.values()), axis=1)  # [E, M]
    _, number = np.unique(session, return_inverse=True)
    n_sessions = int(number.max()) + 1
    weights = np.column_stack([np.ones(len(columns)), columns])  # [E, 1 + M]
    sums = np.stack([np.bincount(number, column, minlength=n_sessions) for column in weights.T], axis=1)  # [S, 1 + M]
    generator = np.random.default_rng(seed)
    drawn = np.empty((resamples, sums.shape[1]))
    for row in range(resamples):
        times = np.bincount(generator.integers(n_sessions, size=n_sessions), minlength=n_sessions)
        drawn[row] = times @ sums
    means = drawn[:, 1:] / drawn[:, :1]
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    ends = zip(columns.mean(axis=0).tolist(), low.tolist(), high.tolist(), strict=True)
    return {name: Interval(*each) for name, each in zip(values, ends, strict=True)}
