"""The network against torch's own GRU cell, in every embedding mode."""

import math

import numpy as np
import pytest
import torch

from gru4rec.config.train_config import TrainConfig
from gru4rec.model.gru import GRULayer
from gru4rec.model.network import Network, parameter_shapes

CONFIGS = {
    "constrained": TrainConfig(layers=(6,)),
    "constrained, two layers": TrainConfig(layers=(5, 6)),
    "separate": TrainConfig(layers=(6, 4), constrained_embedding=False, embedding=7),
    "one-hot": TrainConfig(layers=(6,), constrained_embedding=False),
}


def torch_cells(network: Network) -> list[torch.nn.GRUCell]:
    cells = []
    for layer, width in zip(network.layers, network.widths, strict=True):
        weight_ih = torch.eye(3 * width) if layer.weight_ih is None else layer.weight_ih
        cell = torch.nn.GRUCell(weight_ih.shape[1], width)
        cell.load_state_dict(
            {
                "weight_ih": weight_ih,
                "weight_hh": layer.weight_hh,
                "bias_ih": layer.bias_ih,
                "bias_hh": layer.bias_hh,
            }
        )
        cells.append(cell)
    return cells


def randomized(config: TrainConfig, n_items: int = 20) -> Network:
    network = Network(n_items, config)
    generator = torch.Generator().manual_seed(1)
    for tensor in network.tensors().values():
        tensor.uniform_(-0.7, 0.7, generator=generator)
    return network


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_scores_equal_torchs_gru_cells_walked_one_session_at_a_time(config):
    network = randomized(config)
    cells = torch_cells(network)
    sessions = [[3], [1, 2, 3, 4, 19], [], [7, 7]]
    items = torch.full((len(sessions), 5), network.n_items)
    for row, session in enumerate(sessions):
        items[row, : len(session)] = torch.tensor(session, dtype=torch.int64)
    hidden = torch.zeros(len(cells), len(sessions), max(network.widths))
    scores, state = network.score(items, torch.tensor([len(session) for session in sessions]), hidden)

    for row, session in enumerate(sessions):
        states = [torch.zeros(1, width) for width in network.widths]
        with torch.no_grad():
            for item in session:
                output = network.input_table[item].unsqueeze(0)
                for number, cell in enumerate(cells):
                    output = states[number] = cell(output, states[number])
        expected = states[-1][0] @ network.output_table.T + network.output_bias
        torch.testing.assert_close(scores[row], expected, rtol=1e-5, atol=1e-6)
        for number, width in enumerate(network.widths):
            torch.testing.assert_close(state[number, row, :width], states[number][0], rtol=1e-5, atol=1e-6)
            assert (state[number, row, width:] == 0).all()


def test_carried_state_equals_the_whole_session():
    network = randomized(CONFIGS["separate"])
    hidden = torch.zeros(2, 1, 6)
    for item in (4, 9, 1):
        scores, hidden = network.score(torch.tensor([[item]]), torch.tensor([1]), hidden)
    whole, state = network.score(torch.tensor([[4, 9, 1]]), torch.tensor([3]), torch.zeros(2, 1, 6))
    torch.testing.assert_close(scores, whole, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(hidden, state, rtol=1e-6, atol=1e-6)


def test_initial_range_is_that_of_each_gates_own_matrix():
    network = Network(50, TrainConfig(layers=(40,), constrained_embedding=False, embedding=30))
    for tensor, rows, columns in (
        (network.output_table, 50, 40),
        (network.input_table, 50, 30),
        (network.layers[0].weight_ih, 40, 30),
        (network.layers[0].weight_hh, 40, 40),
    ):
        bound = math.sqrt(6 / (rows + columns))
        assert 0.98 * bound < tensor.abs().max().item() <= bound
    assert not network.output_bias.any()
    assert not network.layers[0].bias_ih.any()
    one_hot = Network(50, TrainConfig(layers=(40,), constrained_embedding=False))
    assert one_hot.input_table.shape == (50, 120)
    assert one_hot.input_table.abs().max().item() <= math.sqrt(6 / 90)


@pytest.mark.parametrize("config", [*CONFIGS.values(), TrainConfig(batching="whole-session", n_recent=3)])
def test_shapes_are_known_before_the_network_exists(config):
    shapes = {name: tuple(tensor.shape) for name, tensor in Network(20, config).tensors().items()}
    assert parameter_shapes(20, config) == shapes


def test_constrained_embedding_is_one_matrix():
    network = Network(10, CONFIGS["constrained"])
    assert network.input_table is network.output_table
    weights = network.scoring_weights()
    assert weights.input_table is weights.output_table


def test_same_seed_same_network_other_seed_another():
    first, again = Network(10, TrainConfig(seed=1)), Network(10, TrainConfig(seed=1))
    other = Network(10, TrainConfig(seed=2))
    assert torch.equal(first.dense, again.dense)
    assert torch.equal(first.output_table, again.output_table)
    assert not torch.equal(first.output_table, other.output_table)


def test_saved_parameters_of_another_shape_are_refused():
    network = Network(10, CONFIGS["constrained"])
    arrays = {name: tensor.numpy() for name, tensor in network.tensors().items()}
    with pytest.raises(ValueError, match="expected shape"):
        network.load(arrays | {"output_bias": np.zeros(9, dtype=np.float32)})
    with pytest.raises(ValueError, match="expected the parameters"):
        network.load({"output_bias": np.zeros(10, dtype=np.float32)})


def test_closed_form_of_the_gru_equals_torchs_cell_differentiated():
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()

    inputs, hidden = leaf(3, 5), leaf(3, 4)
    layer = GRULayer(leaf(12, 5), leaf(12, 4), leaf(12), leaf(12))
    weights = {
        "weight_ih": layer.weight_ih,
        "weight_hh": layer.weight_hh,
        "bias_ih": layer.bias_ih,
        "bias_hh": layer.bias_hh,
    }
    cell = torch.nn.GRUCell(5, 4).double()
    cell.load_state_dict({name: tensor.detach() for name, tensor in weights.items()})
    upstream = torch.randn(3, 4, dtype=torch.float64, generator=generator)

    ours = torch.autograd.grad(layer(inputs, hidden), [inputs, hidden, *weights.values()], upstream)
    theirs = torch.autograd.grad(
        cell(inputs, hidden), [inputs, hidden, *(getattr(cell, name) for name in weights)], upstream
    )
    for left, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(layer, (inputs, hidden))
