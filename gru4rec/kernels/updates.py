"""Update rules of `gru4rec.optim`, on some rows of a table or on everything."""

import numpy as np
from numba import njit

from gru4rec.kernels.arithmetic import REORDERED, ZERO
from gru4rec.kernels.words import floats, longs, loop, own_rows, scalar, thread_number, vector

BLOCK = 1 << 12  # numbers that a thread takes at a time where there are no rows


@loop
def merge(words):
    gradient, repeats, into = floats(words, 0), longs(words, 1), longs(words, 2)
    if thread_number() == 0:  # several repeats may have one place
        for number in range(len(repeats)):
            source, target = gradient[repeats[number]], gradient[into[number]]
            for column in range(len(source)):
                target[column] += source[column]


@njit(fastmath=REORDERED, inline="always")
def _adagrad_row(entries, squares, changes, slopes, rate, momentum, epsilon):
    if momentum > ZERO:
        for entry in range(len(slopes)):
            slope = slopes[entry]
            square = squares[entry] + slope * slope
            change = momentum * changes[entry] - rate * slope / np.sqrt(square + epsilon)
            squares[entry], changes[entry] = square, change
            entries[entry] += change
    else:
        for entry in range(len(slopes)):
            slope = slopes[entry]
            square = squares[entry] + slope * slope
            squares[entry] = square
            entries[entry] -= rate * slope / np.sqrt(square + epsilon)


@loop
def adagrad(words):
    parameter, accumulator, velocity = floats(words, 0), floats(words, 1), floats(words, 2)
    items, gradient, places = longs(words, 3), floats(words, 4), longs(words, 5)
    rate, momentum, epsilon = scalar(words, 6), scalar(words, 7), scalar(words, 8)
    first, last = own_rows(words)
    for number in range(first, last):
        place = places[number]
        item = items[place]
        _adagrad_row(parameter[item], accumulator[item], velocity[item], gradient[place], rate, momentum, epsilon)


@loop
def adagrad_all(words):
    parameter, accumulator, velocity = vector(words, 0), vector(words, 1), vector(words, 2)
    gradient, rate, momentum, epsilon = vector(words, 3), scalar(words, 4), scalar(words, 5), scalar(words, 6)
    first_block, last_block = own_rows(words)
    first, last = first_block * BLOCK, min(len(parameter), last_block * BLOCK)
    _adagrad_row(
        parameter[first:last],
        accumulator[first:last],
        velocity[first:last],
        gradient[first:last],
        rate,
        momentum,
        epsilon,
    )


@njit(fastmath=REORDERED, inline="always")
def _adamw_row(
    entries, firsts, seconds, slopes, first_gain, second_decay, second_gain, scale, root_correction, epsilon
):
    for entry in range(len(slopes)):
        slope = slopes[entry]
        first = firsts[entry] + first_gain * (slope - firsts[entry])
        second = second_decay * seconds[entry] + second_gain * slope * slope
        firsts[entry], seconds[entry] = first, second
        entries[entry] += scale * first / (np.sqrt(second) / root_correction + epsilon)


@loop
def adamw(words):
    parameter, firsts, seconds = floats(words, 0), floats(words, 1), floats(words, 2)
    items, gradient, places = longs(words, 3), floats(words, 4), longs(words, 5)
    first_gain, second_decay, second_gain = scalar(words, 6), scalar(words, 7), scalar(words, 8)
    scale, root_correction, epsilon = scalar(words, 9), scalar(words, 10), scalar(words, 11)
    first, last = own_rows(words)
    for number in range(first, last):
        place = places[number]
        item = items[place]
        _adamw_row(
            parameter[item],
            firsts[item],
            seconds[item],
            gradient[place],
            first_gain,
            second_decay,
            second_gain,
            scale,
            root_correction,
            epsilon,
        )


@loop
def adamw_all(words):
    parameter, firsts, seconds, gradient = vector(words, 0), vector(words, 1), vector(words, 2), vector(words, 3)
    first_gain, second_decay, second_gain = scalar(words, 4), scalar(words, 5), scalar(words, 6)
    scale, root_correction, epsilon = scalar(words, 7), scalar(words, 8), scalar(words, 9)
    first_block, last_block = own_rows(words)
    first, last = first_block * BLOCK, min(len(parameter), last_block * BLOCK)
    _adamw_row(
        parameter[first:last],
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
