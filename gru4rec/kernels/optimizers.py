"""Update rules of `gru4rec.training.optimizers`, for some rows of a table or for every entry.

The gradients of a row that occurs several times are summed in float32 first, along a chain of places.

AdamW's numbers are read once and passed one by one: read for every row, or passed as a tuple, they slow the loops down.
"""

import numpy as np
from numba import njit

from gru4rec.kernels.arguments import BFLOAT16, FLOAT32, INT64, NUMBER, PRODUCT, matrix, vector
from gru4rec.kernels.arithmetic import REORDERED, ZERO, f32, read, write
from gru4rec.kernels.loop import loop, own_rows, thread_number

BLOCK = 1 << 12  # numbers that a thread takes at a time where there are no rows
TABLE = {"parameter": FLOAT32, "items": INT64, "gradient": PRODUCT, "places": INT64, "following": INT64}
DENSE = {"parameter": FLOAT32, "gradient": PRODUCT, "rounded": BFLOAT16}
ADAGRAD = {"accumulator": FLOAT32, "velocity": FLOAT32, "rate": NUMBER, "momentum": NUMBER, "epsilon": NUMBER}
ADAMW = {"first_moment": FLOAT32, "second_moment": FLOAT32} | dict.fromkeys(
    ("first_gain", "second_decay", "second_gain", "scale", "root_correction", "epsilon"), NUMBER
)


@loop(following=INT64, repeats=INT64, into=INT64)
def chain(arguments):
    """Link the places of a row: each one's next, or -1. Repeats are taken from the last, so that chains ascend."""
    following, repeats, into = vector(arguments.following), vector(arguments.repeats), vector(arguments.into)
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
    """Write the entries in bfloat16 as well, if there is a copy of that type."""
    for entry in range(len(rounded)):
        write(rounded, entry, entries[entry])


@njit(fastmath=REORDERED, inline="always")
def _adagrad_row(arguments, entries, squares, changes, slopes):
    rate, momentum, epsilon = arguments.rate, arguments.momentum, arguments.epsilon
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


@loop(**TABLE, **ADAGRAD)
def adagrad(arguments):
    parameter, gradient = matrix(arguments.parameter), matrix(arguments.gradient)
    accumulator, velocity = matrix(arguments.accumulator), matrix(arguments.velocity)
    items, places, following = vector(arguments.items), vector(arguments.places), vector(arguments.following)
    slopes = np.empty(parameter.shape[1], f32)
    first, last = own_rows(arguments)
    for number in range(first, last):
        place = places[number] if len(places) else number
        item = items[place]
        _sum(gradient, place, following, slopes)
        _adagrad_row(arguments, parameter[item], accumulator[item], velocity[item], slopes)


@loop(**DENSE, **ADAGRAD)
def adagrad_all(arguments):
    parameter, gradient = vector(arguments.parameter), vector(arguments.gradient)
    rounded = vector(arguments.rounded)
    accumulator, velocity = vector(arguments.accumulator), vector(arguments.velocity)
    first_block, last_block = own_rows(arguments)
    for block in range(first_block, last_block):
        first, last = block * BLOCK, min(len(parameter), (block + 1) * BLOCK)
        entries = parameter[first:last]
        _adagrad_row(arguments, entries, accumulator[first:last], velocity[first:last], gradient[first:last])
        _round(entries, rounded[first:last])


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


@loop(**TABLE, **ADAMW)
def adamw(arguments):
    parameter, gradient = matrix(arguments.parameter), matrix(arguments.gradient)
    firsts, seconds = matrix(arguments.first_moment), matrix(arguments.second_moment)
    items, places, following = vector(arguments.items), vector(arguments.places), vector(arguments.following)
    first_gain, second_decay, second_gain = arguments.first_gain, arguments.second_decay, arguments.second_gain
    scale, root_correction, epsilon = arguments.scale, arguments.root_correction, arguments.epsilon
    slopes = np.empty(parameter.shape[1], f32)
    first, last = own_rows(arguments)
    for number in range(first, last):
        place = places[number] if len(places) else number
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


@loop(**DENSE, **ADAMW)
def adamw_all(arguments):
    parameter, gradient = vector(arguments.parameter), vector(arguments.gradient)
    rounded = vector(arguments.rounded)
    firsts, seconds = vector(arguments.first_moment), vector(arguments.second_moment)
    first_gain, second_decay, second_gain = arguments.first_gain, arguments.second_decay, arguments.second_gain
    scale, root_correction, epsilon = arguments.scale, arguments.root_correction, arguments.epsilon
    first_block, last_block = own_rows(arguments)
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
