"""A loss of one's own: gBCE, binary cross-entropy that does not become overconfident when negatives are sampled.

    gru4rec train --train clicks.tsv --out model --plugin examples.custom_loss --loss gbce --loss-options.beta 0.2
    python -m tune.search --train clicks.tsv --out search --plugin examples.custom_loss --loss gbce,cross-entropy

Run from the folder that holds `examples`, or copy this file beside your data and write `--plugin custom_loss`. The
search draws `beta` from the range that is registered here, unless it is fixed with `--loss-options.beta`.

A model that sees few of the many negatives learns from plain binary cross-entropy that almost everything is likely. A
power β below 1 of the target's probability undoes that; the paper derives it from how much is sampled,
β = a (t (1 − 1/a) + 1/a) with a = negatives / (items − 1) and t from 0 (β = 1, no correction) to 1 (β = a, exact).
Source: Petrov & Macdonald, gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with Negative
Sampling, RecSys 2023, arXiv 2308.07192.
"""

from torch import Tensor
from torch.nn import functional as F

from gru4rec.losses import register_loss


@register_loss("gbce", search_ranges={"beta": (0.05, 1.0)})
def gbce(scores: Tensor, positive: Tensor, excluded: Tensor | None = None, *, beta: float = 0.5) -> Tensor:
    """gBCE: −[β log σ(r_i) + Σ_j log(1 − σ(r_j))] / (1 + number of negatives).

    Args:
        scores: float [B, C], raw logits.
        positive: int64 [B], the column of each row's target.
        excluded: bool [B, C], columns that are no negatives of a row; None excludes nothing.
        beta: power of the target's probability; 1 is binary cross-entropy.

    Returns:
        A loss per row, [B].

    >>> import torch
    >>> gbce(torch.zeros(1, 2), torch.tensor([0]), beta=1.0).item()  # log 2
    0.6931471824645996
    """
    column = positive.unsqueeze(1)  # [B, 1]
    is_negative = (~excluded if excluded is not None else scores.new_ones(scores.shape).bool()).scatter(
        1, column, False
    )
    likely = -beta * F.logsigmoid(scores.gather(1, column)).squeeze(1)  # [B]
    unlikely = (F.softplus(scores) * is_negative).sum(dim=1)  # −log(1 − σ(r)) = log(1 + exp(r))
    return (likely + unlikely) / (1 + is_negative.sum(dim=1))
