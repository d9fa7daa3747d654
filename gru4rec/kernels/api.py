"""The element-wise parts of a training step on a CPU, each in one pass over its numbers.

torch runs one operation after the other, and each of them reads its operands from memory and writes its result back:
BPR-max takes about twenty such passes over the score matrix, the update of a table's rows ten. Compiled by numba, each
is one parallel loop over rows. The loops replace torch code that would run in float32 on a CPU, and give its results to
within rounding. Without numba, and on other devices, the torch code runs.

Rows are spread over as many threads as torch uses and nothing is summed across threads, so the results do not depend on
their number. Inputs and outputs of matrix products, gradients included, may be bfloat16.
"""

import math
from typing import Any

import torch
from torch import Tensor

try:
    from gru4rec.kernels import gru as _gru
    from gru4rec.kernels import losses as _losses
    from gru4rec.kernels import optimizers as _optimizers
except ImportError:
    AVAILABLE = False
else:
    AVAILABLE = True
"""Whether numba is installed; if not, the torch code runs everywhere."""


def runs_on(device: torch.device) -> bool:
    """Whether the loops run on this device."""
    return AVAILABLE and device.type == "cpu"


def accepts(*tensors: Tensor) -> bool:
    """Whether the loops can replace torch code on these tensors: contiguous float32 on a CPU."""
    if not AVAILABLE or torch.compiler.is_compiling():
        return False
    return all(
        tensor.dtype is torch.float32 and tensor.device.type == "cpu" and tensor.is_contiguous() for tensor in tensors
    )


def accepts_gradient(gradient: Tensor) -> bool:
    """Whether the update rules accept this gradient: contiguous float32 or bfloat16 on a CPU."""
    return accepts(gradient) or (
        gradient.dtype is torch.bfloat16 and gradient.device.type == "cpu" and gradient.is_contiguous()
    )


def bpr_max(
    scores: Tensor, bias: Tensor, positive: Tensor, scale: float, *, bpreg: float, elu_param: float
) -> tuple[Tensor, Tensor]:
    """BPR-max and its gradient.

    Args:
        scores: [B, C], float32 or bfloat16; without the bias.
        bias: [C].
        positive: int64 [B], the targets' columns.
        scale: factor of the losses.
        bpreg, elu_param: options of the loss.

    Returns:
        Losses [B], and gradients with respect to the biased scores [B, C] in the type of the scores.
    """
    return _run_loss(_losses.bpr_max, scores, bias, positive, scale=scale, bpreg=bpreg, elu_param=elu_param)


