"""Runs a loop on a team of threads: as many as torch uses, of torch's own OpenMP."""

import ctypes
import struct
import sys
from array import array
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gru4rec.kernels.calling import OPENMP


def run(loop: Any, count: int, *arguments: Tensor | float) -> None:
    """Run a loop over `count` rows, on as many threads as torch uses."""
    words = [count]
    for argument in arguments:
        if isinstance(argument, Tensor):
            shape = argument.shape
            words += (argument.data_ptr(), shape[0], shape[1] if len(shape) == 2 else 1)
        else:
            words += (_bits(argument), 0, 0)
    data = array("q", words)  # a third of the time of a ctypes array
    address = ctypes.c_void_p(data.buffer_info()[0])
    if OPENMP is not None:
        OPENMP.GOMP_parallel(ctypes.c_void_p(loop.address), address, torch.get_num_threads(), 0)
    else:
        loop.ctypes(ctypes.cast(address, ctypes.POINTER(ctypes.c_int64)))


@lru_cache(maxsize=1024)
def _bits(number: float) -> int:
    """Those of a float32."""
    return int.from_bytes(struct.pack("=f", number), sys.byteorder)
