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
    """float32 zeros of this shape; on a processor in huge pages if there are many and the system has such pages."""
    count = math.prod(shape)
    if device.type != "cpu" or count * FLOAT < 2 * HUGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.zeros(*shape, device=device)
    memory = mmap.mmap(-1, count * FLOAT + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError:  # a kernel without them
        return torch.zeros(*shape)
    numbers = torch.frombuffer(memory, dtype=torch.float32)  # keeps the memory
    first = -numbers.data_ptr() % HUGE_PAGE // FLOAT
    return numbers[first : first + count].view(shape)
