"""Ranking losses over a few scored columns, and the register that makes them choices.

A loss is a plain function `(scores, positive, excluded, *, options…) -> per-row loss`:

* `scores` [B, C]: raw logits of C item columns for B rows (positions in sessions).
* `positive` int64 [B]: the column that holds each row's target.
* `excluded` bool [B, C] or None: columns that are no negatives of a row, such as another row's target that happens to
  be the same item. None excludes nothing. A row's own column is never one of its negatives.
* result [B]: one value per row. The trainer sums the rows and divides by the configured batch size.

All formulas are evaluated in log space, where a softmax weight or a sigmoid that would underflow stays finite. A row
all of whose other columns are excluded has the loss 0; there must be at least two columns. Notation: r_i score of the
target, r_j of a negative, s_j softmax over the negatives, σ logistic function. Source: Hidasi & Karatzoglou, arXiv
1706.03847, sections 3 and 4.
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
        options: its keyword-only arguments and their defaults; `inspect.Parameter.empty` for one that has none.
        search_ranges: per option, what a search may try: (low, high) for a range, a list for a choice.
        corrects_sampling: whether `logq` applies to it.
        lowered_is_excluded: whether a column with a score far below all others is as good as excluded, which spares a
            pass over the scores where few columns are.
        cosine_defaults: defaults of options that are others where scores are cosines.
        compiled: value and gradient in one, `(scores, bias, positive, scale, **options)` as in `kernels`, for where
            nothing is excluded and `kernels` fit.
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
        """The options that a configuration sets for this loss, checked; `logq` is not among them.

        Raises:
            UserError: an option is set that this loss does not have (zero is accepted as "not set" for the official
                option fields, as the official parameter files do), or one is not set that has no default.
        """
        for name in config.loss_options:
            if name in LOSS_OPTION_FIELDS:
                raise UserError(f"loss_options: {name} has a key of its own, set that instead")
            default = self.options.get(name)
            value = config.loss_options[name]
            if isinstance(default, (int, float)) and not isinstance(value, (int, float)):
                raise UserError(f"loss_options: {name}: expected a number, got {value!r}")
        given = (dict(self.cosine_defaults) if config.score == "cosine" else {}) | dict(config.loss_options)
        for name in LOSS_OPTION_FIELDS:
            value = getattr(config, name)
            if name == "logq" and self.corrects_sampling:
                continue
            if name in self.options and value is not None:
                given[name] = value
            elif name not in self.options and value:
                raise UserError(
                    f"{name}: the loss {self.name!r} has no such option, got {value}; {self._known_options()}"
                )
        for name in given:
            if name not in self.options:
                raise UserError(f"loss_options: the loss {self.name!r} has no option {name!r}; {self._known_options()}")
        for name, default in self.options.items():
            if default is inspect.Parameter.empty and name not in given:
                key = name if name in LOSS_OPTION_FIELDS else f"loss_options.{name}"
                raise UserError(f"{key}: the loss {self.name!r} needs a value for it and has no default")
        return given

    def logq(self, config: TrainConfig) -> float:
        """The strength of the sampling correction: what is set, or else 1 for whole sessions and 0 for lanes."""
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
            options: chosen for the loss; those left out have their defaults.
            scores: [B, C], float32 or bfloat16, without the bias.
            bias: [C].
            positive: int64 [B], the targets' columns.
            scale: factor of the losses.
            excluded: bool [B, C], columns that are no negatives of a row.
        """
        if excluded is None and self.compiled is not None and kernels.fit(bias) and scores.is_contiguous():
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


def register_loss(
    name: str,
    *,
    search_ranges: Mapping[str, Any] | None = None,
    corrects_sampling: bool = False,
    lowered_is_excluded: bool = False,
    cosine_defaults: Mapping[str, Any] | None = None,
    compiled: Callable[..., tuple[Tensor, Tensor]] | None = None,
) -> Callable[[LossFunction], LossFunction]:
    """Make a function a loss that can be chosen by name.

    Args:
        name: the choice, lower case with hyphens.
        search_ranges: per keyword-only argument of the function, what a search may try.
        corrects_sampling: True lets `logq` correct the scores for the sampling before the function sees them.
        cosine_defaults: defaults of options that have to be others for cosine scores.
        lowered_is_excluded: True where a very low score takes a column out of the loss, as it does out of a softmax.
        compiled: the same function with its gradient, as in `kernels`.
    """

    def register(function: LossFunction) -> LossFunction:
        options = {
            parameter.name: parameter.default
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind is parameter.KEYWORD_ONLY
        }
        LOSSES[name] = Loss(
            name,
            function,
            options,
            dict(search_ranges or {}),
            corrects_sampling,
            lowered_is_excluded,
            dict(cosine_defaults or {}),
            compiled,
        )
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
    # cosine scores are bounded already: regularised on top of that, they collapse
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
        bpreg: weight of the score regularisation; 0 by default where scores are cosines.
        elu_param: the α of the ELU that is applied to the scores first; 0 leaves them linear, as it is by default where
            scores are cosines.

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
    """Scores less logq · log(q), which undoes the favour that sampling shows to popular items (training only).

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
    """A value far below any score, yet finite: differences of it are no NaN."""
    return torch.finfo(scores.dtype).min / 4


def _log_softmax_over_negatives(scores: Tensor, positive: Tensor, excluded: Tensor | None) -> Tensor:
    """Logarithms of the softmax weights s_j, [B, C]; of columns that are no negatives so low that exp gives 0."""
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
    """The rows' losses, 0 for rows that have no negative at all (their softmax is over nothing)."""
    if excluded is None:
        return losses
    return torch.where(_count_negatives(positive, excluded) > 0, losses, 0.0)


def _count_negatives(positive: Tensor, excluded: Tensor) -> Tensor:
    return (~excluded).scatter(1, positive.unsqueeze(1), False).sum(dim=1)  # [B]
