"""Row-wise Adagrad with momentum against the equations, row by row in plain Python."""

import numpy as np
import pytest
import torch

from gru4rec.config import TrainConfig
from gru4rec.model import Network
from gru4rec.optim import EPSILON, FirstOccurrence, RowAdagrad, Rows


def rows_of(items: list[int], n_items: int) -> Rows:
    array = np.array(items)
    first = FirstOccurrence(n_items)(array)
    repeats = np.flatnonzero(first != np.arange(len(items)))
    kept = np.flatnonzero(first == np.arange(len(items)))
    return Rows(
        torch.tensor(array),
        torch.tensor(kept) if len(repeats) else None,
        torch.tensor(repeats),
        torch.tensor(first[repeats]),
    )


def network_and_optimiser(momentum: float) -> tuple[Network, RowAdagrad]:
    network = Network(12, TrainConfig(layers=(3,)))
    return network, RowAdagrad(network, learning_rate=0.1, momentum=momentum)


@pytest.mark.parametrize("momentum", [0.0, 0.4])
def test_touched_rows_follow_the_equations_and_no_other_row_moves(momentum):
    network, optimiser = network_and_optimiser(momentum)
    expected = network.output_table.double().numpy().copy()
    accumulated, velocity = np.zeros_like(expected), np.zeros_like(expected)
    generator = np.random.default_rng(0)
    for items in ([1, 5, 7], [5, 1, 5, 5, 9], [2, 2]):
        gradient = generator.normal(size=(len(items), 3))
        optimiser.update_rows("output_table", rows_of(items, 12), torch.tensor(gradient, dtype=torch.float32))
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
    optimiser.update_rows("output_bias", rows_of([3], 12), torch.tensor([50.0]))
    assert (before - network.output_bias)[3].item() == pytest.approx(0.1, rel=1e-5)


def test_first_occurrence_finds_repeats():
    assert FirstOccurrence(10)(np.array([4, 2, 4, 9, 2, 4])).tolist() == [0, 1, 0, 3, 1, 0]


def test_momentum_zero_keeps_no_velocities():
    assert not [name for name in network_and_optimiser(0.0)[1].tensors() if name.startswith("velocity")]
