"""Losses with their gradients, row by row; formulas in `gru4rec.model.bpr_max`."""

import numpy as np
from numba import njit

from gru4rec.kernels.arguments import FLOAT32, INT64, NUMBER, PRODUCT, matrix, vector
from gru4rec.kernels.arithmetic import ONE, REORDERED, TWO, ZERO, exp, f32, read, sigmoid, write
from gru4rec.kernels.loop import loop, own_rows

FAR_ABOVE = f32(60)  # as in gru4rec.model.bpr_max
SUM_WIDTH = 256  # columns that a thread sums at a time


@njit(fastmath=True)
def _highest(values):
    """The largest value [n], or any of them where one is NaN."""
    highest = f32(-np.inf)
    for value in values:
        highest = max(highest, value)
    return highest


@njit(fastmath=REORDERED, inline="always")
def _bpr_max_sums(values, best, limited, weights, losing):
    """Over negatives with activated scores `values` [n]: write e^(y - best) and σ(y - limited).

    Returns the sums of the first, of the first times y², and of the second.
    """
    total, squares, lost = ZERO, ZERO, ZERO
    for column in range(len(values)):
        y = values[column]
        weight, chance = exp(y - best), sigmoid(y - limited)
        weights[column], losing[column] = weight, chance
        total += weight
        squares += weight * y * y
        lost += chance
    return total, squares, lost


@njit(fastmath=REORDERED, inline="always")
def _bpr_max_gradient(values, weights, losing, share, per_lost, bpreg, regularisation, elu_param, scale):
    """Turn the activated scores `values` [n] of negatives into their gradients; returns Σ v, the pull on the target."""
    pulls = ZERO
    for column in range(len(values)):
        y, s = values[column], weights[column] * share
        pull = losing[column] * (ONE - losing[column]) * per_lost
        slope = ONE if y > ZERO or elu_param <= ZERO else y + elu_param
        values[column] = scale * slope * (s - pull + bpreg * s * (y * y + TWO * y - regularisation))
        pulls += pull
    return pulls


@loop(
    scores=PRODUCT,
    bias=FLOAT32,
    positive=INT64,
    losses=FLOAT32,
    gradient=PRODUCT,
    scale=NUMBER,
    bpreg=NUMBER,
    elu_param=NUMBER,
)
def bpr_max(arguments):
    scores, bias, positive = matrix(arguments.scores), vector(arguments.bias), vector(arguments.positive)
    losses, gradient = vector(arguments.losses), matrix(arguments.gradient)
    scale, bpreg, elu_param = arguments.scale, arguments.bpreg, arguments.elu_param
    columns = scores.shape[1]
    values = np.empty(columns, f32)  # first the activated scores, then their gradients
    weights, losing = np.empty(columns, f32), np.empty(columns, f32)
    first, last = own_rows(arguments)
    for row in range(first, last):
        own = positive[row]
        given = scores[row]
        for column in range(columns):
            score = read(given[column]) + bias[column]
            values[column] = score if score > ZERO or elu_param <= ZERO else elu_param * (exp(score) - ONE)
        before, after = values[:own], values[own + 1 :]
        target, best = values[own], max(_highest(before), _highest(after))
        limited = best + FAR_ABOVE if target > best + FAR_ABOVE else target
        total, squares, lost = _bpr_max_sums(before, best, limited, weights[:own], losing[:own])
        more = _bpr_max_sums(after, best, limited, weights[own + 1 :], losing[own + 1 :])
        total, squares, lost = total + more[0], squares + more[1], lost + more[2]
        regularisation = squares / total
        losses[row] = scale * (best + np.log(total) - limited - np.log(lost) + bpreg * regularisation)
        share, per_lost = ONE / total, ONE / lost
        pulls = _bpr_max_gradient(
            before, weights[:own], losing[:own], share, per_lost, bpreg, regularisation, elu_param, scale
        )
        pulls += _bpr_max_gradient(
            after, weights[own + 1 :], losing[own + 1 :], share, per_lost, bpreg, regularisation, elu_param, scale
        )
        slope = ONE if target > ZERO or elu_param <= ZERO else target + elu_param
        values[own] = scale * slope * (pulls - ONE)
        taken = gradient[row]
        for column in range(columns):
            write(taken, column, values[column])


@loop(scores=PRODUCT, bias=FLOAT32, positive=INT64, losses=FLOAT32, gradient=PRODUCT, scale=NUMBER)
def cross_entropy(arguments):
    scores, bias, positive = matrix(arguments.scores), vector(arguments.bias), vector(arguments.positive)
    losses, gradient, scale = vector(arguments.losses), matrix(arguments.gradient), arguments.scale
    columns = scores.shape[1]
    values = np.empty(columns, f32)
    first, last = own_rows(arguments)
    for row in range(first, last):
        own = positive[row]
        given = scores[row]
        for column in range(columns):
            values[column] = read(given[column]) + bias[column]
        best, target = _highest(values), values[own]
        total = ZERO
        for column in range(columns):
            weight = exp(values[column] - best)
            values[column] = weight
            total += weight
        share = scale / total
        taken = gradient[row]
        for column in range(columns):
            write(taken, column, values[column] * share)
        write(taken, own, values[own] * share - scale)
        losses[row] = scale * (best + np.log(total) - target)


@loop(values=PRODUCT, sums=FLOAT32)
def column_sums(arguments):
    """A row of this loop is a block of `SUM_WIDTH` columns."""
    values, sums = matrix(arguments.values), vector(arguments.sums)
    total = np.empty(SUM_WIDTH, f32)
    first_block, last_block = own_rows(arguments)
    for block in range(first_block, last_block):
        first, last = block * SUM_WIDTH, min(len(sums), (block + 1) * SUM_WIDTH)
        total[:] = ZERO
        for row in range(len(values)):
            part = values[row, first:last]
            for column in range(len(part)):
                total[column] += read(part[column])
        sums[first:last] = total[: last - first]
