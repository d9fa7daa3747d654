"""Arrays on disk, one .npy file each: written so that a full disk is reported as such, mapped back, never unpickled."""

from pathlib import Path
from tokenize import TokenError
from typing import Literal

import numpy as np
from numpy.lib import format as npy

from inference.shared.errors import UserError, one_line

UNREADABLE = (OSError, ValueError, TypeError, EOFError, OverflowError, SyntaxError, TokenError, RecursionError)
"""What numpy raises for damaged files: their header is text, which it parses as a literal."""


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array, byte for byte as `numpy.save` does, which would hide the system's reason if it fails.

    Raises:
        OSError: with the system's reason.
    """
    array = np.asarray(array, order="C")
    with open(path, "wb") as file:
        npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(array))
        file.write(array.reshape(-1).view(np.uint8).data)


def map_array(path: Path, mode: Literal["r", "c"] = "r") -> np.ndarray:
    """Map an array into memory.

    Args:
        path: of the .npy file.
        mode: "r" is read-only, "c" copy-on-write.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        return npy.open_memmap(path, mode)
    except UNREADABLE as error:
        raise UserError(f"{path}: expected an array, got an error: {one_line(error)}") from None
