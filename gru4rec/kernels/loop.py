"""Compiles a loop, and runs it on as many threads as torch uses, of torch's own OpenMP.

A loop is a C function that every thread calls with a pointer to the same `arguments`, and that takes its own share of
the rows.
"""

import ctypes
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding
import numpy as np
import torch
from numba import cfunc, from_dtype, njit, types
from torch import Tensor

from gru4rec.kernels.arguments import BFLOAT16, FLOAT32, NUMBER, PRODUCT
from gru4rec.kernels.arithmetic import REORDERED


def digest_of(*files: Path) -> str:
    """A short digest of the text of source files."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.exists())).hexdigest()[:12]


INLINED = digest_of(*(Path(__file__).with_name(name) for name in ("loop.py", "arguments.py", "arithmetic.py")))
"""Of the code that loops inline: numba itself looks for changes only in the file of a loop."""


def compile_cached(function: Callable[..., Any], signature: Any, **options: Any) -> Any:
    """Compile a C function, and keep it on disk for the next process if there is a folder to write to."""
    function.__qualname__ = f"{function.__name__}_{INLINED}"  # part of the name of the file on disk
    try:
        return cfunc(signature, cache=True, **options)(function)
    except (RuntimeError, OSError):  # numba finds no folder for its cache, or no space in it
        return cfunc(signature, **options)(function)


def _load_openmp() -> ctypes.CDLL | None:
    """The OpenMP that torch uses: with another one, the idle threads of the two would wait for each other."""
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))  # finds its dependencies
        library.GOMP_parallel.argtypes = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint, ctypes.c_uint
        _ = library.omp_get_thread_num, library.omp_get_num_threads
    except (OSError, AttributeError):
        return None
    return library


OPENMP = _load_openmp()
"""None where torch has no such library; one thread then does all the work."""
_INTEGER = ctypes.CFUNCTYPE(ctypes.c_int)
_thread_functions = (
    (OPENMP.omp_get_thread_num, OPENMP.omp_get_num_threads) if OPENMP else (_INTEGER(lambda: 0), _INTEGER(lambda: 1))
)
for _name, _function in zip(("gru4rec_thread", "gru4rec_threads"), _thread_functions, strict=True):
    llvmlite.binding.add_symbol(_name, ctypes.cast(_function, ctypes.c_void_p).value)
thread_number = types.ExternalFunction("gru4rec_thread", types.int32())
_thread_count = types.ExternalFunction("gru4rec_threads", types.int32())


@njit(inline="always")
def own_rows(arguments: Any) -> tuple[int, int]:
    """The first row of the calling thread, and the one after its last."""
    thread, threads = np.int64(thread_number()), np.int64(_thread_count())
    return arguments.count * thread // threads, arguments.count * (thread + 1) // threads


class Loop:
    """A compiled loop, for float32 products and for bfloat16 ones where it has any.

    Args:
        function: reads its `arguments`, a structure with these fields and the `count` of rows.
        fields: the type of each argument, one of those of `arguments`.
    """

    def __init__(self, function: Callable[[Any], None], fields: dict[str, Any]):
        self._names = tuple(fields)
        self._product = next((name for name, kind in fields.items() if kind is PRODUCT), "")
        self._pack = struct.Struct("q" + "".join("f" if kind is NUMBER else "qqq" for kind in fields.values())).pack
        products = {torch.float32: FLOAT32} | ({torch.bfloat16: BFLOAT16} if self._product else {})
        self._compiled = {}
        for dtype, array in products.items():
            typed = [(name, array if kind is PRODUCT else kind) for name, kind in fields.items()]
            structure = from_dtype(np.dtype([("count", np.int64), *typed], align=True))
            self._compiled[dtype] = compile_cached(
                function, types.void(structure), fastmath=REORDERED, error_model="numpy"
            )
        self._addresses = {dtype: compiled.address for dtype, compiled in self._compiled.items()}

    def __call__(self, count: int, **arguments: Tensor | float | None) -> None:
        """Run over `count` rows; every argument is given by its name."""
        values: list[float] = [count]
        for name in self._names:
            argument = arguments[name]
            if isinstance(argument, Tensor):
                shape = argument.shape
                values += (argument.data_ptr(), shape[0], shape[1] if len(shape) == 2 else 1)
            elif argument is None:
                values += (0, 0, 0)
            else:
                values.append(argument)
        structure = self._pack(*values)
        product = arguments.get(self._product)
        address = self._addresses[product.dtype if isinstance(product, Tensor) else torch.float32]
        if OPENMP is not None:
            OPENMP.GOMP_parallel(address, structure, torch.get_num_threads(), 0)
        else:
            ctypes.CFUNCTYPE(None, ctypes.c_char_p)(address)(structure)


def loop(**fields: Any) -> Callable[[Callable[[Any], None]], Loop]:
    """Compile a loop with these arguments. Divisions by zero give infinities, sums may be reordered."""
    return lambda function: Loop(function, fields)
