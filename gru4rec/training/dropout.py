"""Dropout: which values of a step are set to 0.

A value is dropped where its random number lies below a limit. Sixteen bits are enough for that, and four such numbers
are drawn at a time.
"""

import numpy as np
import torch
from torch import Tensor

from gru4rec import kernels


class DropNumbers:
    """A sequence of random numbers, int16, every value as likely as any other.

    On a processor it is that of splitmix64, which threads can draw side by side; elsewhere torch's own.

    Args:
        device: where they are needed.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._seed, self._drawn = 0, 0
        self._generator = torch.Generator(device)

    def begin(self, seed: int) -> None:
        """Begin the sequence of a seed, at least 0 and of at most 63 bits."""
        self._seed, self._drawn = seed, 0
        self._generator.manual_seed(seed)

    def draw(self, n_rows: int, width: int) -> Tensor:
        """The next numbers of the sequence, [n_rows, width]."""
        count = -(-n_rows * width // 4)
        if kernels.serve(self._device):
            fours = kernels.random_words(self._seed, self._drawn, count)
        elif self._device.type == "cpu":
            fours = splitmix64(self._seed, self._drawn, count)
        else:
            fours = torch.empty(count, dtype=torch.int64, device=self._device)
            fours.random_(-(2**63), None, generator=self._generator)
        self._drawn += count
        return fours.view(torch.int16)[: n_rows * width].view(n_rows, width)


def splitmix64(seed: int, start: int, count: int) -> Tensor:
    """As `kernels.random_words`. Source: Steele, Lea & Flood, Fast Splittable Pseudorandom Number Generators, 2014."""
    mixed = np.arange(start + 1, start + count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return torch.from_numpy((mixed ^ (mixed >> np.uint64(31))).view(np.int64))


def dropped(values: Tensor, numbers: Tensor | None, share: float) -> Tensor:
    """The values, those with a number below the limit set to 0 and the others scaled up to keep the mean.

    Args:
        values: [B, H].
        numbers: int16 [B, H]; None where nothing is dropped.
        share: that is dropped, below 1.
    """
    return (
        values if numbers is None else values * (numbers >= kernels.drop_limit(share)).to(values.dtype).div_(1 - share)
    )
