"""The element-wise parts of a training step on a processor, each in one walk over its numbers.

torch runs one operation after the other, and every one of them reads its operands from memory and writes its result
back: BPR-max takes about twenty such walks over the score matrix, the update of a table's rows ten. Compiled by numba,
each is one parallel loop over rows. They give what the torch code that they stand for gives, to within rounding, and
stand for it where that would run in float32 on a processor. Without numba, and on other devices, the torch code runs.

Rows are spread over as many threads as torch uses and nothing is summed across threads, so the results do not depend on
their number. A `product_type` of bfloat16 is that of a matrix that only goes into a product.
"""

import ctypes
import math
import struct
import sys
from functools import cache
from typing import Any

import torch
from torch import Tensor

try:
    from gru4rec.kernels import losses as _losses
    from gru4rec.kernels import rows as _rows
    from gru4rec.kernels import updates as _updates
    from gru4rec.kernels.words import OPENMP as _OPENMP
except ImportError:
    AVAILABLE = False
else:
    AVAILABLE = True
"""Whether numba is installed; where this is False, the torch code runs everywhere."""


def serve(device: torch.device) -> bool:
    """Whether the loops run on this device."""
    return AVAILABLE and device.type == "cpu"


def fit(*tensors: Tensor) -> bool:
    """Whether the loops can stand for torch code on these tensors: float32 on a processor, without gaps."""
    if not AVAILABLE or torch.compiler.is_compiling():
        return False
    return all(
        tensor.dtype is torch.float32 and tensor.device.type == "cpu" and tensor.is_contiguous() for tensor in tensors
    )


def _run(loop: Any, count: int, *arguments: Tensor | float) -> None:
    """Run a loop over `count` rows, on as many threads as torch uses."""
    words = [count]
    for argument in arguments:
        if isinstance(argument, Tensor):
            shape = argument.shape
            words += (argument.data_ptr(), shape[0], shape[1] if len(shape) == 2 else 1)
        else:
            words += (int.from_bytes(struct.pack("=f", argument), sys.byteorder), 0, 0)
    data = (ctypes.c_int64 * len(words))(*words)
    if _OPENMP is not None:
        _OPENMP.GOMP_parallel(ctypes.c_void_p(loop.address), data, torch.get_num_threads(), 0)
    else:
        loop.ctypes(data)


def _numbers(decays: tuple[float, float]) -> tuple[float, float, float]:
    """As Adam's loops take them: 1 - decay would lose digits in float32."""
    return 1 - decays[0], decays[1], 1 - decays[1]


@cache
def _places(count: int) -> Tensor:
    return torch.arange(count)


def _half(tensor: Tensor) -> bool:
    return tensor.dtype is torch.bfloat16


def bpr_max(
    scores: Tensor, bias: Tensor, positive: Tensor, scale: float, *, bpreg: float, elu_param: float
) -> tuple[Tensor, Tensor]:
    """BPR-max.

    Args:
        scores: [B, C], float32 or bfloat16; without the bias.
        bias: [C].
        positive: int64 [B], the targets' columns.
        scale: factor of the losses.
        bpreg, elu_param: options of the loss.

    Returns:
        Losses [B], and gradients with respect to the biased scores [B, C] in the type of the scores.
    """
    losses, gradient = bias.new_empty(len(scores)), torch.empty_like(scores)
    arguments = scores, bias, positive, losses, gradient, scale, bpreg, elu_param
    _run(_losses.bpr_max_bfloat16 if _half(scores) else _losses.bpr_max_float32, len(scores), *arguments)
    return losses, gradient


