"""Dropout drops the share that it is asked for, and keeps the mean."""

import pytest
import torch

from gru4rec.kernels import drop_limit
from gru4rec.training.dropout import DropNumbers, apply_dropout, splitmix64


def restarted(seed):
    drops = DropNumbers(torch.device("cpu"))
    drops.restart(seed)
    return drops


def numbers(*shape, seed=1):
    return restarted(seed).draw(*shape)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_share_is_dropped_and_the_mean_kept(share):
    values = apply_dropout(torch.ones(400, 501), numbers(400, 501), share)
    spread = (share * (1 - share) / values.numel()) ** 0.5
    assert float((values == 0).float().mean()) == pytest.approx(share, abs=5 * spread)
    assert set(values.unique().tolist()) == {0.0, float(torch.tensor(1.0) / (1 - share))}


def test_every_bit_of_the_numbers_is_as_often_set_as_not_and_neighbours_are_independent():
    drawn = numbers(1000, 1000).flatten()
    bits = torch.stack([(drawn >> bit) & 1 for bit in range(16)]).float()
    assert bits.mean(dim=1).sub(0.5).abs().max() < 0.0025  # five standard deviations of a million throws
    centred = bits[15] - 0.5
    for distance in (1, 2, 3, 4):
        assert abs(float((centred[:-distance] * centred[distance:]).mean())) * 4 < 0.005


def test_same_seed_draws_the_same_and_any_number_of_rows_is_fine():
    assert torch.equal(numbers(3, 7), numbers(3, 7))
    assert not torch.equal(numbers(3, 7), numbers(3, 7, seed=2))
    assert numbers(1, 1).shape == (1, 1)


def test_a_sequence_continues_from_draw_to_draw_until_it_is_restarted():
    drops = restarted(3)
    drawn = [drops.draw(8, 16), drops.draw(8, 16)]
    assert not torch.equal(*drawn)
    drops.restart(3)
    assert torch.equal(drops.draw(8, 16), drawn[0])
    assert torch.equal(drops.draw(8, 16), drawn[1])


def test_numbers_are_those_of_splitmix64_with_and_without_numba(monkeypatch):
    assert int(splitmix64(1234567, 0, 1)) == 6457827717110365317  # as in other implementations
    drawn = numbers(5, 9, seed=2**62 + 1)
    monkeypatch.setattr("gru4rec.kernels.api.AVAILABLE", False)
    assert torch.equal(numbers(5, 9, seed=2**62 + 1), drawn)


def test_limits_divide_the_numbers_by_their_share():
    assert [drop_limit(share) for share in (0.5, 0.25, 1 - 2**-16)] == [0, -(2**14), 2**15 - 1]
    assert drop_limit(1 - 1e-9) == 2**15 - 1  # not a number that int16 does not know
