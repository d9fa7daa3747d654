"""What a step does to rows besides products: gathering, dropout, and the gates of a GRU.

Where something is dropped, a number below `limit` says so, and what stays is scaled up; a scale of 1 is no dropout.
Matrices that come from products or go into them have the type of products.
"""

import numpy as np
from numba import njit

from gru4rec.kernels.arithmetic import ONE, REORDERED, TWO, ZERO, f32, read, sigmoid, write
from gru4rec.kernels.calling import floats, halves, longs, loop, own_rows, scalar, shorts, vector


@njit(fastmath=REORDERED, inline="always")
def _factor(number, limit, scale):
    """What a value is multiplied with, by its random number."""
    return scale if f32(number) >= limit else ZERO


@njit(inline="always")
def _gathered(words, rows):
    table, items = floats(words, 0), longs(words, 1)
    numbers, limit, scale = shorts(words, 3), scalar(words, 4), scalar(words, 5)
    first, last = own_rows(words)
    for number in range(first, last):
        source, row = table[items[number]], rows[number]
        if scale == ONE:
            for column in range(len(source)):
                write(row, column, source[column])
        else:
            drops = numbers[number]
            for column in range(len(source)):
                write(row, column, source[column] * _factor(drops[column], limit, scale))


@loop
def gathered_float32(words):
    _gathered(words, floats(words, 2))


@loop
def gathered_bfloat16(words):
    _gathered(words, halves(words, 2))


@njit(inline="always")
def _drop(words, values):
    numbers, limit, scale = shorts(words, 1), scalar(words, 2), scalar(words, 3)
    first, last = own_rows(words)
    for row in range(first, last):
        changed, drops = values[row], numbers[row]
        for column in range(len(changed)):
            write(changed, column, read(changed[column]) * _factor(drops[column], limit, scale))


@loop
def random_words(words):
    """As `dropout.splitmix64`."""
    given, numbers = longs(words, 0), longs(words, 1)
    seed, start = np.uint64(given[0]), given[1] + 1
    first, last = own_rows(words)
    for number in range(first, last):
        mixed = seed + np.uint64(start + number) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        numbers[number] = np.int64(mixed ^ (mixed >> np.uint64(31)))


@loop
def drop_float32(words):
    _drop(words, floats(words, 0))


@loop
def drop_bfloat16(words):
    _drop(words, halves(words, 0))


@njit(fastmath=REORDERED, inline="always")
def _gates(words, from_input, from_hidden, product):
    bias_ih, bias_hh, hidden = vector(words, 2), vector(words, 3), floats(words, 4)
    numbers, limit, scale = shorts(words, 5), scalar(words, 6), scalar(words, 7)
    activations, following = floats(words, 8), floats(words, 9)
    units = hidden.shape[1]
    first, last = own_rows(words)
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


@loop
def gates_float32(words):
    _gates(words, floats(words, 0), floats(words, 1), floats(words, 10))


@loop
def gates_bfloat16(words):
    _gates(words, halves(words, 0), halves(words, 1), halves(words, 10))


@njit(fastmath=REORDERED, inline="always")
def _gates_gradient(words, upstream, to_input, to_hidden):
    numbers, limit, scale = shorts(words, 1), scalar(words, 2), scalar(words, 3)
    activations, hidden, kept = floats(words, 4), floats(words, 5), floats(words, 8)
    units = hidden.shape[1]
    first, last = own_rows(words)
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


@loop
def gates_gradient_float32(words):
    _gates_gradient(words, floats(words, 0), floats(words, 6), floats(words, 7))


@loop
def gates_gradient_bfloat16(words):
    _gates_gradient(words, halves(words, 0), halves(words, 6), halves(words, 7))
