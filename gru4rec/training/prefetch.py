"""Prepare the next block of steps while the current one is trained on.

The host draws negatives and packs arrays while the device computes; a block is what one call of a sampler covers.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

T = TypeVar("T")


def ahead(blocks: Iterator[Callable[[], list[T]]], device: torch.device) -> Iterator[list[T]]:
    """The results of functions, in order; each is worked out while the one before is in use, if there is room for it.

    Where training keeps every core busy there is none: a thread more would only hold up the others.
    """
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if device.type == "cpu" and torch.get_num_threads() >= n_cores:
        for block in blocks:
            yield block()
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="steps") as thread:
        pending = None
        for block in blocks:
            following = thread.submit(block)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()


def moved(pieces: list[np.ndarray], device: torch.device) -> Iterator[Tensor]:
    """Flat arrays of row numbers or positions as int64 tensors on the device, by one copy for all of them."""
    flat = torch.from_numpy(np.concatenate(pieces).astype(np.int64)).to(device, non_blocking=True)
    return iter(torch.split(flat, [len(piece) for piece in pieces]))
