"""Ranking losses over a few scored columns, and the registry that makes them choices.

A loss is a plain function `(scores, positive, excluded, *, options…) -> per-row loss`:

* `scores` [B, C]: raw logits of C item columns for B rows (positions in sessions).
* `positive` int64 [B]: the column that holds each row's target.
* `excluded` bool [B, C] or None: columns that are not negatives of a row, such as another row's target that is the
  same item. None excludes nothing. A row's own column is never one of its negatives.
* result [B]: one value per row. The trainer sums the rows and divides by the configured batch size.

All formulas are evaluated in log space, where a softmax weight or a sigmoid that would underflow stays finite. The loss
of a row without negatives is 0; there must be at least two columns. Notation: r_i score of the target, r_j of a
negative, s_j softmax over the negatives, σ logistic function. Source: Hidasi & Karatzoglou, arXiv 1706.03847,
sections 3 and 4.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gru4rec import kernels
from gru4rec.config.train_config import LOSS_OPTION_FIELDS, WHOLE_SESSION, TrainConfig
from gru4rec.model.bpr_max import BPRMaxGradient
from inference.shared.errors import UserError, unknown_choice

LossFunction = Callable[..., Tensor]


@dataclass(frozen=True)
class Loss:
    """A registered loss.

    Attributes:
        name: the choice in flags, files and searches.
        function: see the module's description.
        options: its keyword-only arguments and their defaults; `inspect.Parameter.empty` for no default.
        search_ranges: per option, what a search tries: (low, high) for a range, a list for a choice.
        corrects_sampling: whether `logq` applies to it.
        lowered_is_excluded: whether a very low score takes a column out of the loss, as it does out of a softmax. That
            saves a pass over the scores.
        cosine_defaults: other defaults of options for cosine scores.
        compiled: value and gradient at once, `(scores, bias, positive, scale, **options)` as in `kernels`; used if
            nothing is excluded and `kernels` accepts the tensors.
    """

    name: str
    function: LossFunction
    options: Mapping[str, Any]
    search_ranges: Mapping[str, Any] = field(default_factory=dict)
    corrects_sampling: bool = False
    lowered_is_excluded: bool = False
    cosine_defaults: Mapping[str, Any] = field(default_factory=dict)
    compiled: Callable[..., tuple[Tensor, Tensor]] | None = None

    def chosen_options(self, config: TrainConfig) -> dict[str, Any]:
        """The options that a configuration sets for this loss, without `logq`.

        Raises:
            UserError: the loss lacks an option that is set, or an option without a default is not set. As in the
                official parameter files, zero counts as not set for the official options.
        """
        for name, value in config.loss_options.items():
            if name in LOSS_OPTION_FIELDS:
                raise UserError(f"loss_options: {name} has a key of its own, set that instead")
            if name not in self.options:
                raise UserError(f"loss_options: the loss {self.name!r} has no option {name!r}; {self._known_options()}")
            if isinstance(self.options[name], (int, float)) and not isinstance(value, (int, float)):
                raise UserError(f"loss_options: {name}: expected a number, got {value!r}")
        options = (dict(self.cosine_defaults) if config.score == "cosine" else {}) | dict(config.loss_options)
        for name in LOSS_OPTION_FIELDS:
            value = getattr(config, name)
            if name == "logq" and self.corrects_sampling:
                continue
            if name in self.options and value is not None:
                options[name] = value
            elif name not in self.options and value:
                raise UserError(
                    f"{name}: the loss {self.name!r} has no such option, got {value}; {self._known_options()}"
                )
        for name, default in self.options.items():
            if default is inspect.Parameter.empty and name not in options:
                key = name if name in LOSS_OPTION_FIELDS else f"loss_options.{name}"
                raise UserError(f"{key}: the loss {self.name!r} needs a value for it and has no default")
        return options

    def logq(self, config: TrainConfig) -> float:
        """The strength of the sampling correction; by default 1 for whole-session mini-batches and 0 for the others."""
        if config.logq is not None:
            return config.logq
        return float(self.corrects_sampling and config.batching == WHOLE_SESSION)

    def gradient(
        self,
        options: Mapping[str, Any],
        scores: Tensor,
        bias: Tensor,
        positive: Tensor,
        scale: float,
        excluded: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Scaled losses per row [B] and their gradients [B, C], in the type of the scores.

        Args:
            options: of the loss; missing ones have their defaults.
            scores: [B, C], float32 or bfloat16, without the bias.
            bias: [C].
            positive: int64 [B], the targets' columns.
            scale: factor of the losses.
            excluded: bool [B, C], columns that are not negatives of a row.
        """
        if excluded is None and self.compiled is not None and kernels.accepts(bias) and scores.is_contiguous():
            return self.compiled(scores, bias, positive, scale, **{**self.options, **options})
        biased = (scores + bias).requires_grad_()
        losses = self.function(biased, positive, excluded, **options) * scale
        (gradient,) = torch.autograd.grad(losses.sum(), biased)
        return losses.detach(), gradient.to(scores.dtype)

    def _known_options(self) -> str:
        known = [*self.options, *(["logq"] if self.corrects_sampling else [])]
        return f"its options: {', '.join(known)}" if known else "it has no options"


