"""Dropout: which values of a step are set to 0.

A value is dropped if its random number is below a limit. Sixteen bits are enough for that, so four numbers are drawn at
a time.
"""

import numpy as np
import torch
from torch import Tensor

from gru4rec import kernels


class DropNumbers:
    """A sequence of random numbers, uniform int16.

    On a CPU they come from splitmix64, which threads can draw in parallel; on other devices from torch's generator.

    Args:
        device: of the numbers.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._seed, self._drawn = 0, 0
        self._generator = torch.Generator(device)

    def restart(self, seed: int) -> None:
        """Start the sequence of a seed, at least 0 and of at most 63 bits."""
        self._seed, self._drawn = seed, 0
        self._generator.manual_seed(seed)

    def draw(self, n_rows: int, width: int) -> Tensor:
        """The next numbers of the sequence, [n_rows, width]."""
        count = -(-n_rows * width // 4)
        if kernels.runs_on(self._device):
            fours = kernels.splitmix64(self._seed, self._drawn, count)
        elif self._device.type == "cpu":
            fours = splitmix64(self._seed, self._drawn, count)
        else:
            fours = torch.empty(count, dtype=torch.int64, device=self._device)
            fours.random_(-(2**63), None, generator=self._generator)
        self._drawn += count
        return fours.view(torch.int16)[: n_rows * width].view(n_rows, width)


def splitmix64(seed: int, start: int, count: int) -> Tensor:
    """The numbers of `kernels.splitmix64`, in numpy.

    Source: Steele, Lea & Flood, Fast Splittable Pseudorandom Number Generators, 2014.
    """
    mixed = np.arange(start + 1, start + count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return torch.from_numpy((mixed ^ (mixed >> np.uint64(31))).view(np.int64))


def apply_dropout(values: Tensor, numbers: Tensor | None, share: float) -> Tensor:
    """The values, those with a number below the limit set to 0 and the others scaled up to keep the mean.

    Args:
        values: [B, H].
        numbers: int16 [B, H]; None for no dropout.
        share: of the values that are dropped, below 1.
    """
    if numbers is None:
        return values
    return values * (numbers >= kernels.drop_limit(share)).to(values.dtype).div_(1 - share)
