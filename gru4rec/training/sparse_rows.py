"""Which rows of the tables a step touches, and which of them repeat.

A row that occurs several times in a step is updated once, by the sum of its gradients. Which rows repeat is known
before the epoch, so nothing is sorted or made unique while training. There are two forms: `DistinctRows` lists the
repeats separately, which saves work; `FixedRows` has the same shapes in every step of the same size, however many rows
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
        kept: int64 [u], positions of each row's first occurrence, or None if no row repeats.
        repeats: int64 [n - u], positions of the other occurrences.
        into: int64 [n - u], position of the first occurrence that each repeat belongs to.
    """

    items: Tensor
    kept: Tensor | None
    repeats: Tensor
    into: Tensor

    def chain(self) -> Tensor | None:
        """The result of `kernels.chain`, or None if no row repeats."""
        return None if self.kept is None else kernels.chain(len(self.items), self.repeats, self.into)

    def sum(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Distinct row numbers [u] and the sums [u, …] of their gradients [n, …], which are overwritten."""
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

    def sum(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The row numbers [n] and the sums [n, …] of their gradients [n, …]: the whole sum wherever a row repeats."""
        sums = torch.zeros_like(gradient).index_add_(0, self.first, gradient)
        return self.items, sums.index_select(0, self.first)


Rows = DistinctRows | FixedRows


@dataclass(frozen=True)
class StepRows:
    """The rows of both tables that one step touches.

    Attributes:
        columns: rows of the output table, C.
        inputs: rows of the input table, B.
        both: columns and then inputs, as rows of the one table of a constrained network; None otherwise.
    """

    columns: Rows
    inputs: Rows
    both: Rows | None


class RowPacking:
    """Finds the repeats within a step, in linear time by a lookup over the catalogue instead of sorting.

    The host packs a step into flat arrays; the device unpacks them after one copy.

    Args:
        n_items: size of the catalogue, N.
        constrained: whether columns and inputs are rows of one table.
        fixed: whether steps need the same shapes, as in `FixedRows`.
    """

    def __init__(self, n_items: int, *, constrained: bool, fixed: bool):
        self._position = np.empty(n_items, dtype=np.int64)
        self._constrained = constrained
        self._fixed = fixed

    def first_occurrences(self, items: np.ndarray) -> np.ndarray:
        """For every position the first position that holds the same item, int64 [n]."""
        positions = np.arange(len(items))
        self._position[items[::-1]] = positions[::-1]  # of repeated indices the last write stays: the first occurrence
        first: np.ndarray = self._position[items]
        return first

    def pack(self, columns: np.ndarray, inputs: np.ndarray) -> list[np.ndarray]:
        """The arrays of a step, for `unpack`: the items, and what repeats."""
        items = np.concatenate([columns, inputs])
        if not self._constrained:
            return [items, *(array for part in (columns, inputs) for array in self._pack(self.first_occurrences(part)))]
        first = self.first_occurrences(items)
        # columns come first, so an item's first occurrence among them is its first occurrence overall
        return [items, *self._pack(first), *self._pack(first[: len(columns)])]

    def _pack(self, first: np.ndarray) -> list[np.ndarray]:
        if self._fixed:
            return [first]
        repeated = first != np.arange(len(first))
        repeats = np.flatnonzero(repeated)
        return [np.flatnonzero(~repeated) if len(repeats) else repeats, repeats, first[repeats]]

    def unpack(self, arrays: Iterator[Tensor], n_inputs: int) -> StepRows:
        """The rows of a step, from what `pack` gave, on the device."""
        items = next(arrays)
        columns, inputs = torch.split(items, [len(items) - n_inputs, n_inputs])
        if not self._constrained:
            return StepRows(self._unpack(columns, arrays), self._unpack(inputs, arrays), None)
        both = self._unpack(items, arrays)
        return StepRows(self._unpack(columns, arrays), DistinctRows(inputs, None, inputs[:0], inputs[:0]), both)

    def _unpack(self, items: Tensor, arrays: Iterator[Tensor]) -> Rows:
        if self._fixed:
            return FixedRows(items, next(arrays))
        kept, repeats, into = next(arrays), next(arrays), next(arrays)
        return DistinctRows(items, kept if len(repeats) else None, repeats, into)
