"""Update rules of `gru4rec.training.optimizers`, on some rows of a table or on everything.

A row that is there several times has its gradients summed in float32 on the way, along a chain of places.

The numbers of a rule are handed over one by one: as a tuple they make the loops a third slower.
"""

import numpy as np
from numba import njit

from gru4rec.kernels.arithmetic import REORDERED, ZERO, f32, read, write
from gru4rec.kernels.calling import floats, half_vector, halves, longs, loop, own_rows, scalar, thread_number, vector

BLOCK = 1 << 12  # numbers that a thread takes at a time where there are no rows


@loop
def chain(words):
    """Link the places of a row: each one's next, or -1. Repeats are taken from the last, so that chains ascend."""
    following, repeats, into = longs(words, 0), longs(words, 1), longs(words, 2)
    if thread_number() == 0:
        for place in range(len(following)):
            following[place] = -1
        for number in range(len(repeats) - 1, -1, -1):
            repeat, start = repeats[number], into[number]
            following[repeat] = following[start]
            following[start] = repeat


@njit(fastmath=REORDERED, inline="always")
def _sum(gradient, place, following, slopes):
    """The gradient [H] of the row at a place, and of those chained to it."""
    row = gradient[place]
    for column in range(len(row)):
        slopes[column] = read(row[column])
    if len(following) > 0:
        place = following[place]
        while place >= 0:
            row = gradient[place]
            for column in range(len(row)):
                slopes[column] += read(row[column])
            place = following[place]


@njit(inline="always")
def _round(entries, rounded):
    """Writes entries in bfloat16 as well, where a copy of that type is kept."""
    for entry in range(len(rounded)):
        write(rounded, entry, entries[entry])


@njit(fastmath=REORDERED, inline="always")
def _adagrad_row(entries, squares, changes, slopes, rate, momentum, epsilon):
    if momentum > ZERO:
        for entry in range(len(slopes)):
            slope = read(slopes[entry])
            square = squares[entry] + slope * slope
            change = momentum * changes[entry] - rate * slope / np.sqrt(square + epsilon)
            squares[entry], changes[entry] = square, change
            entries[entry] += change
    else:
        for entry in range(len(slopes)):
            slope = read(slopes[entry])
            square = squares[entry] + slope * slope
            squares[entry] = square
            entries[entry] -= rate * slope / np.sqrt(square + epsilon)


@njit(fastmath=REORDERED, inline="always")
def _adagrad(words, gradient):
    parameter, accumulator, velocity = floats(words, 0), floats(words, 1), floats(words, 2)
    items, places, following = longs(words, 3), longs(words, 5), longs(words, 6)
    rate, momentum, epsilon = scalar(words, 7), scalar(words, 8), scalar(words, 9)
    slopes = np.empty(parameter.shape[1], f32)
    first, last = own_rows(words)
    for number in range(first, last):
        place = places[number]
        item = items[place]
        _sum(gradient, place, following, slopes)
        _adagrad_row(parameter[item], accumulator[item], velocity[item], slopes, rate, momentum, epsilon)


@loop
def adagrad_float32(words):
    _adagrad(words, floats(words, 4))


@loop
def adagrad_bfloat16(words):
    _adagrad(words, halves(words, 4))


@njit(fastmath=REORDERED, inline="always")
def _adagrad_all(words, gradient):
    parameter, accumulator, velocity = vector(words, 0), vector(words, 1), vector(words, 2)
    rounded = half_vector(words, 4)
    rate, momentum, epsilon = scalar(words, 5), scalar(words, 6), scalar(words, 7)
    first_block, last_block = own_rows(words)
    for block in range(first_block, last_block):
        first, last = block * BLOCK, min(len(parameter), (block + 1) * BLOCK)
        entries = parameter[first:last]
        slopes = gradient[first:last]
        _adagrad_row(entries, accumulator[first:last], velocity[first:last], slopes, rate, momentum, epsilon)
        _round(entries, rounded[first:last])


@loop
def adagrad_all_float32(words):
    _adagrad_all(words, vector(words, 3))


@loop
def adagrad_all_bfloat16(words):
    _adagrad_all(words, half_vector(words, 3))


@njit(fastmath=REORDERED, inline="always")
def _adamw_row(
    entries, firsts, seconds, slopes, first_gain, second_decay, second_gain, scale, root_correction, epsilon
):
    for entry in range(len(slopes)):
        slope = read(slopes[entry])
        first = firsts[entry] + first_gain * (slope - firsts[entry])
        second = second_decay * seconds[entry] + second_gain * slope * slope
        firsts[entry], seconds[entry] = first, second
        entries[entry] += scale * first / (np.sqrt(second) / root_correction + epsilon)


@njit(fastmath=REORDERED, inline="always")
def _adamw(words, gradient):
    parameter, firsts, seconds = floats(words, 0), floats(words, 1), floats(words, 2)
    items, places, following = longs(words, 3), longs(words, 5), longs(words, 6)
    first_gain, second_decay, second_gain = scalar(words, 7), scalar(words, 8), scalar(words, 9)
    scale, root_correction, epsilon = scalar(words, 10), scalar(words, 11), scalar(words, 12)
    slopes = np.empty(parameter.shape[1], f32)
    first, last = own_rows(words)
    for number in range(first, last):
        place = places[number]
        item = items[place]
        _sum(gradient, place, following, slopes)
        _adamw_row(
            parameter[item],
            firsts[item],
            seconds[item],
            slopes,
            first_gain,
            second_decay,
            second_gain,
            scale,
            root_correction,
            epsilon,
        )


@loop
def adamw_float32(words):
    _adamw(words, floats(words, 4))


@loop
def adamw_bfloat16(words):
    _adamw(words, halves(words, 4))


@njit(fastmath=REORDERED, inline="always")
def _adamw_all(words, gradient):
    parameter, firsts, seconds = vector(words, 0), vector(words, 1), vector(words, 2)
    rounded = half_vector(words, 4)
    first_gain, second_decay, second_gain = scalar(words, 5), scalar(words, 6), scalar(words, 7)
    scale, root_correction, epsilon = scalar(words, 8), scalar(words, 9), scalar(words, 10)
    first_block, last_block = own_rows(words)
    for block in range(first_block, last_block):
        first, last = block * BLOCK, min(len(parameter), (block + 1) * BLOCK)
        entries = parameter[first:last]
        _adamw_row(
            entries,
            firsts[first:last],
            seconds[first:last],
            gradient[first:last],
            first_gain,
            second_decay,
            second_gain,
            scale,
            root_correction,
            epsilon,
        )
        _round(entries, rounded[first:last])


@loop
def adamw_all_float32(words):
    _adamw_all(words, vector(words, 3))


@loop
def adamw_all_bfloat16(words):
    _adamw_all(words, half_vector(words, 3))
