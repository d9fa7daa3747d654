"""Arithmetic of the loops: float32, and bfloat16 as the uint16 with its bits, which numba does not know otherwise.

Everything here is inlined: handed to a function, numbers cost a call each and loops do not become vector instructions.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

REORDERED = {"reassoc", "contract", "arcp", "nsz"}
"""What a compiler may change: the order of sums, but not that NaN stays NaN, by which a diverged run is noticed."""
f32, i32 = np.float32, np.int32
ZERO, ONE, TWO = f32(0), f32(1), f32(2)


@intrinsic
def float_of_bits(context, bits):
    """The float32 with the bits of an int32."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@intrinsic
def bits_of_float(context, number):
    """The bits of a float32 as an int32."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


def read(value):
    """A float32 from a float32 or from the bits of a bfloat16."""


@overload(read, inline="always")
def _read_overload(value):
    if isinstance(value, types.Integer):
        return lambda value: float_of_bits(i32(value) << i32(16))
    return lambda value: value


def write(row, column, value):
    """Store a float32 in a row of float32, or, rounded to nearest even, in one of the bits of bfloat16."""


@overload(write, inline="always")
def _write_overload(row, column, value):
    if isinstance(row.dtype, types.Integer):

        def as_bfloat16(row, column, value):
            bits = bits_of_float(value)
            row[column] = np.uint16((bits + i32(0x7FFF) + ((bits >> i32(16)) & i32(1))) >> i32(16))

        return as_bfloat16

    def as_it_is(row, column, value):
        row[column] = value

    return as_it_is


@njit(fastmath=REORDERED, inline="always")
def exp(x):
    """e^x to about one unit in the last place, between e^-87 and e^88; NaN stays NaN.

    x = n log 2 + r with |r| ≤ log(2)/2; e^r is 1 + r + r² times a polynomial (its coefficients are a minimax fit that
    the Cephes library publishes), 2^n is written into the exponent.
    """
    x = f32(-87) if x < f32(-87) else x
    x = f32(88) if x > f32(88) else x
    n = np.floor(x * f32(1.44269504) + f32(0.5))
    r = x - n * f32(0.693359375) + n * f32(2.12194440e-4)
    p = f32(1.9875691500e-4)
    p = p * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(5.0000001201e-1)
    p = p * r * r + r + ONE
    return p * float_of_bits((i32(n) + i32(127)) << i32(23))


@njit(fastmath=REORDERED, inline="always")
def sigmoid(x):
    return ONE / (ONE + exp(-x))
