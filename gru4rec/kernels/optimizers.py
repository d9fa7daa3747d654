"""Update rules of `gru4rec.training.optimizers`, for some rows of a table or for every entry of a parameter.

The gradients of a row that occurs several times are summed in float32 first, along a chain of places. Without `items`,
the parameter is flat and cut into rows of `BLOCK` entries.

A rule's numbers are read once: read for every row, or passed as a tuple, they slow the loops down.
"""

import numpy as np
from numba import njit

from gru4rec.kernels.arguments import BFLOAT16, FLOAT32, INT64, NUMBER, PRODUCT, vector
from gru4rec.kernels.arithmetic import REORDERED, ZERO, f32, read, write
from gru4rec.kernels.loop import loop, own_rows, thread_number

BLOCK = 1 << 12
UPDATE = {"parameter": FLOAT32, "gradient": PRODUCT, "rounded": BFLOAT16} | dict.fromkeys(
    ("items", "places", "following"), INT64
)
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


@njit(inline="always")
def _cut(array, row, width):
    """A row of a flat array; the last one may be shorter."""
    return array[row * width : (row + 1) * width]


@njit(fastmath=REORDERED, inline="always")
def _sum(gradient, place, following, slopes):
    """The gradient [width] of the row at a place, and of those chained to it."""
    part = _cut(gradient, place, len(slopes))
    for entry in range(len(part)):
        slopes[entry] = read(part[entry])
    if len(following) > 0:
        place = following[place]
        while place >= 0:
            part = _cut(gradient, place, len(slopes))
            for entry in range(len(part)):
                slopes[entry] += read(part[entry])
            place = following[place]


@njit(inline="always")
def _round(entries, rounded):
    """Write the entries in bfloat16 as well, if there is a copy of that type."""
    for entry in range(len(rounded)):
        write(rounded, entry, entries[entry])


@loop(**UPDATE, **ADAGRAD)
def adagrad(arguments):
    parameter, gradient, rounded = vector(arguments.parameter), vector(arguments.gradient), vector(arguments.rounded)
    items, places, following = vector(arguments.items), vector(arguments.places), vector(arguments.following)
    accumulator, velocity = vector(arguments.accumulator), vector(arguments.velocity)
    rate, momentum, epsilon = arguments.rate, arguments.momentum, arguments.epsilon
    width = arguments.gradient.columns if len(items) else BLOCK
    slopes = np.empty(width, f32)
    first, last = own_rows(arguments)
    for number in range(first, last):
        place = places[number] if len(places) else number
        row = items[place] if len(items) else number
        _sum(gradient, place, following, slopes)
        entries = _cut(parameter, row, width)
        squares, changes = _cut(accumulator, row, width), _cut(velocity, row, width)
        if momentum > ZERO:
            for entry in range(len(entries)):
                slope = slopes[entry]
                square = squares[entry] + slope * slope
                change = momentum * changes[entry] - rate * slope / np.sqrt(square + epsilon)
                squares[entry], changes[entry] = square, change
                entries[entry] += change
        else:
            for entry in range(len(entries)):
                slope = slopes[entry]
                square = squares[entry] + slope * slope
                squares[entry] = square
                entries[entry] -= rate * slope / np.sqrt(square + epsilon)
        _round(entries, _cut(rounded, row, width))


@loop(**UPDATE, **ADAMW)
def adamw(arguments):
    parameter, gradient, rounded = vector(arguments.parameter), vector(arguments.gradient), vector(arguments.rounded)
    items, places, following = vector(arguments.items), vector(arguments.places), vector(arguments.following)
    first_moment, second_moment = vector(arguments.first_moment), vector(arguments.second_moment)
    first_gain, second_decay, second_gain = arguments.first_gain, arguments.second_decay, arguments.second_gain
    scale, root_correction, epsilon = arguments.scale, arguments.root_correction, arguments.epsilon
    width = arguments.gradient.columns if len(items) else BLOCK
    slopes = np.empty(width, f32)
    first, last = own_rows(arguments)
    for number in range(first, last):
        place = places[number] if len(places) else number
        row = items[place] if len(items) else number
        _sum(gradient, place, following, slopes)
        entries = _cut(parameter, row, width)
        firsts, seconds = _cut(first_moment, row, width), _cut(second_moment, row, width)
        for entry in range(len(entries)):
            slope = slopes[entry]
            first_new = firsts[entry] + first_gain * (slope - firsts[entry])
            second_new = second_decay * seconds[entry] + second_gain * slope * slope
            firsts[entry], seconds[entry] = first_new, second_new
            entries[entry] += scale * first_new / (np.sqrt(second_new) / root_correction + epsilon)
        _round(entries, _cut(rounded, row, width))
