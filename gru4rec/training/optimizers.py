"""Update rules that work row by row: Adagrad with momentum, and AdamW.

Adagrad, the rule of the papers:

    acc += g²      v = μ v − lr · g / √(acc + 1e-6)      p += v

Only the rows that a step touches change, their accumulator and momentum included; a row that occurs several times in a
step is updated once, by the sum of its gradients. The accumulator starts at 0 and ε stands inside the root, in both of
which torch.optim.Adagrad differs. Source: the authors' implementations (arXiv 1706.03847).

There are no sparse tensors: the rows are gathered before the forward pass, their gradient is a dense matrix, and the
updated rows are written back.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gru4rec import kernels
from gru4rec.model import hugepages
from gru4rec.model.network import Network
from gru4rec.training.sparse_rows import DistinctRows, Rows

EPSILON = 1e-6


class RowOptimiser(ABC):
    """What the update rules have in common: which parameters there are, and a state of the same shapes for each.

    Args:
        network: whose parameters are updated in place.
        slots: names of the states kept for every entry, all beginning at zero.

    Attributes:
        steps_before: updates that the state holds already when the run begins.
        rows_loop, all_loop: the rule in `kernels`, for some rows and for every entry; `_numbers` are its numbers.
    """

    rows_loop: Callable[..., None]
    all_loop: Callable[..., None]
    _numbers: Mapping[str, Any]

    def __init__(self, network: Network, slots: Sequence[str]):
        self.steps_before = 0
        self._parameters = {"output_table": network.output_table, "output_bias": network.output_bias}
        if not network.constrained:
            self._parameters["input_table"] = network.input_table
        self._parameters["dense"] = network.dense
        self._state = {
            slot: {
                name: hugepages.zeros(*tensor.shape, device=tensor.device) for name, tensor in self._parameters.items()
            }
            for slot in slots
        }

    def begin_step(self, step: int) -> None:  # noqa: B027 - a rule that is the same in every step has nothing to do
        """Get ready for a step, numbered from 0 over the whole run."""

    @torch.no_grad()
    def update_rows(self, name: str, rows: Rows, gradient: Tensor) -> None:
        """Update the touched rows of a table; `gradient` [n, …] belongs to the rows as gathered and is used up."""
        tensors = self._of(name)
        if isinstance(rows, DistinctRows) and kernels.fit(tensors[0]) and kernels.take(gradient):
            self.rows_loop(*tensors, rows.items, gradient, rows.kept, rows.chained(), **self._numbers)
        else:
            self._update_rows(*tensors, *rows.summed(gradient))

    @torch.no_grad()
    def update_all(self, name: str, gradient: Tensor, rounded: Tensor | None = None) -> None:
        """Update a parameter of which every entry has a gradient.

        Args:
            name: of the parameter.
            gradient: of its shape.
            rounded: a bfloat16 copy of it, which is kept up to date.
        """
        tensors = self._of(name)
        if kernels.fit(tensors[0]) and kernels.take(gradient):
            self.all_loop(*tensors, gradient, rounded, **self._numbers)
        else:
            self._update_all(*tensors, gradient)
            if rounded is not None:
                rounded.copy_(tensors[0])

    @abstractmethod
    def _update_rows(
        self, parameter: Tensor, states: Tensor, more_states: Tensor, items: Tensor, gradient: Tensor
    ) -> None:
        """The rule in torch, for rows `items` int64 [n] with gradients [n, …].

        A row that is there twice has the same gradient both times: what it is to become is copied, not added.
        """

    @abstractmethod
    def _update_all(self, parameter: Tensor, states: Tensor, more_states: Tensor, gradient: Tensor) -> None:
        """The rule in torch, for every entry."""

    def _of(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        """A parameter and its states; a rule that keeps one has it twice."""
        states = [of[name] for of in self._state.values()]
        return self._parameters[name], states[0], states[-1]

    def tensors(self) -> dict[str, Tensor]:
        """The optimiser's state by name; writing into these changes it."""
        return {f"{slot}.{name}": tensor for slot, of in self._state.items() for name, tensor in of.items()}

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


