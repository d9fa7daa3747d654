"""Row-wise Adagrad with momentum against the equations, row by row in plain Python."""

import numpy as np
import pytest
import torch

from gru4rec.config.train_config import TrainConfig
from gru4rec.model.network import Network
from gru4rec.training.optimizers import EPSILON, RowAdagrad, RowAdamW
from gru4rec.training.sparse_rows import RowPacking


def touched(*items: int, fixed: bool = False):
    """Items as rows of the output table."""
    packing = RowPacking(12, constrained=True, fixed=fixed)
    arrays = packing.pack(np.array(items), np.array([], dtype=np.int64))
    return packing.unpack(iter([torch.from_numpy(array) for array in arrays]), 0).columns


def network_and_optimiser(momentum: float) -> tuple[Network, RowAdagrad]:
    network = Network(12, TrainConfig(layers=(3,)))
    return network, RowAdagrad(network, learning_rate=0.1, momentum=momentum)


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.4])
def test_touched_rows_follow_the_equations_and_no_other_row_moves(momentum, fixed):
    network, optimiser = network_and_optimiser(momentum)
    expected = network.output_table.double().numpy().copy()
    accumulated, velocity = np.zeros_like(expected), np.zeros_like(expected)
    generator = np.random.default_rng(0)
    for items in ([1, 5, 7], [5, 1, 5, 5, 9], [2, 2]):
        gradient = generator.normal(size=(len(items), 3))
        optimiser.update_rows("output_table", touched(*items, fixed=fixed), torch.tensor(gradient, dtype=torch.float32))
        for item in set(items):
            total = gradient[[place for place, other in enumerate(items) if other == item]].sum(axis=0)
            accumulated[item] += total**2
            velocity[item] = momentum * velocity[item] - 0.1 * total / np.sqrt(accumulated[item] + EPSILON)
            expected[item] += velocity[item]
        np.testing.assert_allclose(network.output_table.numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.4])
def test_dense_update_follows_the_equations(momentum):
    network, optimiser = network_and_optimiser(momentum)
    expected = network.dense.double().numpy().copy()
    accumulated, velocity = np.zeros_like(expected), np.zeros_like(expected)
    for seed in range(3):
        gradient = np.random.default_rng(seed).normal(size=expected.shape)
        optimiser.update_all("dense", torch.tensor(gradient, dtype=torch.float32))
        accumulated += gradient**2
        velocity = momentum * velocity - 0.1 * gradient / np.sqrt(accumulated + EPSILON)
        expected += velocity
    np.testing.assert_allclose(network.dense.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_first_update_has_the_size_of_the_learning_rate():
    """The accumulator starts at zero, so the first step of any gradient is lr · sign(g)."""
    network, optimiser = network_and_optimiser(0.0)
    before = network.output_bias.clone()
    optimiser.update_rows("output_bias", touched(3), torch.tensor([50.0]))
    assert (before - network.output_bias)[3].item() == pytest.approx(0.1, rel=1e-5)


def test_first_occurrences_of_repeated_items():
    packing = RowPacking(10, constrained=True, fixed=False)
    assert packing.first_occurrences(np.array([4, 2, 4, 9, 2, 4])).tolist() == [0, 1, 0, 3, 1, 0]


def test_momentum_zero_keeps_no_velocities():
    assert not [name for name in network_and_optimiser(0.0)[1].tensors() if name.startswith("velocity")]


@pytest.mark.parametrize("fixed", [False, True])
def test_adamw_follows_the_equations_on_touched_rows_and_leaves_the_others(fixed):
    network = Network(12, TrainConfig(layers=(3,)))
    optimiser = RowAdamW(network, learning_rate=0.1, n_steps=1000)
    expected = network.output_table.double().numpy().copy()
    first, second = np.zeros_like(expected), np.zeros_like(expected)
    generator = np.random.default_rng(0)
    for step, items in enumerate([[1, 5, 7], [5, 1, 5, 5, 9], [2, 2]]):
        gradient = generator.normal(size=(len(items), 3))
        optimiser.begin_step(step)
        optimiser.update_rows("output_table", touched(*items, fixed=fixed), torch.tensor(gradient, dtype=torch.float32))
        for item in set(items):
            total = gradient[[place for place, other in enumerate(items) if other == item]].sum(axis=0)
            first[item] = 0.9 * first[item] + 0.1 * total
            second[item] = 0.999 * second[item] + 0.001 * total**2
            corrected = second[item] / (1 - 0.999 ** (step + 1))
            rate = optimiser.rate(step) / (1 - 0.9 ** (step + 1))
            expected[item] -= rate * first[item] / (np.sqrt(corrected) + 1e-8)
        np.testing.assert_allclose(network.output_table.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_dense_adamw_equals_torchs_own():
    network = Network(12, TrainConfig(layers=(3,)))
    theirs = network.dense.clone().requires_grad_()
    ours = RowAdamW(network, learning_rate=0.1, n_steps=1000)
    torchs = torch.optim.AdamW([theirs], weight_decay=0.0)
    for step in range(5):
        gradient = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(step))
        ours.begin_step(step)
        ours.update_all("dense", gradient.clone())
        torchs.param_groups[0]["lr"] = ours.rate(step)
        theirs.grad = gradient
        torchs.step()
    torch.testing.assert_close(network.dense, theirs.detach(), rtol=1e-5, atol=1e-6)


def test_learning_rate_of_adamw_warms_up_and_falls_to_a_twentieth():
    optimiser = RowAdamW(Network(12, TrainConfig(layers=(3,))), learning_rate=1.0, n_steps=4000)
    rates = [optimiser.rate(step) for step in range(4001)]
    assert rates[0] < 0.01
    assert max(rates) == rates[200] == 1.0
    assert rates[2100] == pytest.approx(0.525, abs=0.001)  # half-way down, between 1 and 0.05
    assert rates[4000] == pytest.approx(0.05)
