"""Gathering rows, dropout, and the gates of a GRU.

Dropout: a value is dropped if its random number is below `limit`, and multiplied by `scale` otherwise; a scale of 1 is
no dropout.
"""

import numpy as np
from numba import njit

from gru4rec.kernels.arguments import FLOAT32, INT16, INT64, NUMBER, PRODUCT, matrix, vector
from gru4rec.kernels.arithmetic import ONE, REORDERED, TWO, ZERO, f32, read, sigmoid, write
from gru4rec.kernels.loop import loop, own_rows

DROPOUT = {"numbers": INT16, "limit": NUMBER, "scale": NUMBER}


@njit(fastmath=REORDERED, inline="always")
def _factor(number, limit, scale):
    """What dropout multiplies a value by."""
    return scale if f32(number) >= limit else ZERO


@loop(table=FLOAT32, items=INT64, rows=PRODUCT, **DROPOUT)
def gather(arguments):
    table, items, rows = matrix(arguments.table), vector(arguments.items), matrix(arguments.rows)
    numbers, limit, scale = matrix(arguments.numbers), arguments.limit, arguments.scale
    first, last = own_rows(arguments)
    for place in range(first, last):
        source, row = table[items[place]], rows[place]
        if scale == ONE:
            for column in range(len(source)):
                write(row, column, source[column])
        else:
            drops = numbers[place]
            for column in range(len(source)):
                write(row, column, source[column] * _factor(drops[column], limit, scale))


@loop(values=PRODUCT, **DROPOUT)
def drop(arguments):
    values, numbers = matrix(arguments.values), matrix(arguments.numbers)
    limit, scale = arguments.limit, arguments.scale
    first, last = own_rows(arguments)
    for row in range(first, last):
        changed, drops = values[row], numbers[row]
        for column in range(len(changed)):
            write(changed, column, read(changed[column]) * _factor(drops[column], limit, scale))


@loop(seed_and_start=INT64, numbers=INT64)
def splitmix64(arguments):
    """As `gru4rec.training.dropout.splitmix64`."""
    seed_and_start, numbers = vector(arguments.seed_and_start), vector(arguments.numbers)
    seed, start = np.uint64(seed_and_start[0]), seed_and_start[1] + 1
    first, last = own_rows(arguments)
    for place in range(first, last):
        mixed = seed + np.uint64(start + place) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        numbers[place] = np.int64(mixed ^ (mixed >> np.uint64(31)))


@loop(
    from_input=PRODUCT,
    from_hidden=PRODUCT,
    bias_ih=FLOAT32,
    bias_hh=FLOAT32,
    hidden=FLOAT32,
    activations=FLOAT32,
    following=FLOAT32,
    product=PRODUCT,
    **DROPOUT,
)
def gates(arguments):
    from_input, from_hidden = matrix(arguments.from_input), matrix(arguments.from_hidden)
    bias_ih, bias_hh, hidden = vector(arguments.bias_ih), vector(arguments.bias_hh), matrix(arguments.hidden)
    numbers, limit, scale = matrix(arguments.numbers), arguments.limit, arguments.scale
    activations, following = matrix(arguments.activations), matrix(arguments.following)
    product = matrix(arguments.product)
    units = hidden.shape[1]
    first, last = own_rows(arguments)
    for row in range(first, last):
        given, before, kept, after = from_input[row], from_hidden[row], activations[row], following[row]
        for unit in range(units):
            kept[unit] = sigmoid(read(given[unit]) + bias_ih[unit] + (read(before[unit]) + bias_hh[unit]))
        for unit in range(units, 2 * units):
            kept[unit] = sigmoid(read(given[unit]) + bias_ih[unit] + (read(before[unit]) + bias_hh[unit]))
        for unit in range(units):
            reset, update, at = kept[unit], kept[units + unit], 2 * units + unit
            recurrent = read(before[at]) + bias_hh[at]
            new = TWO * sigmoid(TWO * (read(given[at]) + bias_ih[at] + reset * recurrent)) - ONE  # tanh
            kept[at] = new
            kept[units + at] = recurrent
            after[unit] = new + update * (hidden[row, unit] - new)
        if scale != ONE:
            drops = numbers[row]
            for unit in range(units):
                after[unit] *= _factor(drops[unit], limit, scale)
        factor = product[row]
        for unit in range(units):
            write(factor, unit, after[unit])


@loop(
    upstream=PRODUCT,
    activations=FLOAT32,
    hidden=FLOAT32,
    to_input=PRODUCT,
    to_hidden=PRODUCT,
    kept=FLOAT32,
    **DROPOUT,
)
def gates_gradient(arguments):
    upstream = matrix(arguments.upstream)
    to_input, to_hidden = matrix(arguments.to_input), matrix(arguments.to_hidden)
    numbers, limit, scale = matrix(arguments.numbers), arguments.limit, arguments.scale
    activations, hidden, kept = matrix(arguments.activations), matrix(arguments.hidden), matrix(arguments.kept)
    units = hidden.shape[1]
    first, last = own_rows(arguments)
    for row in range(first, last):
        above, given = upstream[row], kept[row]
        for unit in range(units):
            given[unit] = read(above[unit])
        if scale != ONE:
            drops = numbers[row]
            for unit in range(units):
                given[unit] *= _factor(drops[unit], limit, scale)
        values, before, of_input, of_hidden = activations[row], hidden[row], to_input[row], to_hidden[row]
        for unit in range(units):
            reset, update, new = values[unit], values[units + unit], values[2 * units + unit]
            slope = given[unit]
            to_new = slope * (ONE - update) * (ONE - new * new)
            to_reset = to_new * values[3 * units + unit] * reset * (ONE - reset)
            to_update = slope * (before[unit] - new) * update * (ONE - update)
            write(of_input, unit, to_reset)
            write(of_hidden, unit, to_reset)
            write(of_input, units + unit, to_update)
            write(of_hidden, units + unit, to_update)
            write(of_input, 2 * units + unit, to_new)
            write(of_hidden, 2 * units + unit, to_new * reset)
            given[unit] = slope * update