def cross_entropy(scores: Tensor, bias: Tensor, positive: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Softmax cross-entropy and its gradient; arguments and result as in `bpr_max`."""
    return _run_loss(_losses.cross_entropy, scores, bias, positive, scale=scale)


def _run_loss(loop: Any, scores: Tensor, bias: Tensor, positive: Tensor, **numbers: float) -> tuple[Tensor, Tensor]:
    losses, gradient = bias.new_empty(len(scores)), torch.empty_like(scores)
    loop(len(scores), scores=scores, bias=bias, positive=positive, losses=losses, gradient=gradient, **numbers)
    return losses, gradient


def column_sums(values: Tensor) -> Tensor:
    """The float32 sums [C] over the rows of values [B, C], float32 or bfloat16."""
    sums = torch.empty(values.shape[1])
    _losses.column_sums(math.ceil(len(sums) / _losses.SUM_WIDTH), values=values, sums=sums)
    return sums


def drop_limit(share: float) -> int:
    """The limit that a share of all int16 numbers lies below, to within 2^-16."""
    below: int = min(round(share * 2**16), 2**16 - 1)
    return below - 2**15


def _dropout(numbers: Tensor | None, share: float) -> dict[str, Any]:
    """The arguments of a loop that say what is dropped."""
    if numbers is None:
        return {"numbers": None, "limit": 0, "scale": 1}
    return {"numbers": numbers, "limit": drop_limit(share), "scale": 1 / (1 - share)}


def gather(
    table: Tensor, items: Tensor, product_type: torch.dtype, numbers: Tensor | None = None, share: float = 0.0
) -> Tensor:
    """Some rows of a table, after dropout.

    Args:
        table: float32 [N, H].
        items: int64 [n], the rows.
        product_type: of the result, float32 or bfloat16.
        numbers: int16 [n, H], from `DropNumbers`; None for no dropout.
        share: of the values that are dropped.

    Returns:
        [n, H].
    """
    rows = torch.empty(len(items), table.shape[1], dtype=product_type)
    _gru.gather(len(items), table=table, items=items, rows=rows, **_dropout(numbers, share))
    return rows


def splitmix64(seed: int, start: int, count: int) -> Tensor:
    """Random numbers, int64 [count]: the sequence of splitmix64 for a seed, from number `start` on."""
    numbers = torch.empty(count, dtype=torch.int64)
    _gru.splitmix64(count, seed_and_start=torch.tensor([seed, start]), numbers=numbers)
    return numbers


def drop(values: Tensor, numbers: Tensor | None, share: float) -> None:
    """Dropout of values [B, H], float32 or bfloat16, in place; the numbers are as in `gather`."""
    if numbers is not None:
        _gru.drop(len(values), values=values, **_dropout(numbers, share))


def gates(
    from_input: Tensor,
    from_hidden: Tensor,
    biases: tuple[Tensor, Tensor] | None,
    hidden: Tensor,
    numbers: Tensor | None,
    share: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The element-wise part of a GRU layer, and dropout of its output.

    Args:
        from_input, from_hidden: [B, 3H], the products with the weights, both float32 or both bfloat16.
        biases: one for each of them, [3H]; None if they are added already.
        hidden: [B, H].
        numbers: int16 [B, H]; None for no dropout.
        share: of the values that are dropped.

    Returns:
        The next hidden state [B, H]; the same in the type of the products; and the activations r, z, n, U h + b'
        [B, 4H].
    """
    following, activations = torch.empty_like(hidden), torch.empty(len(hidden), 4 * hidden.shape[1])
    product = following if from_hidden.dtype is torch.float32 else torch.empty_like(hidden, dtype=from_hidden.dtype)
    bias_ih, bias_hh = biases or (torch.zeros(from_input.shape[1]),) * 2
    _gru.gates(
        len(hidden),
        from_input=from_input,
        from_hidden=from_hidden,
        bias_ih=bias_ih,
        bias_hh=bias_hh,
        hidden=hidden,
        activations=activations,
        following=following,
        product=product,
        **_dropout(numbers, share),
    )
    return following, product, activations


def gates_gradient(
    upstream: Tensor, numbers: Tensor | None, share: float, activations: Tensor, hidden: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `gates`.

    Args:
        upstream: [B, H], the gradient of the output.
        numbers, share, hidden: as in `gates`.
        activations: [B, 4H], from `gates`.

    Returns:
        The gradients of from_input and of from_hidden [B, 3H], in the type of `upstream`, and that of hidden [B, H]
        which does not pass through from_hidden.
    """
    kept = torch.empty_like(hidden)
    to_input, to_hidden = (torch.empty(len(hidden), 3 * hidden.shape[1], dtype=upstream.dtype) for _ in range(2))
    _gru.gates_gradient(
        len(hidden),
        upstream=upstream,
        activations=activations,
        hidden=hidden,
        to_input=to_input,
        to_hidden=to_hidden,
        kept=kept,
        **_dropout(numbers, share),
    )
    return to_input, to_hidden, kept


def chain(count: int, repeats: Tensor, into: Tensor) -> Tensor:
    """The next place of the same row for each of `count` places, or -1: int64 [count].

    Args:
        count: number of places.
        repeats: int64 [r], the places whose row has occurred before.
        into: int64 [r], the first place of each one's row.
    """
    following = torch.empty(count, dtype=torch.int64)
    _optimizers.chain(1, following=following, repeats=repeats, into=into)
    return following


def update_rows(rule: str, *, items: Tensor, places: Tensor | None, **arguments: Tensor | float | None) -> None:
    """Update some rows of a table.

    Args:
        rule: "adagrad" or "adamw".
        items: int64 [n], row numbers as gathered.
        places: int64 [u], the first place of every row; None if no row repeats.
        arguments: the others of the rule's loop in `optimizers`: tables and states [N, H] or [N], gradient [n, H] or
            [n], float32 or bfloat16; following is the result of `chain`, or None if no row repeats.
    """
    loop = {"adagrad": _optimizers.adagrad, "adamw": _optimizers.adamw}[rule]
    loop(len(items if places is None else places), items=items, places=places, **arguments)


def update_all(rule: str, *, parameter: Tensor, **arguments: Tensor | float | None) -> None:
    """Update every entry of a parameter.

    Args:
        rule: "adagrad" or "adamw".
        parameter: float32.
        arguments: the others of the rule's loop in `optimizers`: states and gradient of the parameter's shape; rounded
            is a bfloat16 copy of the parameter to keep up to date, or None.
    """
    loop = {"adagrad": _optimizers.adagrad_all, "adamw": _optimizers.adamw_all}[rule]
    loop(math.ceil(parameter.numel() / _optimizers.BLOCK), parameter=parameter, **arguments)
