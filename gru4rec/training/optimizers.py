"""Update rules that work row by row: Adagrad with momentum, and AdamW.

Adagrad, the rule of the papers:

    acc += g²      v = μ v − lr · g / √(acc + 1e-6)      p += v

Only the rows that a step touches change, their accumulator and momentum included. A row that occurs several times in a
step is updated once, by the sum of its gradients. Two things differ from torch.optim.Adagrad: the accumulator starts at
0, and ε is inside the root. Source: the authors' implementations (arXiv 1706.03847).

There are no sparse tensors: the rows are gathered before the forward pass, their gradient is a dense matrix, and the
updated rows are written back.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gru4rec import kernels
from gru4rec.model import hugepages
from gru4rec.model.network import Network, copy_arrays
from gru4rec.training.sparse_rows import DistinctRows, Rows, StepRows

EPSILON = 1e-6
States = Mapping[str, Tensor]
"""The states of one parameter by name."""


class RowOptimiser(ABC):
    """The common part of the update rules: the parameters, and states of the same shapes for each.

    Args:
        network: its parameters are updated in place.
        states: names of the states kept for every entry; all start at zero.

    Attributes:
        rule: its name in `kernels`.
        steps_before: updates that the states contain already when the run begins.
    """

    rule: str
    _arguments: Mapping[str, Any]  # of the rule in `kernels`, besides tensors of the parameter's shape

    def __init__(self, network: Network, states: Sequence[str]):
        self.steps_before = 0
        self._parameters = {"output_table": network.output_table, "output_bias": network.output_bias}
        if not network.constrained:
            self._parameters["input_table"] = network.input_table
        self._parameters["dense"] = network.dense
        self._states = {
            name: {state: hugepages.zeros(*tensor.shape, device=tensor.device) for state in states}
            for name, tensor in self._parameters.items()
        }

    def begin_step(self, step: int) -> None:  # noqa: B027 - Adagrad is the same in every step
        """Prepare for a step, numbered from 0 over the whole run."""

    @torch.no_grad()
    def update_rows(self, name: str, rows: Rows, gradient: Tensor) -> None:
        """Update the touched rows of a table; `gradient` [n, …] belongs to the rows as gathered and is overwritten."""
        parameter, states = self._parameters[name], self._states[name]
        if isinstance(rows, DistinctRows) and kernels.accepts(parameter) and kernels.accepts_gradient(gradient):
            kernels.update_rows(
                self.rule,
                parameter=parameter,
                items=rows.items,
                gradient=gradient,
                places=rows.kept,
                following=rows.chain(),
                **states,
                **self._arguments,
            )
        else:
            self._update_rows(parameter, states, *rows.sum(gradient))

    def update_tables(self, rows: StepRows, gradient: Tensor, input_gradient: Tensor) -> None:
        """Update the touched rows of both tables.

        Args:
            rows: those of the step, C columns and B inputs.
            gradient: of columns and inputs [C + B, H] if they are rows of one table, otherwise of columns [C, H].
            input_gradient: [B, E]; ignored if they are rows of one table.
        """
        if rows.both is not None:
            self.update_rows("output_table", rows.both, gradient)
        else:
            self.update_rows("output_table", rows.columns, gradient)
            self.update_rows("input_table", rows.inputs, input_gradient)

    @torch.no_grad()
    def update_all(self, name: str, gradient: Tensor, rounded: Tensor | None = None) -> None:
        """Update every entry of a parameter.

        Args:
            name: of the parameter.
            gradient: of its shape.
            rounded: a bfloat16 copy of it to keep up to date.
        """
        parameter, states = self._parameters[name], self._states[name]
        if kernels.accepts(parameter) and kernels.accepts_gradient(gradient):
            kernels.update_all(
                self.rule, parameter=parameter, gradient=gradient, rounded=rounded, **states, **self._arguments
            )
        else:
            self._update_all(parameter, states, gradient)
            if rounded is not None:
                rounded.copy_(parameter)

    @abstractmethod
    def _update_rows(self, parameter: Tensor, states: States, items: Tensor, gradient: Tensor) -> None:
        """The rule in torch, for rows `items` int64 [n] with gradients [n, …].

        A row that occurs twice has the same gradient both times, so its new values are copied, not added.
        """

    @abstractmethod
    def _update_all(self, parameter: Tensor, states: States, gradient: Tensor) -> None:
        """The rule in torch, for every entry."""

    def tensors(self) -> dict[str, Tensor]:
        """The optimiser's state by name; writing into these changes it."""
        return {f"{state}.{name}": tensor for name, of in self._states.items() for state, tensor in of.items()}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Copy a saved state in.

        Raises:
            ValueError: a name is missing or unknown, or a shape differs.
        """
        copy_arrays(arrays, self.tensors(), "optimiser state")


class RowAdagrad(RowOptimiser):
    """Adagrad with momentum.

    Args:
        network: its parameters are updated in place.
        learning_rate: lr.
        momentum: μ; 0 keeps no velocities.
    """

    rule = "adagrad"

    def __init__(self, network: Network, learning_rate: float, momentum: float):
        super().__init__(network, ["accumulator", "velocity"] if momentum else ["accumulator"])
        self.learning_rate = learning_rate
        self.momentum = momentum
        self._arguments = {"rate": learning_rate, "momentum": momentum, "epsilon": EPSILON}
        if not momentum:
            self._arguments["velocity"] = None

    def _update_rows(self, parameter: Tensor, states: States, items: Tensor, gradient: Tensor) -> None:
        accumulated = states["accumulator"].index_select(0, items).addcmul_(gradient, gradient)
        states["accumulator"].index_copy_(0, items, accumulated)
        root = accumulated.add_(EPSILON).sqrt_()
        if self.momentum:
            change = states["velocity"].index_select(0, items).mul_(self.momentum)
            change.addcdiv_(gradient, root, value=-self.learning_rate)
            states["velocity"].index_copy_(0, items, change)
        else:
            change = gradient.div_(root).mul_(-self.learning_rate)
        parameter.index_copy_(0, items, change.add_(parameter.index_select(0, items)))

    def _update_all(self, parameter: Tensor, states: States, gradient: Tensor) -> None:
        root = states["accumulator"].addcmul_(gradient, gradient).add(EPSILON).sqrt_()
        if self.momentum:
            change = states["velocity"].mul_(self.momentum).addcdiv_(gradient, root, value=-self.learning_rate)
            parameter.add_(change)
        else:
            parameter.addcdiv_(gradient, root, value=-self.learning_rate)


class RowAdamW(RowOptimiser):
    """Adam on the rows that a step touches, with warm-up and cosine decay of the learning rate.

        m += (1 − β₁)(g − m)    v += (1 − β₂)(g² − v)    p −= lr(t) · m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + ε)

    Moments of untouched rows stay as they are, so the cost of a step does not grow with the catalogue. lr(t) rises over
    the first steps and then falls along a cosine to a twentieth at the end of the run. Source: Loshchilov & Hutter,
    arXiv 1711.05101, without weight decay.

    Args:
        network: its parameters are updated in place.
        learning_rate: the highest lr.
        n_steps: of the whole run.
    """

    rule = "adamw"
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
        self._arguments = {
            "first_gain": 1 - self.FIRST_DECAY,  # in float32 the difference would lose digits
            "second_decay": self.SECOND_DECAY,
            "second_gain": 1 - self.SECOND_DECAY,
            "scale": self._scale,
            "root_correction": self._root_correction,
            "epsilon": self.EPSILON,
        }

    def _update_rows(self, parameter: Tensor, states: States, items: Tensor, gradient: Tensor) -> None:
        first = states["first_moment"].index_select(0, items).lerp_(gradient, 1 - self.FIRST_DECAY)
        states["first_moment"].index_copy_(0, items, first)
        second = states["second_moment"].index_select(0, items).mul_(self.SECOND_DECAY)
        second.addcmul_(gradient, gradient, value=1 - self.SECOND_DECAY)
        states["second_moment"].index_copy_(0, items, second)
        change = first.mul_(self._scale).div_(self._divisor(second))
        parameter.index_copy_(0, items, change.add_(parameter.index_select(0, items)))

    def _update_all(self, parameter: Tensor, states: States, gradient: Tensor) -> None:
        first = states["first_moment"].lerp_(gradient, 1 - self.FIRST_DECAY)
        second = states["second_moment"].mul_(self.SECOND_DECAY)
        second.addcmul_(gradient, gradient, value=1 - self.SECOND_DECAY)
        parameter.addcdiv_(first, self._divisor(second.clone()), value=self._scale)

    def _divisor(self, second: Tensor) -> Tensor:
        """√(v / (1 − β₂ᵗ)) + ε, in place."""
        return second.sqrt_().div_(self._root_correction).add_(self.EPSILON)
