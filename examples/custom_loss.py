"""A custom loss: gBCE, a binary cross-entropy that does not become overconfident with sampled negatives.

    gru4rec train --train clicks.tsv --out model --plugin examples.custom_loss --loss gbce --loss-options.beta 0.2
    python -m tune.search --train clicks.tsv --out search --plugin examples.custom_loss --loss gbce,cross-entropy

Run it from the folder that contains `examples`, or copy this file next to your data and write `--plugin custom_loss`. A
search draws `beta` from the range registered here.

With plain binary cross-entropy (beta 1), a model that sees few of the many negatives learns that almost every item is
likely. Raising the target's probability to a power beta below 1 corrects that. Source: Petrov & Macdonald, gSASRec,
RecSys 2023, arXiv 2308.07192, which derives beta from the share a of the items that are negatives: t (a − 1) + 1, t
from 0 to 1.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from gru4rec import register_loss


@register_loss("gbce", search_ranges={"beta": (0.05, 1.0)})
def gbce(scores: Tensor, positive: Tensor, excluded: Tensor | None = None, *, beta: float = 0.5) -> Tensor:
    """−[beta · log σ(r_i) + Σ_j log(1 − σ(r_j))] / (1 + number of negatives), for each row: [B].

    >>> gbce(torch.zeros(1, 2), torch.tensor([0]), beta=1.0).item()  # log 2
    0.6931471824645996
    """
    target = positive.unsqueeze(1)  # [B, 1]
    negative = torch.ones_like(scores, dtype=torch.bool) if excluded is None else ~excluded  # [B, C]
    negative = negative.scatter(1, target, False)  # the target is not its own negative
    likely = -beta * F.logsigmoid(scores.gather(1, target)).squeeze(1)
    unlikely = (F.softplus(scores) * negative).sum(dim=1)  # −log(1 − σ(r)) = log(1 + exp(r))
    return (likely + unlikely) / (1 + negative.sum(dim=1))
