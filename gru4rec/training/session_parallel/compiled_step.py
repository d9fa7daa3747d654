"""One session-parallel step differentiated by hand, from matrix products and the loops of `kernels`.

It computes what `SessionParallel` computes with autograd, from the same random numbers, to within rounding. On a CPU it
takes a fraction of the time, because there is one pass over the numbers between two products instead of many, and
nothing is recorded for later. Inputs and results of products have the learner's product type, and gradients stay in it
until a parameter is updated; sums, gates, losses and parameters are float32.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gru4rec import kernels
from gru4rec.model.gru import GRULayer
from gru4rec.training.learner import Learner
from gru4rec.training.session_parallel.steps import Step


@dataclass(frozen=True)
class StepGradients:
    """Gradients of a step's loss, float32 or bfloat16.

    Attributes:
        rows: [C + B, H], of the columns and then of the inputs, if those are rows of one table; [C, H] otherwise.
        inputs: [B, E].
        bias: [C].
        dense: of the GRU weights, flat.
    """

    rows: Tensor
    inputs: Tensor
    bias: Tensor
    dense: Tensor


class _LayerPass:
    """The forward and backward pass of one GRU layer.

    Args:
        layer: the weights.
        factor: the weights in the type of the products; `layer` itself after a one-hot input.
        inputs: [B, in] in the type of the products.
        hidden: [B, H].
        numbers: int16 [B, H], random numbers for dropout, or None.
        share: of the values that are dropped.

    Attributes:
        output: [B, H], the next state.
        product: the same in the type of products.
    """

    def __init__(
        self,
        layer: GRULayer,
        factor: GRULayer,
        inputs: Tensor,
        hidden: Tensor,
        numbers: Tensor | None,
        share: float,
    ):
        self._hidden, self._dropout, self._weight_ih = hidden, (numbers, share), factor.weight_ih
        self._factors = inputs, hidden.to(factor.weight_hh.dtype)
        from_input = inputs if self._weight_ih is None else inputs @ self._weight_ih.T
        from_hidden = self._factors[1] @ factor.weight_hh.T
        biases = layer.bias_ih, layer.bias_hh
        self.output, self.product, self._activations = kernels.gates(
            from_input, from_hidden, biases, hidden, *self._dropout
        )

    def back(self, upstream: Tensor, to: GRULayer, to_inputs: Tensor | None = None) -> Tensor:
        """The gradient of the inputs [B, in], from that of the output [B, H].

        Args:
            upstream: in the type of the products.
            to: the gradients of the weights are written here, in any type.
            to_inputs: the gradient of the inputs is written here; None allocates it.
        """
        to_input, to_hidden, _ = kernels.gates_gradient(
            upstream.to(self._factors[0].dtype), *self._dropout, self._activations, self._hidden
        )
        to.bias_ih.copy_(kernels.column_sums(to_input))
        to.bias_hh.copy_(kernels.column_sums(to_hidden))
        _product(to_hidden.T, self._factors[1], to.weight_hh)
        if self._weight_ih is None or to.weight_ih is None:
            return to_input
        _product(to_input.T, self._factors[0], to.weight_ih)
        return torch.mm(to_input, self._weight_ih, out=to_inputs)


def weights(learner: Learner) -> Tensor | None:
    """The GRU weights in the type of the products, laid out as `Network.dense`, for the optimiser to keep up to date.

    None if `run` does not support this learner.
    """
    network = learner.network
    if network.temperature is not None or learner.sampler.every_item or not kernels.accepts(network.output_table):
        return None
    return network.dense.to(learner.precision.product_type)


def run(
    learner: Learner,
    step: Step,
    state: list[Tensor],
    drops: list[Tensor | None],
    bias: Tensor,
    positive: Tensor,
    factors: Tensor,
) -> tuple[Tensor, list[Tensor], StepGradients]:
    """Forward and backward pass of one step.

    Args:
        learner: what is trained; its parameters are only read.
        step: B rows, C columns.
        state: per layer [B, H].
        drops: the step's random numbers, from `Learner.drop_numbers`.
        bias: [C], the columns' biases less the sampling correction.
        positive: int64 [B], the targets' columns.
        factors: from `weights`.

    Returns:
        The loss (a scalar), the next state, and the gradients.
    """
    network, config, product_type = learner.network, learner.config, learner.precision.product_type
    n_rows, n_columns = len(step.targets), len(step.rows.columns.items)
    embed_drop = drops[0], config.dropout_p_embed

    layers, rounded = network.layers, network.layers_from(factors)
    first_type = product_type
    if layers[0].weight_ih is None:
        # One-hot inputs stand for the result of a product: they stay float32, and so does what is added to them.
        first_type, rounded[0] = torch.float32, layers[0]
    output = kernels.gather(network.input_table, step.rows.inputs.items, first_type, *embed_drop)
    passes: list[_LayerPass] = []
    for layer, factor, hidden, numbers in zip(layers, rounded, state, drops[1:], strict=True):
        passes.append(_LayerPass(layer, factor, output, hidden, numbers, config.dropout_p_hidden))
        output = passes[-1].product.to(product_type)

    columns = kernels.gather(network.output_table, step.rows.columns.items, product_type)
    scores = output @ columns.T
    losses, gradient = learner.loss.gradient(learner.loss_options, scores, bias, positive, 1 / config.batch_size)
    shared = step.rows.both is not None
    rows = torch.empty(n_columns + n_rows if shared else n_columns, columns.shape[1], dtype=product_type)
    torch.mm(gradient.T, output, out=rows[:n_columns])
    upstream = gradient @ columns

    to_dense = torch.empty_like(network.dense, dtype=product_type)
    pairs = zip(passes, network.layers_from(to_dense), strict=True)
    for number, (layer_pass, to) in reversed(list(enumerate(pairs))):
        upstream = layer_pass.back(upstream, to, rows[n_columns:] if shared and number == 0 else None)
    kernels.drop(upstream, *embed_drop)
    following = [layer_pass.output for layer_pass in passes]
    return losses.sum(), following, StepGradients(rows, upstream, kernels.column_sums(gradient), to_dense)


def _product(left: Tensor, right: Tensor, into: Tensor) -> None:
    """Write the product of two matrices into a third, which may be of another type."""
    if left.dtype is into.dtype:
        torch.mm(left, right, out=into)
    else:
        into.copy_(left @ right)
