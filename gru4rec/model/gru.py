"""One GRU layer, whose gates have a gradient in closed form.

    r, z = σ(W x + b + U h + b')    n = tanh(W x + b + r ⊙ (U h + b'))    h' = (1 − z) n + z h

The reset gate acts after the recurrent product, as in torch.nn.GRUCell, cuDNN and ONNX with linear_before_reset = 1.
Differentiated operation by operation, the gates cost more than their two matrix products at the batch sizes of this
model; in closed form they are a dozen passes over [B, H].
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gru4rec import kernels


class _Gates(torch.autograd.Function):
    """`apply(from_input [B, 3H], from_hidden [B, 3H], hidden [B, H])` gives the next hidden [B, H]."""

    @staticmethod
    def forward(ctx: Any, from_input: Tensor, from_hidden: Tensor, hidden: Tensor) -> Tensor:
        ctx.compiled = kernels.accepts(from_input, from_hidden, hidden)
        if ctx.compiled:
            following, _, activations = kernels.gates(from_input, from_hidden, None, hidden, None, 0)
            ctx.save_for_backward(activations, hidden)
            return following
        units = hidden.shape[1]
        gates = (from_input[:, : 2 * units] + from_hidden[:, : 2 * units]).sigmoid_()
        reset, update = gates[:, :units], gates[:, units:]
        recurrent = from_hidden[:, 2 * units :]
        new = torch.addcmul(from_input[:, 2 * units :], reset, recurrent).tanh_()
        ctx.save_for_backward(gates, new, recurrent, hidden)
        return torch.lerp(new, hidden, update)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        (gradient,) = upstream
        if ctx.compiled:
            to_input, to_hidden, kept = kernels.gates_gradient(gradient.contiguous(), None, 0, *ctx.saved_tensors)
            return to_input, to_hidden, kept if ctx.needs_input_grad[2] else None
        gates, new, recurrent, hidden = ctx.saved_tensors
        units = hidden.shape[1]
        reset, update = gates[:, :units], gates[:, units:]
        kept = gradient * update  # to the hidden state, directly
        to_new = (gradient - kept).mul_(1 - new * new)  # before the tanh

        to_gates = torch.cat([to_new * recurrent, gradient * (hidden - new)], dim=1)  # before the gates' own σ
        to_gates.mul_(gates).mul_(1 - gates)
        to_input = torch.cat([to_gates, to_new], dim=1)
        to_hidden = torch.cat([to_gates, to_new * reset], dim=1)
        return to_input, to_hidden, kept if ctx.needs_input_grad[2] else None


@dataclass(frozen=True)
class GRULayer:
    """The weights of one layer, gates in the order r, z, n.

    Attributes:
        weight_ih: [3H, in], or None if the input already is the product with it (one-hot mode).
        weight_hh: [3H, H].
        bias_ih, bias_hh: [3H].
    """

    weight_ih: Tensor | None
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor

    def __call__(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        """One step: inputs [B, in] and hidden [B, H] give the next hidden [B, H]."""
        from_hidden = F.linear(hidden, self.weight_hh, self.bias_hh)
        return self._apply_gates(self._from_input(inputs), from_hidden, hidden)

    def unroll(self, inputs: Tensor, hidden: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
        """Run over all clicks of some sessions.

        Args:
            inputs: [R, in], time-major: the first click of sizes[0] sessions, the second of the first sizes[1] of
                them, and so on.
            hidden: [≥ sizes[0], H], whose first sizes[0] rows are the initial state.
            sizes: number of sessions that have a click at each moment, never increasing.

        Returns:
            The outputs [R, H], and each session's state after its last click [sizes[0], H].
        """
        hidden = hidden[: sizes[0]]
        outputs, ended = [], []
        for from_input in torch.split(self._from_input(inputs), sizes):
            if len(from_input) < len(hidden):
                ended.append(hidden[len(from_input) :])
                hidden = hidden[: len(from_input)]
            from_hidden = F.linear(hidden, self.weight_hh, self.bias_hh)
            hidden = self._apply_gates(from_input, from_hidden, hidden)
            outputs.append(hidden)
        return torch.cat(outputs), torch.cat([hidden, *reversed(ended)])

    def _from_input(self, inputs: Tensor) -> Tensor:
        return inputs + self.bias_ih if self.weight_ih is None else F.linear(inputs, self.weight_ih, self.bias_ih)

    @staticmethod
    def _apply_gates(from_input: Tensor, from_hidden: Tensor, hidden: Tensor) -> Tensor:
        return _Gates.apply(from_input, from_hidden, hidden)  # type: ignore[no-untyped-call, no-any-return]
