"""Memory in huge pages for the matrices over items.

A step reads and writes some two thousand rows, scattered over matrices of hundreds of megabytes. With pages of 4 KiB
nearly every row needs an address translation of its own; with pages of 2 MiB hardly any does. Linux gives huge pages to
memory that asks for them.
"""

import math
import mmap

import torch
from torch import Tensor

HUGE_PAGE = 1 << 21
FLOAT = 4
CPU = torch.device("cpu")


def zeros(*shape: int, device: torch.device = CPU) -> Tensor:
    """float32 zeros of this shape, in huge pages where the tensor is large, on a CPU, and the system has them.

    A tensor in huge pages is a view into memory that cannot be resized.
    """
    count = math.prod(shape)
    if device.type != "cpu" or count * FLOAT < 2 * HUGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.zeros(*shape, device=device)
    try:
        memory = mmap.mmap(-1, count * FLOAT + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError:  # no huge pages, or no memory: torch has the better message
        return torch.zeros(*shape)
    numbers = torch.frombuffer(memory, dtype=torch.float32)  # keeps the memory
    first = -numbers.data_ptr() % HUGE_PAGE // FLOAT
    return numbers[first : first + count].view(shape)