LOSSES: dict[str, Loss] = {}
"""Every registered loss by name."""


def register_loss(name: str, **attributes: Any) -> Callable[[LossFunction], LossFunction]:
    """Make a function a loss that can be chosen by name.

    Args:
        name: the choice, lower case with hyphens.
        attributes: search_ranges, corrects_sampling, lowered_is_excluded, cosine_defaults or compiled, as in `Loss`.
    """

    def register(function: LossFunction) -> LossFunction:
        options = {
            parameter.name: parameter.default
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind is parameter.KEYWORD_ONLY
        }
        LOSSES[name] = Loss(name, function, options, **attributes)
        return function

    return register


def get_loss(name: str) -> Loss:
    """The registered loss of that name.

    Raises:
        UserError: there is none; the message lists those that exist.
    """
    if name not in LOSSES:
        raise unknown_choice("loss", name, list(LOSSES))
    return LOSSES[name]


@register_loss(
    "cross-entropy",
    search_ranges={"logq": [1.0]},
    corrects_sampling=True,
    lowered_is_excluded=True,
    compiled=kernels.cross_entropy,
)
def cross_entropy(scores: Tensor, positive: Tensor, excluded: Tensor | None = None) -> Tensor:
    """Softmax cross-entropy: −r_i + log Σ_c exp(r_c), over the target and its negatives.

    >>> cross_entropy(torch.tensor([[0.0, 0.0]]), torch.tensor([0])).item()  # log 2
    0.6931471824645996
    """
    if excluded is not None:
        target = _target(scores, positive)
        scores = scores.masked_fill(excluded, lowest(scores)).scatter(1, positive.unsqueeze(1), target)
    return F.cross_entropy(scores, positive, reduction="none")


@register_loss("top1")
def top1(scores: Tensor, positive: Tensor, excluded: Tensor | None = None) -> Tensor:
    """TOP1: (1/N) Σ_j [σ(r_j − r_i) + σ(r_j²)], the mean over N negatives.

    >>> top1(torch.tensor([[0.0, 0.0]]), torch.tensor([0])).item()  # σ(0) + σ(0)
    1.0
    """
    terms = torch.sigmoid(scores - _target(scores, positive)) + torch.sigmoid(scores.square())
    return _mean_over_negatives(terms, positive, excluded)


@register_loss("bpr")
def bpr(scores: Tensor, positive: Tensor, excluded: Tensor | None = None) -> Tensor:
    """BPR: −(1/N) Σ_j log σ(r_i − r_j), the mean over N negatives.

    >>> bpr(torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([0])).item()  # log 2
    0.6931471824645996
    """
    terms = -F.logsigmoid(_target(scores, positive) - scores)
    return _mean_over_negatives(terms, positive, excluded)


@register_loss("top1-max")
def top1_max(scores: Tensor, positive: Tensor, excluded: Tensor | None = None) -> Tensor:
    """TOP1-max: Σ_j s_j [σ(r_j − r_i) + σ(r_j²)], weighted by the softmax over the negatives.

    >>> top1_max(torch.tensor([[0.0, 0.0]]), torch.tensor([0])).item()
    1.0
    """
    weights = _log_softmax_over_negatives(scores, positive, excluded).exp()
    terms = torch.sigmoid(scores - _target(scores, positive)) + torch.sigmoid(scores.square())
    return _where_negatives((weights * terms).sum(dim=1), positive, excluded)