class RowAdagrad(RowOptimiser):
    """The optimiser and its state for one network.

    Args:
        network: whose parameters are updated in place.
        learning_rate: lr.
        momentum: μ; 0 keeps no velocities.
    """

    rows_loop, all_loop = staticmethod(kernels.adagrad), staticmethod(kernels.adagrad_all)

    def __init__(self, network: Network, learning_rate: float, momentum: float):
        super().__init__(network, ["accumulator", "velocity"] if momentum else ["accumulator"])
        self.learning_rate = learning_rate
        self.momentum = momentum
        self._numbers = {"rate": learning_rate, "momentum": momentum, "epsilon": EPSILON}

    def _update_rows(
        self, parameter: Tensor, states: Tensor, more_states: Tensor, items: Tensor, gradient: Tensor
    ) -> None:
        accumulated = states.index_select(0, items).addcmul_(gradient, gradient)
        states.index_copy_(0, items, accumulated)
        root = accumulated.add_(EPSILON).sqrt_()
        if self.momentum:
            change = more_states.index_select(0, items).mul_(self.momentum)
            change.addcdiv_(gradient, root, value=-self.learning_rate)
            more_states.index_copy_(0, items, change)
        else:
            change = gradient.div_(root).mul_(-self.learning_rate)
        parameter.index_copy_(0, items, change.add_(parameter.index_select(0, items)))

    def _update_all(self, parameter: Tensor, states: Tensor, more_states: Tensor, gradient: Tensor) -> None:
        root = states.addcmul_(gradient, gradient).add(EPSILON).sqrt_()
        if self.momentum:
            change = more_states.mul_(self.momentum).addcdiv_(gradient, root, value=-self.learning_rate)
            parameter.add_(change)
        else:
            parameter.addcdiv_(gradient, root, value=-self.learning_rate)


class RowAdamW(RowOptimiser):
    """Adam on the rows that a step touches, with warm-up and a cosine decay of the learning rate.

        m += (1 − β₁)(g − m)    v += (1 − β₂)(g² − v)    p −= lr(t) · m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + ε)

    Moments of rows that are not touched stay as they are, so a step's cost does not grow with the catalogue. lr(t)
    rises over the first steps and then falls along a cosine to a twentieth at the end of the run. Source: Loshchilov
    & Hutter, arXiv 1711.05101, without weight decay.

    Args:
        network: whose parameters are updated in place.
        learning_rate: the highest lr.
        n_steps: of the whole run.
    """

    rows_loop, all_loop = staticmethod(kernels.adamw), staticmethod(kernels.adamw_all)
    FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-8
    WARM_UP_STEPS, FINAL_SHARE = 200, 0.05

    def __init__(self, network: Network, learning_rate: float, n_steps: int):
        super().__init__(network, ["first_moment", "second_moment"])
        self.learning_rate = learning_rate
        self.n_steps = n_steps
        self.begin_step(0)

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        warm_up = min(self.WARM_UP_STEPS, self.n_steps // 10)
        if step < warm_up:
            return self.learning_rate * (step + 1) / (warm_up + 1)
        progress = min(1.0, (step - warm_up) / max(1, self.n_steps - warm_up))
        share = self.FINAL_SHARE + (1 - self.FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * progress))
        return self.learning_rate * share

    def begin_step(self, step: int) -> None:
        updates = self.steps_before + step + 1
        self._scale = -self.rate(step) / (1 - self.FIRST_DECAY**updates)
        self._root_correction = math.sqrt(1 - self.SECOND_DECAY**updates)
        self._numbers = {
            "decays": (self.FIRST_DECAY, self.SECOND_DECAY),
            "scale": self._scale,
            "root_correction": self._root_correction,
            "epsilon": self.EPSILON,
        }

    def _update_rows(
        self, parameter: Tensor, states: Tensor, more_states: Tensor, items: Tensor, gradient: Tensor
    ) -> None:
        first = states.index_select(0, items).lerp_(gradient, 1 - self.FIRST_DECAY)
        states.index_copy_(0, items, first)
        second = more_states.index_select(0, items).mul_(self.SECOND_DECAY)
        second.addcmul_(gradient, gradient, value=1 - self.SECOND_DECAY)
        more_states.index_copy_(0, items, second)
        change = first.mul_(self._scale).div_(self._divisor(second))
        parameter.index_copy_(0, items, change.add_(parameter.index_select(0, items)))

    def _update_all(self, parameter: Tensor, states: Tensor, more_states: Tensor, gradient: Tensor) -> None:
        states.lerp_(gradient, 1 - self.FIRST_DECAY)
        more_states.mul_(self.SECOND_DECAY).addcmul_(gradient, gradient, value=1 - self.SECOND_DECAY)
        parameter.addcdiv_(states, self._divisor(more_states.clone()), value=self._scale)

    def _divisor(self, second: Tensor) -> Tensor:
        """√(v / (1 − β₂ᵗ)) + ε, in place."""
        return second.sqrt_().div_(self._root_correction).add_(self.EPSILON)
