"""Room for the matrices over items.

A step reads and writes some two thousand rows, here and there in matrices of hundreds of megabytes. In pages of 4 KiB
nearly every one of them has its address translated anew; in pages of 2 MiB hardly any has. Linux gives those to memory
that asks for them.
"""

import math
import mmap

import torch
from torch import Tensor

HUGE_PAGE = 1 << 21
FLOAT = 4
CPU = torch.device("cpu")


def room(*shape: int, device: torch.device = CPU) -> Tensor:
    """float32 zeros of this shape; many of them on a processor are asked to be in huge pages, if the system has them.

    Such a tensor is a view into memory that cannot be resized.
    """
    count = math.prod(shape)
    if device.type != "cpu" or count * FLOAT < 2 * HUGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.zeros(*shape, device=device)
    try:
        memory = mmap.mmap(-1, count * FLOAT + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError:  # a kernel without them; or no memory, which torch says better
        return torch.zeros(*shape)
    numbers = torch.frombuffer(memory, dtype=torch.float32)  # keeps the memory
    first = -numbers.data_ptr() % HUGE_PAGE // FLOAT
    return numbers[first : first + count].view(shape)
