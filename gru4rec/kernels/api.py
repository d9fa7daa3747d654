"""The element-wise parts of a training step on a processor, each in one walk over its numbers.

torch runs one operation after the other, and every one of them reads its operands from memory and writes its result
back: BPR-max takes about twenty such walks over the score matrix, the update of a table's rows ten. Compiled by numba,
each is one parallel loop over rows. They give what the torch code that they stand for gives, to within rounding, and
stand for it where that would run in float32 on a processor. Without numba, and on other devices, the torch code runs.

Rows are spread over as many threads as torch uses and nothing is summed across threads, so the results do not depend on
their number. What comes from matrix products or goes into them, gradients included, may be bfloat16.
"""

import math
from functools import cache, lru_cache

import torch
from torch import Tensor

try:
    from gru4rec.kernels import gru as _rows
    from gru4rec.kernels import losses as _losses
    from gru4rec.kernels import optimizers as _updates
    from gru4rec.kernels.parallel import run as _run
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


def take(gradient: Tensor) -> bool:
    """Whether the update rules can take this gradient: float32 or bfloat16 on a processor, without gaps."""
    return fit(gradient) or (_half(gradient) and gradient.device.type == "cpu" and gradient.is_contiguous())


def _numbers(decays: tuple[float, float]) -> tuple[float, float, float]:
    """As Adam's loops take them: 1 - decay would lose digits in float32."""
    return 1 - decays[0], decays[1], 1 - decays[1]


@lru_cache(maxsize=256)
def _places(count: int) -> Tensor:
    return torch.arange(count)


def _chains(items: Tensor, places: Tensor | None, following: Tensor | None) -> tuple[Tensor, Tensor]:
    """Places and chains as the loops take them."""
    return (
        _places(len(items)) if places is None else places,
        _nothing(torch.int64, 1) if following is None else following,
    )


@cache
def _zeros(count: int) -> Tensor:
    return torch.zeros(count)


@cache
def _nothing(dtype: torch.dtype, dimensions: int) -> Tensor:
    return torch.empty((0,) * dimensions, dtype=dtype)


def _copy(rounded: Tensor | None) -> Tensor:
    """The bfloat16 copy of a parameter as the loops take it."""
    return _nothing(torch.bfloat16, 1) if rounded is None else rounded


def drop_limit(share: float) -> int:
    """The limit that a share of all int16 numbers lies below, to within 2^-16."""
    below: int = min(round(share * 2**16), 2**16 - 1)
    return below - 2**15


def _drops(numbers: Tensor | None, share: float) -> tuple[Tensor, float, float]:
    """Dropout as the loops take it: random numbers, the limit, and the factor of what stays."""
    if numbers is None:
        return _nothing(torch.int16, 2), 0.0, 1.0
    return numbers, drop_limit(share), 1 / (1 - share)


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


def gathered(
    table: Tensor, items: Tensor, product_type: torch.dtype, numbers: Tensor | None = None, share: float = 0.0
) -> Tensor:
    """The rows `items` int64 [n] of a float32 table [N, H], as [n, H] of the given type, after dropout.

    Args:
        table, items, product_type: as said.
        numbers: int16 [n, H], as of `dropout.DropNumbers`; None for no dropout.
        share: that is dropped.
    """
    rows = torch.empty(len(items), table.shape[1], dtype=product_type)
    loop = _rows.gathered_bfloat16 if _half(rows) else _rows.gathered_float32
    _run(loop, len(items), table, items, rows, *_drops(numbers, share))
    return rows


def random_words(seed: int, start: int, count: int) -> Tensor:
    """Random numbers, int64 [count]: those from number `start` on of the sequence of splitmix64 for a seed."""
    words = torch.empty(count, dtype=torch.int64)
    _run(_rows.random_words, count, torch.tensor([seed, start]), words)
    return words


