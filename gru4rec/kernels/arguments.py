"""The arguments of a loop: a C structure with a named field for each.

A loop is called with its arguments by name (`loop`) and reads them by the same names. An array is a field of three
integers, its address, rows and columns; the address is named after the type of the elements, so that `matrix` and
`vector` know it when they are compiled.
"""

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

ELEMENTS = {"float32": types.float32, "bfloat16": types.uint16, "int16": types.int16, "int64": types.int64}


def _array_of(element):
    return np.dtype([(element, np.int64), ("rows", np.int64), ("columns", np.int64)])


FLOAT32, BFLOAT16, INT16, INT64 = (_array_of(element) for element in ELEMENTS)
"""Arrays; None is handed over as one without rows."""
PRODUCT = "product"
"""An array that goes into or comes out of a matrix product: float32 or bfloat16. A loop with such is compiled twice."""
NUMBER = np.dtype(np.float32)
"""A number."""


@intrinsic
def _address(context, array):
    """The address of an array, as a pointer to its elements."""
    pointer = types.CPointer(next(kind for element, kind in ELEMENTS.items() if element in array.fields))

    def generate(context, builder, signature, arguments):
        address = builder.load(builder.bitcast(arguments[0], ir.IntType(64).as_pointer()))
        return builder.inttoptr(address, context.get_value_type(pointer))

    return pointer(array), generate


@njit(inline="always")
def matrix(array):
    """An array of two dimensions; bfloat16 as bits."""
    return carray(_address(array), (array.rows, array.columns))


@njit(inline="always")
def vector(array):
    """An array flattened to one dimension; bfloat16 as bits."""
    return carray(_address(array), array.rows * array.columns)
