"""Dropout: which values of a step are set to 0.

A value is dropped where its random number lies below a limit. Sixteen bits are enough for that, and four such numbers
are drawn at a time, which takes a third of the time of floats.
"""

import torch
from torch import Tensor


def drop_numbers(n_rows: int, width: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Random numbers, int16 [n_rows, width], every value as likely as any other."""
    fours = torch.empty(-(-n_rows * width // 4), dtype=torch.int64, device=device)
    fours.random_(-(2**63), None, generator=generator)
    return fours.view(torch.int16)[: n_rows * width].view(n_rows, width)


def drop_limit(share: float) -> int:
    """The limit that a share of all such numbers lies below, to within 2^-16."""
    below: int = min(round(share * 2**16), 2**16 - 1)
    return below - 2**15


def dropped(values: Tensor, numbers: Tensor | None, share: float) -> Tensor:
    """The values, those with a number below the limit set to 0 and the others scaled up to keep the mean.

    Args:
        values: [B, H].
        numbers: int16 [B, H]; None where nothing is dropped.
        share: that is dropped, below 1.
    """
    return values if numbers is None else values * (numbers >= drop_limit(share)).to(values.dtype).div_(1 - share)
