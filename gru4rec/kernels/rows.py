"""What a step does to rows besides products: gathering, dropout, and the gates of a GRU."""

from numba import njit

from gru4rec.kernels.arithmetic import ONE, REORDERED, TWO, ZERO, sigmoid, write
from gru4rec.kernels.words import floats, halves, longs, loop, own_rows, scalar


@njit(fastmath=REORDERED, inline="always")
def _kept(uniform, share):
    """The factor of a number that is dropped with a probability of `share`, from a uniform random number."""
    return ONE / (ONE - share) if uniform >= share else ZERO


@njit(inline="always")
def _gathered(words, rows):
    table, items = floats(words, 0), longs(words, 1)
    first, last = own_rows(words)
    for number in range(first, last):
        source, row = table[items[number]], rows[number]
        for column in range(len(source)):
            write(row, column, source[column])


@loop
def gathered_float32(words):
    _gathered(words, floats(words, 2))


@loop
def gathered_bfloat16(words):
    _gathered(words, halves(words, 2))


@loop
def drop(words):
    values, uniform, share = floats(words, 0), floats(words, 1), scalar(words, 2)
    first, last = own_rows(words)
    for row in range(first, last):
        for column in range(values.shape[1]):
            values[row, column] *= _kept(uniform[row, column], share)


@loop
def gates(words):
    from_input, from_hidden, hidden = floats(words, 0), floats(words, 1), floats(words, 2)
    uniform, share = floats(words, 3), scalar(words, 4)
    activations, following = floats(words, 5), floats(words, 6)
    units = hidden.shape[1]
    first, last = own_rows(words)
    for row in range(first, last):
        for unit in range(units):
            reset = sigmoid(from_input[row, unit] + from_hidden[row, unit])
            update = sigmoid(from_input[row, units + unit] + from_hidden[row, units + unit])
            before = from_input[row, 2 * units + unit] + reset * from_hidden[row, 2 * units + unit]
            new = TWO * sigmoid(TWO * before) - ONE  # tanh
            activations[row, unit] = reset
            activations[row, units + unit] = update
            activations[row, 2 * units + unit] = new
            following[row, unit] = new + update * (hidden[row, unit] - new)
        if share > ZERO:
            for unit in range(units):
                following[row, unit] *= _kept(uniform[row, unit], share)


@loop
def gates_gradient(words):
    upstream, uniform, share = floats(words, 0), floats(words, 1), scalar(words, 2)
    activations, from_hidden, hidden = floats(words, 3), floats(words, 4), floats(words, 5)
    to_input, to_hidden, kept = floats(words, 6), floats(words, 7), floats(words, 8)
    units = hidden.shape[1]
    first, last = own_rows(words)
    for row in range(first, last):
        for unit in range(units):
            kept[row, unit] = upstream[row, unit]
        if share > ZERO:
            for unit in range(units):
                kept[row, unit] *= _kept(uniform[row, unit], share)
        for unit in range(units):
            reset, update = activations[row, unit], activations[row, units + unit]
            new, given = activations[row, 2 * units + unit], kept[row, unit]
            to_new = given * (ONE - update) * (ONE - new * new)
            to_reset = to_new * from_hidden[row, 2 * units + unit] * reset * (ONE - reset)
            to_update = given * (hidden[row, unit] - new) * update * (ONE - update)
            to_input[row, unit] = to_reset
            to_hidden[row, unit] = to_reset
            to_input[row, units + unit] = to_update
            to_hidden[row, units + unit] = to_update
            to_input[row, 2 * units + unit] = to_new
            to_hidden[row, 2 * units + unit] = to_new * reset
            kept[row, unit] = given * update