def drop(values: Tensor, numbers: Tensor | None, share: float) -> None:
    """Dropout of values [B, H], float32 or bfloat16, in place; the numbers are as of `gathered`."""
    if numbers is not None:
        _run(_rows.drop_bfloat16 if _half(values) else _rows.drop_float32, len(values), values, *_drops(numbers, share))


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
        biases: of both, [3H] each; None where they are added already.
        hidden: [B, H].
        numbers: int16 [B, H]; None for no dropout.
        share: that is dropped.

    Returns:
        The next hidden state [B, H]; the same in the type of the products; and the activations r, z, n, U h + b'
        [B, 4H].
    """
    following, activations = torch.empty_like(hidden), torch.empty(len(hidden), 4 * hidden.shape[1])
    half = _half(from_hidden)
    product = torch.empty_like(hidden, dtype=torch.bfloat16) if half else following
    if biases is None:
        biases = _zeros(from_input.shape[1]), _zeros(from_input.shape[1])
    _run(
        _rows.gates_bfloat16 if half else _rows.gates_float32,
        len(hidden),
        from_input,
        from_hidden,
        *biases,
        hidden,
        *_drops(numbers, share),
        activations,
        following,
        product,
    )
    return following, product, activations


def gates_gradient(
    upstream: Tensor, numbers: Tensor | None, share: float, activations: Tensor, hidden: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `gates`: to from_input and to from_hidden [B, 3H] in the type of that of the output, `upstream`
    [B, H], and directly to hidden [B, H]."""
    kept = torch.empty_like(hidden)
    to_input, to_hidden = (torch.empty(len(hidden), 3 * hidden.shape[1], dtype=upstream.dtype) for _ in range(2))
    _run(
        _rows.gates_gradient_bfloat16 if _half(upstream) else _rows.gates_gradient_float32,
        len(hidden),
        upstream,
        *_drops(numbers, share),
        activations,
        hidden,
        to_input,
        to_hidden,
        kept,
    )
    return to_input, to_hidden, kept


def chained(count: int, repeats: Tensor, into: Tensor) -> Tensor:
    """The next place of the same row for each of `count` places, or -1: int64 [count].

    Args:
        count: of all places.
        repeats: int64 [r], the places of rows that have one before.
        into: int64 [r], the first place of each one's row.
    """
    following = torch.empty(count, dtype=torch.int64)
    _run(_updates.chain, 1, following, repeats, into)
    return following


def adagrad(
    parameter: Tensor,
    accumulator: Tensor,
    velocity: Tensor,
    items: Tensor,
    gradient: Tensor,
    places: Tensor | None,
    following: Tensor | None,
    *,
    rate: float,
    momentum: float,
    epsilon: float,
) -> None:
    """Adagrad with momentum on some rows, all of them different.

    Args:
        parameter, accumulator, velocity: [N, H] or [N]; the velocity is not touched without momentum.
        items: int64 [n], row numbers as gathered.
        gradient: [n, H] or [n], float32 or bfloat16.
        places: int64 [u], the first place of every row; None where all rows are different.
        following: int64 [n], as of `chained`, to the places whose gradients are added; None where there are none.
        rate, momentum, epsilon: of the rule.
    """
    places, following = _chains(items, places, following)
    tensors = parameter, accumulator, velocity, items, gradient, places, following
    loop = _updates.adagrad_bfloat16 if _half(gradient) else _updates.adagrad_float32
    _run(loop, len(places), *tensors, rate, momentum, epsilon)


def adagrad_all(
    parameter: Tensor,
    accumulator: Tensor,
    velocity: Tensor,
    gradient: Tensor,
    rounded: Tensor | None = None,
    *,
    rate: float,
    momentum: float,
    epsilon: float,
) -> None:
    """Adagrad with momentum on every entry of tensors of one shape; `rounded` is the parameter in bfloat16, or None."""
    tensors = parameter, accumulator, velocity, gradient, _copy(rounded)
    loop = _updates.adagrad_all_bfloat16 if _half(gradient) else _updates.adagrad_all_float32
    _run(loop, math.ceil(parameter.numel() / _updates.BLOCK), *tensors, rate, momentum, epsilon)


def adamw(
    parameter: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    items: Tensor,
    gradient: Tensor,
    places: Tensor | None,
    following: Tensor | None,
    *,
    decays: tuple[float, float],
    scale: float,
    root_correction: float,
    epsilon: float,
) -> None:
    """Adam on some rows, all of them different; arguments as of `adagrad`, the numbers as in `optim.RowAdamW`."""
    places, following = _chains(items, places, following)
    tensors = parameter, first_moment, second_moment, items, gradient, places, following
    loop = _updates.adamw_bfloat16 if _half(gradient) else _updates.adamw_float32
    _run(loop, len(places), *tensors, *_numbers(decays), scale, root_correction, epsilon)


def adamw_all(
    parameter: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    gradient: Tensor,
    rounded: Tensor | None = None,
    *,
    decays: tuple[float, float],
    scale: float,
    root_correction: float,
    epsilon: float,
) -> None:
    """Adam on every entry of tensors of one shape; `rounded` is the parameter in bfloat16, or None."""
    tensors = parameter, first_moment, second_moment, gradient, _copy(rounded)
    blocks = math.ceil(parameter.numel() / _updates.BLOCK)
    _run(
        _updates.adamw_all_bfloat16 if _half(gradient) else _updates.adamw_all_float32,
        blocks,
        *tensors,
        *_numbers(decays),
        scale,
        root_correction,
        epsilon,
    )
