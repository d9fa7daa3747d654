"""Scores, losses and their gradients a few rows at a time.

A step of a thousand targets and four thousand negatives has four million scores. Computed at once, that matrix is
written to memory and read back for every pass of the loss, several times forward and backward. Computed a few rows at a
time, the scores never leave the cache: they are turned into losses and gradients, and these into gradients of queries
and negatives, before the next rows start. Memory stays small however many negatives there are.

The inputs of products have the given type (bfloat16 where that is fast); everything else is float32.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gru4rec.model.losses import lowest

SCORES_PER_CHUNK = 1 << 18  # 1 MiB of float32


@dataclass(frozen=True)
class Hits:
    """Pairs of a row and a negative that is its target.

    Attributes:
        rows, negatives: int64 [X]; rows ascending.
        rows_on_host: the rows on the host, where cutting them into chunks does not wait for the device.
    """

    rows: Tensor
    negatives: Tensor
    rows_on_host: np.ndarray


@dataclass(frozen=True)
class Recent:
    """Pairs of a row and one of its columns whose item is among the row's last clicks.

    Attributes:
        rows, columns: int64 [P]; rows ascending; column 0 is the target, column 1 + c negative c.
        places: int64 [P], which of the last K clicks it was.
        rows_on_host: as in `Hits`.
    """

    rows: Tensor
    columns: Tensor
    places: Tensor
    rows_on_host: np.ndarray


@dataclass(frozen=True)
class ScoreGradients:
    """Gradients of the summed loss.

    Attributes:
        query: [R, H].
        scoring: [R + C, H], of the columns.
        bias: [R + C].
        bonus: [R, K].
    """

    query: Tensor
    scoring: Tensor
    bias: Tensor
    bonus: Tensor


def score_loss(
    loss_gradient: Callable[[Tensor, Tensor, Tensor, float, Tensor | None], tuple[Tensor, Tensor]],
    query: Tensor,
    scoring: Tensor,
    bias: Tensor,
    hits: Hits,
    scale: float,
    *,
    recent: Recent,
    bonus: Tensor,
    lowered_is_excluded: bool,
    product_type: torch.dtype,
) -> tuple[Tensor, ScoreGradients]:
    """The scaled sum of the losses of R rows, each with its own target and C shared negatives, and its gradients.

    Args:
        loss_gradient: `Loss.gradient` with its options, for scores [r, 1 + C] with the target in the first column.
        query: [R, H], the states' side of the product.
        scoring: [R + C, H], the items' side: of each row's target, then of the negatives.
        bias: [R + C], less the sampling correction.
        hits: where a negative is the row's own target.
        scale: factor of the sum.
        recent: which columns are among the last clicks.
        bonus: [R, K], added to their scores.
        lowered_is_excluded: exclude the hits by a very low score instead of a mask.
        product_type: of the inputs of the products.

    Returns:
        The loss, a scalar, and the gradients.
    """
    n_rows, n_negatives = len(query), len(scoring) - len(query)
    target, negative = torch.split(scoring, [n_rows, n_negatives])
    target_bias, negative_bias = torch.split(bias, [n_rows, n_negatives])
    rows_per_chunk = max(8, SCORES_PER_CHUNK // (n_negatives + 1))
    left, right = query.to(product_type), negative.to(product_type)
    own_scores = (query * target).sum(dim=1) + target_bias  # [R]
    starts = range(0, n_rows, rows_per_chunk)
    hit_bounds = np.searchsorted(hits.rows_on_host, [*starts, n_rows])
    recent_bounds = np.searchsorted(recent.rows_on_host, [*starts, n_rows])
    no_bias = torch.zeros(n_negatives + 1, device=query.device)

    to_query = torch.empty_like(query)
    to_scoring, to_bias = torch.zeros_like(scoring), torch.zeros_like(bias)
    to_own, to_negative_bias = torch.split(to_bias, [n_rows, n_negatives])
    to_bonus = torch.zeros_like(bonus)
    total = query.new_zeros(())
    for number, start in enumerate(starts):
        rows = slice(start, min(start + rows_per_chunk, n_rows))
        count = rows.stop - rows.start
        scores = torch.empty(count, n_negatives + 1, device=query.device)
        scores[:, 0] = own_scores[rows]
        torch.add((left[rows] @ right.T), negative_bias, out=scores[:, 1:])
        pairs = slice(recent_bounds[number], recent_bounds[number + 1])
        if pairs.start < pairs.stop:
            at = (recent.rows[pairs] - start, recent.columns[pairs])
            clicks = (recent.rows[pairs], recent.places[pairs])
            scores.index_put_(at, bonus[clicks], accumulate=True)
        excluded = None
        here = slice(hit_bounds[number], hit_bounds[number + 1])
        if here.start < here.stop and lowered_is_excluded:
            scores[hits.rows[here] - start, hits.negatives[here] + 1] = lowest(scores)
        elif here.start < here.stop:
            excluded = torch.zeros(count, n_negatives + 1, dtype=torch.bool, device=query.device)
            excluded[hits.rows[here] - start, hits.negatives[here] + 1] = True
        positive = torch.zeros(count, dtype=torch.int64, device=query.device)
        losses, gradient = loss_gradient(scores, no_bias, positive, scale, excluded)
        total += losses.sum()
        if pairs.start < pairs.stop:
            to_bonus.index_put_(clicks, gradient[at], accumulate=True)
        to_own[rows] = gradient[:, 0]
        to_scores = gradient[:, 1:]
        to_negative_bias += to_scores.sum(dim=0)
        to_scores = to_scores.to(product_type)
        to_query[rows] = to_scores @ right
        to_scoring[n_rows:] += to_scores.T @ left[rows]
    torch.mul(to_own.unsqueeze(1), query, out=to_scoring[:n_rows])
    to_query.addcmul_(to_own.unsqueeze(1), target)
    return total, ScoreGradients(to_query, to_scoring, to_bias, to_bonus)
