"""Adagrad with momentum, row by row.

    acc += g²      v = μ v − lr · g / √(acc + 1e-6)      p += v

Only the rows that a step touches change, their accumulator and momentum included; a row that occurs several times in a
step is updated once, by the sum of its gradients. The accumulator starts at 0 and ε stands inside the root, in both of
which torch.optim.Adagrad differs. Source: the authors' implementations (arXiv 1706.03847).

There are no sparse tensors: the rows are gathered before the forward pass, their gradient is a dense matrix, and the
updated rows are written back. Which rows repeat within a step is known before the epoch (`Rows`), so nothing is sorted
or made unique while training.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gru4rec.model import Network

EPSILON = 1e-6


@dataclass(frozen=True)
class Rows:
    """The rows of a table that one step touches, as gathered (n of them, u distinct).

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

    def merged(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Distinct row numbers [u] and the sum of each one's gradients [u, …]; `gradient` [n, …] is used up."""
        if self.kept is None:
            return self.items, gradient
        gradient.index_add_(0, self.into, gradient.index_select(0, self.repeats))
        return self.items.index_select(0, self.kept), gradient.index_select(0, self.kept)


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


class RowAdagrad:
    """The optimiser and its state for one network.

    Args:
        network: whose parameters are updated in place.
        learning_rate: lr.
        momentum: μ; 0 keeps no velocities.
    """

    def __init__(self, network: Network, learning_rate: float, momentum: float):
        self.learning_rate = learning_rate
        self.momentum = momentum
        self._parameters = {"output_table": network.output_table, "output_bias": network.output_bias}
        if not network.constrained:
            self._parameters["input_table"] = network.input_table
        self._parameters["dense"] = network.dense
        self._accumulators = {name: torch.zeros_like(tensor) for name, tensor in self._parameters.items()}
        self._velocities = (
            {name: torch.zeros_like(tensor) for name, tensor in self._parameters.items()} if momentum else {}
        )

    @torch.no_grad()
    def update_rows(self, name: str, rows: Rows, gradient: Tensor) -> None:
        """Update the touched rows of a table; `gradient` [n, …] belongs to the rows as gathered and is used up."""
        items, gradient = rows.merged(gradient)
        accumulators = self._accumulators[name]
        accumulated = accumulators.index_select(0, items).addcmul_(gradient, gradient)
        accumulators.index_copy_(0, items, accumulated)
        root = accumulated.add_(EPSILON).sqrt_()
        if self.momentum:
            velocities = self._velocities[name]
            change = velocities.index_select(0, items).mul_(self.momentum)
            change.addcdiv_(gradient, root, value=-self.learning_rate)
            velocities.index_copy_(0, items, change)
        else:
            change = gradient.div_(root).mul_(-self.learning_rate)
        self._parameters[name].index_add_(0, items, change)

    @torch.no_grad()
    def update_all(self, name: str, gradient: Tensor) -> None:
        """Update a parameter of which every entry has a gradient."""
        accumulators = self._accumulators[name].addcmul_(gradient, gradient)
        root = accumulators.add(EPSILON).sqrt_()
        if self.momentum:
            change = self._velocities[name].mul_(self.momentum).addcdiv_(gradient, root, value=-self.learning_rate)
            self._parameters[name].add_(change)
        else:
            self._parameters[name].addcdiv_(gradient, root, value=-self.learning_rate)

    def tensors(self) -> dict[str, Tensor]:
        """The optimiser's state by name; writing into these changes it."""
        named = {f"accumulator.{name}": tensor for name, tensor in self._accumulators.items()}
        return named | {f"velocity.{name}": tensor for name, tensor in self._velocities.items()}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Copy a saved state in.

        Raises:
            ValueError: a name is missing or unknown, or a shape differs.
        """
        tensors = self.tensors()
        if set(arrays) != set(tensors):
            raise ValueError(f"expected the optimiser state {sorted(tensors)}, got {sorted(arrays)}")
        for name, tensor in tensors.items():
            if tuple(arrays[name].shape) != tuple(tensor.shape):
                raise ValueError(f"{name}: expected shape {tuple(tensor.shape)}, got {tuple(arrays[name].shape)}")
            tensor.copy_(torch.from_numpy(np.array(arrays[name])))
