"""How a loop gets its arguments and its share of the rows.

A loop is a C function that every thread of a team calls with the same pointer, to int64 words: the number of rows, then
three for every array (address, rows, columns) or number (its bits, 0, 0).
"""

import ctypes
import hashlib
from pathlib import Path

import llvmlite.binding
import numpy as np
import torch
from numba import carray, cfunc, njit, types
from numba.extending import intrinsic

from gru4rec.kernels.arithmetic import REORDERED, float_of_bits

WORDS = types.void(types.CPointer(types.int64))


def digest_of(*files):
    """A short digest of the text of source files."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.exists())).hexdigest()[:12]


INLINED = digest_of(Path(__file__), Path(__file__).with_name("arithmetic.py"))
"""Of what the loops take in from elsewhere: numba looks for changes in the file of a loop alone."""


def compiled(signature, **options):
    """Compile C functions, and keep them on disk for the next process where there is a folder to write to."""

    def compile_one(function):
        function.__qualname__ = f"{function.__name__}_{INLINED}"  # which is in the name of the file on disk
        try:
            return cfunc(signature, cache=True, **options)(function)
        except (RuntimeError, OSError):  # numba finds no place for its cache, or no room in it
            return cfunc(signature, **options)(function)

    return compile_one


loop = compiled(WORDS, fastmath=REORDERED, error_model="numpy")
"""Compile a loop. Divisions by zero give infinities, sums may be reordered."""


def _openmp() -> ctypes.CDLL | None:
    """The OpenMP that torch itself uses: with one of our own, the idle threads of the two would wait for each other."""
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))  # its dependencies count
        _ = library.GOMP_parallel, library.omp_get_thread_num, library.omp_get_num_threads
    except (OSError, AttributeError):
        return None
    return library


@compiled(types.int32())
def _zero():
    return 0


@compiled(types.int32())
def _one():
    return 1


OPENMP = _openmp()
"""None where torch's OpenMP is not to be had: then one thread does it all."""
for _name, _function, _without in (
    ("gru4rec_thread", "omp_get_thread_num", _zero),
    ("gru4rec_threads", "omp_get_num_threads", _one),
):
    _address = ctypes.cast(getattr(OPENMP, _function), ctypes.c_void_p).value if OPENMP else _without.address
    llvmlite.binding.add_symbol(_name, _address)
thread_number = types.ExternalFunction("gru4rec_thread", types.int32())
_thread_count = types.ExternalFunction("gru4rec_threads", types.int32())


@njit(inline="always")
def own_rows(words):
    """The first row of the calling thread, and the one after its last."""
    thread, threads = np.int64(thread_number()), np.int64(_thread_count())
    return words[0] * thread // threads, words[0] * (thread + 1) // threads


def _pointer_to(element):
    @intrinsic
    def pointer(context, address):
        def generate(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(types.CPointer(element)))

        return types.CPointer(element)(types.int64), generate

    return pointer


_float_pointer, _half_pointer = _pointer_to(types.float32), _pointer_to(types.uint16)
_short_pointer, _long_pointer = _pointer_to(types.int16), _pointer_to(types.int64)


@njit(inline="always")
def floats(words, argument):
    """A float32 matrix."""
    at = 1 + 3 * argument
    return carray(_float_pointer(words[at]), (words[at + 1], words[at + 2]))


@njit(inline="always")
def halves(words, argument):
    """A matrix of bfloat16, as bits."""
    at = 1 + 3 * argument
    return carray(_half_pointer(words[at]), (words[at + 1], words[at + 2]))


@njit(inline="always")
def shorts(words, argument):
    """A matrix of int16."""
    at = 1 + 3 * argument
    return carray(_short_pointer(words[at]), (words[at + 1], words[at + 2]))


@njit(inline="always")
def longs(words, argument):
    """A vector of int64."""
    at = 1 + 3 * argument
    return carray(_long_pointer(words[at]), words[at + 1] * words[at + 2])


@njit(inline="always")
def vector(words, argument):
    """A vector of float32."""
    at = 1 + 3 * argument
    return carray(_float_pointer(words[at]), words[at + 1] * words[at + 2])


@njit(inline="always")
def half_vector(words, argument):
    """A vector of bfloat16, as bits."""
    at = 1 + 3 * argument
    return carray(_half_pointer(words[at]), words[at + 1] * words[at + 2])


@njit(inline="always")
def scalar(words, argument):
    """A float32."""
    return float_of_bits(np.int32(words[1 + 3 * argument]))
