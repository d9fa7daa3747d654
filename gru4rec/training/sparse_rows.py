"""Which rows of a table a step touches, and what to do about those that it touches more than once.

A row that occurs several times in a step is updated once, by the sum of its gradients. Which rows repeat is known
before the epoch, so nothing is sorted or made unique while training. There are two ways to say it: `DistinctRows` has
the repeats apart, which saves work; `FixedRows` has the same shapes in every step of the same size, however many
repeat, so that a GPU's steps can be compiled or captured once and replayed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gru4rec import kernels


@dataclass(frozen=True)
class DistinctRows:
    """The rows that one step touches, as gathered (n of them, u distinct), and the repeats among them.

    Attributes:
        items: int64 [n], row numbers, with repeats.
        kept: int64 [u], positions of each row's first occurrence, or None where nothing repeats.
        repeats: int64 [n - u], positions of the other occurrences.
        into: int64 [n - u], position of the first occurrence that each repeat belongs to.
    """

    items: Tensor
    kept: Tensor | None
    repeats: Tensor
    into: Tensor

    def chained(self) -> Tensor | None:
        """As of `kernels.chained`."""
        return None if self.kept is None else kernels.chained(len(self.items), self.repeats, self.into)

    def summed(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Distinct row numbers [u] and the sums [u, …] of their gradients [n, …], which are used up."""
        if self.kept is None:
            return self.items, gradient
        gradient.index_add_(0, self.into, gradient.index_select(0, self.repeats))
        return self.items.index_select(0, self.kept), gradient.index_select(0, self.kept)


@dataclass(frozen=True)
class FixedRows:
    """The rows that one step touches, as gathered, n of them.

    Attributes:
        items: int64 [n], row numbers, with repeats.
        first: int64 [n], position of the first occurrence of each one's row.
    """

    items: Tensor
    first: Tensor

    def summed(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The row numbers [n] and the sums [n, …] of their gradients [n, …]: the whole sum wherever a row repeats."""
        sums = torch.zeros_like(gradient).index_add_(0, self.first, gradient)
        return self.items, sums.index_select(0, self.first)


Rows = DistinctRows | FixedRows


class FirstOccurrence:
    """Finds repeats within a step in linear time, by a table over the catalogue instead of sorting.

    Args:
        n_items: size of the catalogue, N.
    """

    def __init__(self, n_items: int):
        self._place = np.empty(n_items, dtype=np.int64)

    def __call__(self, items: np.ndarray) -> np.ndarray:
        """For every position the first position that holds the same item, int64 [n]."""
        positions = np.arange(len(items))
        self._place[items[::-1]] = positions[::-1]  # of repeated indices the last write stays: the first occurrence
        first: np.ndarray = self._place[items]
        return first


def described(first: np.ndarray, *, fixed: bool) -> list[np.ndarray]:
    """What `rows_from` wants beside the items: `first` itself where shapes are fixed.

    Otherwise the kept positions (none where nothing repeats), the repeats, and where those belong.
    """
    if fixed:
        return [first]
    repeated = first != np.arange(len(first))
    repeats = np.flatnonzero(repeated)
    return [np.flatnonzero(~repeated) if len(repeats) else repeats, repeats, first[repeats]]


def rows_from(items: Tensor, parts: Iterator[Tensor], *, fixed: bool) -> Rows:
    """The rows with these numbers, [n]; takes what `described` gave from the parts, which are on the same device."""
    if fixed:
        return FixedRows(items, next(parts))
    kept, repeats, into = next(parts), next(parts), next(parts)
    return DistinctRows(items, kept if len(repeats) else None, repeats, into)


def different(items: Tensor) -> Rows:
    """Rows that are all taken for different."""
    return DistinctRows(items, None, items[:0], items[:0])
