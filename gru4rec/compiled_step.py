"""One session-parallel step differentiated by hand, out of matrix products and the loops of `kernels`.

It computes what `SessionParallel` computes with autograd, from the same random numbers, to within rounding. On a
processor it takes a fraction of the time, because between two products there is one walk over the numbers instead of
many, and nothing is recorded for later. Products take their inputs in the learner's product type; all sums, gates,
losses and parameters are float32.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gru4rec import kernels
from gru4rec.gru import GRULayer
from gru4rec.learner import Learner
from gru4rec.steps import Step


@dataclass(frozen=True)
class Gradients:
    """Gradients of a step's loss.

    Attributes:
        rows: [C + B, H], of the columns and then of the inputs, where those are rows of one table; [C, H] otherwise.
        inputs: [B, E].
        bias: [C].
        dense: of the GRU weights, flat.
    """

    rows: Tensor
    inputs: Tensor
    bias: Tensor
    dense: Tensor


class _LayerPass:
    """One GRU layer's way there and back.

    Args:
        layer: the weights.
        inputs: [B, in].
        hidden: [B, H].
        uniform: [B, H], random numbers for dropout, or None.
        learner: for the share that is dropped and the type of products.

    Attributes:
        output: [B, H], the next state.
    """

    def __init__(self, layer: GRULayer, inputs: Tensor, hidden: Tensor, uniform: Tensor | None, learner: Learner):
        self._type, self._share = learner.product_type, learner.config.dropout_p_hidden
        self._hidden = hidden
        self._factors = inputs.to(self._type), hidden.to(self._type)
        weight_hh = layer.weight_hh.to(self._type)
        self._weight_ih = None if layer.weight_ih is None else layer.weight_ih.to(self._type)
        if self._weight_ih is None:
            from_input = inputs + layer.bias_ih
        else:
            from_input = _product(self._factors[0], self._weight_ih.T).add_(layer.bias_ih)
        self._from_hidden = _product(self._factors[1], weight_hh.T).add_(layer.bias_hh)
        self._uniform = uniform
        self.output, self._activations = kernels.gates(
            from_input, self._from_hidden, hidden, self._uniform, self._share
        )

    def back(self, upstream: Tensor, into: GRULayer) -> Tensor:
        """Writes the gradients of the weights, from that of the output [B, H], and gives that of the inputs."""
        to_input, to_hidden, _ = kernels.gates_gradient(
            upstream, self._uniform, self._share, self._activations, self._from_hidden, self._hidden
        )
        torch.sum(to_input, dim=0, out=into.bias_ih)
        torch.sum(to_hidden, dim=0, out=into.bias_hh)
        _product(to_hidden.to(self._type).T, self._factors[1], into.weight_hh)
        if self._weight_ih is None or into.weight_ih is None:
            return to_input
        factor = to_input.to(self._type)
        _product(factor.T, self._factors[0], into.weight_ih)
        return _product(factor, self._weight_ih)


def fits(learner: Learner) -> bool:
    """Whether steps of this learner can be taken here."""
    network = learner.network
    return network.temperature is None and not learner.sampler.every_item and kernels.fit(network.output_table)


def run(
    learner: Learner,
    step: Step,
    state: list[Tensor],
    uniform: list[Tensor | None],
    bias: Tensor,
    positive: Tensor,
) -> tuple[Tensor, list[Tensor], Gradients]:
    """Forward and backward pass of one step.

    Args:
        learner: what is trained; its parameters are only read.
        step: B rows, C columns.
        state: per layer [B, H].
        uniform: the step's random numbers, as of `Learner.uniform`.
        bias: [C], the columns' biases less the sampling correction.
        positive: int64 [B], the targets' columns.

    Returns:
        The loss (a scalar), the next state, and the gradients.
    """
    network, config, product_type = learner.network, learner.config, learner.product_type
    n_rows, n_columns = len(step.targets), len(step.columns.items)

    output = network.input_table.index_select(0, step.inputs.items)
    dropped = uniform[0]
    kernels.drop(output, dropped, config.dropout_p_embed)
    passes: list[_LayerPass] = []
    for layer, hidden, numbers in zip(network.layers, state, uniform[1:], strict=True):
        passes.append(_LayerPass(layer, output, hidden, numbers, learner))
        output = passes[-1].output

    columns = kernels.gathered(network.output_table, step.columns.items, product_type)
    query = output.to(product_type)
    scores = query @ columns.T
    losses, gradient = learner.loss_gradient(scores, bias, positive, 1 / config.batch_size)
    shared = step.both is not None
    rows = torch.empty(n_columns + n_rows if shared else n_columns, columns.shape[1])
    _product(gradient.T, query, rows[:n_columns])
    upstream = _product(gradient, columns)

    to_dense = torch.empty_like(network.dense)
    for layer_pass, into in zip(reversed(passes), reversed(network.layers_from(to_dense)), strict=True):
        upstream = layer_pass.back(upstream, into)
    kernels.drop(upstream, dropped, config.dropout_p_embed)
    if shared:
        rows[n_columns:] = upstream
    following = [layer_pass.output for layer_pass in passes]
    return losses.sum(), following, Gradients(rows, upstream, kernels.column_sums(gradient), to_dense)


def _product(left: Tensor, right: Tensor, into: Tensor | None = None) -> Tensor:
    """The float32 product of two matrices."""
    if left.dtype is torch.float32:
        return torch.mm(left, right, out=into) if into is not None else left @ right
    product = left @ right
    return product.float() if into is None else into.copy_(product)
