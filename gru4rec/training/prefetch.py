"""Prepare the next block of steps while the current one is trained on.

The host draws negatives and packs arrays while the device computes; a block is what one call of a sampler covers.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from inference.shared.system import count_cores

T = TypeVar("T")


def prefetch(blocks: Iterator[Callable[[], list[T]]], device: torch.device) -> Iterator[list[T]]:
    """The results of functions, in order; if a core is free, each is computed while the one before is in use.

    Where training keeps every core busy, another thread would only slow it down.
    """
    if device.type == "cpu" and torch.get_num_threads() >= count_cores():
        yield from (block() for block in blocks)
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="steps") as thread:
        pending: list[Future[list[T]]] = []
        for block in blocks:
            pending.append(thread.submit(block))
            if len(pending) > 1:
                yield pending.pop(0).result()
        yield from (future.result() for future in pending)


def to_device(arrays: list[np.ndarray], device: torch.device) -> Iterator[Tensor]:
    """Flat arrays of row numbers or positions as int64 tensors on the device, copied in one go."""
    flat = torch.from_numpy(np.concatenate(arrays).astype(np.int64)).to(device, non_blocking=True)
    return iter(torch.split(flat, [len(array) for array in arrays]))