@register_loss(
    "bpr-max",
    search_ranges={"bpreg": (0.0, 2.0), "elu_param": [0.0, 0.5, 1.0]},
    # cosine scores are bounded: with regularisation on top, they collapse
    cosine_defaults={"bpreg": 0.0, "elu_param": 0.0},
    compiled=kernels.bpr_max,
)
def bpr_max(
    scores: Tensor,
    positive: Tensor,
    excluded: Tensor | None = None,
    *,
    bpreg: float = 1.0,
    elu_param: float = 0.5,
) -> Tensor:
    """BPR-max: −log Σ_j s_j σ(r_i − r_j) + bpreg · Σ_j s_j r_j², on ELU-activated scores.

    Args:
        bpreg: weight of the score regularisation; by default 0 for cosine scores.
        elu_param: α of the ELU that is applied to the scores first; 0 (the default for cosine scores) leaves them
            linear.

    >>> bpr_max(torch.tensor([[0.0, 0.0]]), torch.tensor([0])).item()  # log 2
    0.6931471824645996
    """
    if excluded is None:
        return BPRMaxGradient.apply(scores, positive, bpreg, elu_param)  # type: ignore[no-untyped-call, no-any-return]
    if elu_param > 0:
        scores = F.elu(scores, elu_param)
    log_weights = _log_softmax_over_negatives(scores, positive, excluded)
    log_win = torch.logsumexp(log_weights + F.logsigmoid(_target(scores, positive) - scores), dim=1)
    regularisation = (log_weights.exp() * scores.square()).sum(dim=1)
    return _where_negatives(bpreg * regularisation - log_win, positive, excluded)


def correct_for_sampling(scores: Tensor, log_frequency: Tensor, logq: float) -> Tensor:
    """Scores less logq · log(q), which removes the bias of sampling towards popular items (training only).

    Args:
        scores: [B, C] raw logits, or [C] biases that are added to them.
        log_frequency: [C] log of how often each column's item is drawn: log(support) for in-batch targets,
            the sampler's own weight for additional negatives, both unnormalised as in the official code.
        logq: strength; 0 changes nothing.
    """
    return scores - logq * log_frequency if logq else scores


def _target(scores: Tensor, positive: Tensor) -> Tensor:
    return scores.gather(1, positive.unsqueeze(1))  # [B, 1]


def lowest(scores: Tensor) -> float:
    """A value far below any score, yet finite: its differences are not NaN."""
    return torch.finfo(scores.dtype).min / 4


def _log_softmax_over_negatives(scores: Tensor, positive: Tensor, excluded: Tensor | None) -> Tensor:
    """Logarithms of the softmax weights s_j, [B, C]; so low that exp gives 0 for columns that are not negatives."""
    masked = scores.scatter(1, positive.unsqueeze(1), lowest(scores))
    if excluded is not None:
        masked = masked.masked_fill(excluded, lowest(scores))
    return torch.log_softmax(masked, dim=1)


def _mean_over_negatives(terms: Tensor, positive: Tensor, excluded: Tensor | None) -> Tensor:
    terms = terms.scatter(1, positive.unsqueeze(1), 0.0)
    if excluded is None:
        return terms.sum(dim=1) / max(terms.shape[1] - 1, 1)
    terms = terms.masked_fill(excluded, 0.0)
    return terms.sum(dim=1) / _count_negatives(positive, excluded).clamp_min(1)


def _where_negatives(losses: Tensor, positive: Tensor, excluded: Tensor | None) -> Tensor:
    """The rows' losses, 0 for rows without negatives (their softmax is over nothing)."""
    if excluded is None:
        return losses
    return torch.where(_count_negatives(positive, excluded) > 0, losses, 0.0)


def _count_negatives(positive: Tensor, excluded: Tensor) -> Tensor:
    return (~excluded).scatter(1, positive.unsqueeze(1), False).sum(dim=1)  # [B]
