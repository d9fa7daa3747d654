"""BPR-max with its gradient in closed form.

Differentiated operation by operation, BPR-max passes over the [B, C] score matrix some forty times, which takes longer
than the matrix product that gives the scores. Written out, value and gradient need about twenty passes and three
exponentials.

For one row, with y the activated scores, t = y_i that of the target, and sums over the negatives only:

    s = softmax(y)    q_j = σ(y_j − t)    U = Σ q_j    v_j = q_j (1 − q_j) / U    R = Σ s_j y_j²

    Σ s_j σ(t − y_j) = exp(t − logsumexp(y)) · U             (both sides are Σ e^(y_j + t) / (e^t + e^y_j) / Σ e^y_j)
    loss    = logsumexp(y) − t − log U + λ R
    ∂/∂y_j  = s_j − v_j + λ s_j (y_j² + 2 y_j − R)
    ∂/∂t    = Σ v_j − 1

In this form nothing underflows if the target is far below the negatives. If it is far above them, t is limited to 60
above the best negative, where the loss and its gradient are 0 to within rounding, as they should be.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

FAR_ABOVE = 60.0


class BPRMaxGradient(torch.autograd.Function):
    """`apply(scores [B, C], positive int64 [B], bpreg, elu_param)` gives the loss per row, [B]."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, positive: Tensor, bpreg: float, elu_param: float) -> Tensor:
        own = positive.unsqueeze(1)
        activated = F.elu(scores, elu_param) if elu_param > 0 else scores.clone()
        target = activated.gather(1, own)  # [B, 1]

        negatives = activated.scatter_(1, own, torch.finfo(scores.dtype).min / 4)
        best = negatives.amax(dim=1, keepdim=True)
        weights = torch.softmax(negatives, dim=1)  # s, 0 in the target's column
        log_total = best - weights.amax(dim=1, keepdim=True).log()  # logsumexp(y)
        limited = torch.minimum(target, best + FAR_ABOVE)
        losing = torch.sigmoid(negatives - limited)  # q, 0 in the target's column
        total_losing = losing.sum(dim=1, keepdim=True)
        pull = torch.addcmul(losing, losing, losing, value=-1).div_(total_losing)  # v
        loss = log_total - limited - total_losing.log()

        negatives.scatter_(1, own, 0.0)
        weighted = weights * negatives
        weighted_square = weighted * negatives
        regularisation = weighted_square.sum(dim=1, keepdim=True)  # R
        loss += bpreg * regularisation

        gradient = weights.mul_(1 - bpreg * regularisation)
        gradient.add_(weighted, alpha=2 * bpreg).add_(weighted_square, alpha=bpreg).sub_(pull)
        gradient.scatter_(1, own, pull.sum(dim=1, keepdim=True) - 1)
        if elu_param > 0:
            activated.scatter_(1, own, target)
            gradient = torch.ops.aten.elu_backward(gradient, elu_param, 1.0, 1.0, True, activated)
        ctx.gradient = gradient  # allocated here, so nothing else can change it
        return loss.squeeze(1)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.gradient * upstream[0].unsqueeze(1), None, None, None