def cross_entropy(scores: Tensor, bias: Tensor, positive: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Softmax cross-entropy; arguments and result as of `bpr_max`."""
    losses, gradient = bias.new_empty(len(scores)), torch.empty_like(scores)
    _run(
        _losses.cross_entropy_bfloat16 if _half(scores) else _losses.cross_entropy_float32,
        len(scores),
        scores,
        bias,
        positive,
        losses,
        gradient,
        scale,
    )
    return losses, gradient


def column_sums(values: Tensor) -> Tensor:
    """The float32 sums [C] over the rows of values [B, C], float32 or bfloat16."""
    sums = torch.empty(values.shape[1])
    _run(
        _losses.column_sums_bfloat16 if _half(values) else _losses.column_sums_float32,
        math.ceil(len(sums) / _losses.SUM_WIDTH),
        values,
        sums,
    )
    return sums


def gathered(table: Tensor, items: Tensor, product_type: torch.dtype) -> Tensor:
    """The rows `items` int64 [n] of a float32 table [N, H], as [n, H] of the given type."""
    rows = torch.empty(len(items), table.shape[1], dtype=product_type)
    _run(_rows.gathered_bfloat16 if _half(rows) else _rows.gathered_float32, len(items), table, items, rows)
    return rows


def drop(values: Tensor, uniform: Tensor | None, share: float) -> None:
    """Set values [B, H] to 0 where their uniform random number is below the share, scale the others up; in place."""
    if uniform is not None:
        _run(_rows.drop, len(values), values, uniform, share)


def gates(
    from_input: Tensor, from_hidden: Tensor, hidden: Tensor, uniform: Tensor | None, share: float
) -> tuple[Tensor, Tensor]:
    """The element-wise part of a GRU layer, and dropout of its output.

    Args:
        from_input, from_hidden: [B, 3H], the products with the weights, biases added.
        hidden: [B, H].
        uniform: [B, H] random numbers; None for no dropout.
        share: that is dropped.

    Returns:
        The next hidden state [B, H] and the activations r, z, n [B, 3H].
    """
    following, activations = torch.empty_like(hidden), torch.empty_like(from_input)
    dropout = (hidden, 0.0) if uniform is None else (uniform, share)
    _run(_rows.gates, len(hidden), from_input, from_hidden, hidden, *dropout, activations, following)
    return following, activations


def gates_gradient(
    upstream: Tensor, uniform: Tensor | None, share: float, activations: Tensor, from_hidden: Tensor, hidden: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `gates`: to from_input [B, 3H], to from_hidden [B, 3H], and directly to hidden [B, H]."""
    to = torch.empty_like(from_hidden), torch.empty_like(from_hidden), torch.empty_like(hidden)
    dropout = (hidden, 0.0) if uniform is None else (uniform, share)
    _run(_rows.gates_gradient, len(hidden), upstream, *dropout, activations, from_hidden, hidden, *to)
    return to


def merge(gradient: Tensor, repeats: Tensor, into: Tensor) -> None:
    """Add rows `repeats` int64 [r] of a gradient [n, H] or [n] to its rows `into` int64 [r]; in place, in order."""
    _run(_updates.merge, 1, gradient, repeats, into)


def adagrad(
    parameter: Tensor,
    accumulator: Tensor,
    velocity: Tensor,
    items: Tensor,
    gradient: Tensor,
    places: Tensor | None,
    *,
    rate: float,
    momentum: float,
    epsilon: float,
) -> None:
    """Adagrad with momentum on some rows, all of them different.

    Args:
        parameter, accumulator, velocity: [N, H] or [N]; the velocity is not touched without momentum.
        items: int64 [n], row numbers as gathered.
        gradient: [n, H] or [n].
        places: int64 [u], which of the n are to be updated; None for all.
        rate, momentum, epsilon: of the rule.
    """
    places = _places(len(items)) if places is None else places
    tensors = parameter, accumulator, velocity, items, gradient, places
    _run(_updates.adagrad, len(places), *tensors, rate, momentum, epsilon)


def adagrad_all(
    parameter: Tensor,
    accumulator: Tensor,
    velocity: Tensor,
    gradient: Tensor,
    *,
    rate: float,
    momentum: float,
    epsilon: float,
) -> None:
    """Adagrad with momentum on every entry of tensors of one shape."""
    tensors = parameter, accumulator, velocity, gradient
    _run(_updates.adagrad_all, math.ceil(parameter.numel() / _updates.BLOCK), *tensors, rate, momentum, epsilon)


def adamw(
    parameter: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    items: Tensor,
    gradient: Tensor,
    places: Tensor | None,
    *,
    decays: tuple[float, float],
    scale: float,
    root_correction: float,
    epsilon: float,
) -> None:
    """Adam on some rows, all of them different; arguments as of `adagrad`, the numbers as in `optim.RowAdamW`."""
    places = _places(len(items)) if places is None else places
    tensors = parameter, first_moment, second_moment, items, gradient, places
    _run(_updates.adamw, len(places), *tensors, *_numbers(decays), scale, root_correction, epsilon)


def adamw_all(
    parameter: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    gradient: Tensor,
    *,
    decays: tuple[float, float],
    scale: float,
    root_correction: float,
    epsilon: float,
) -> None:
    """Adam on every entry of tensors of one shape."""
    tensors = parameter, first_moment, second_moment, gradient
    blocks = math.ceil(parameter.numel() / _updates.BLOCK)
    _run(_updates.adamw_all, blocks, *tensors, *_numbers(decays), scale, root_correction, epsilon)
