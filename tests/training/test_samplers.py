"""Negatives follow support ** alpha, at any size of the catalogue."""

import numpy as np
import pytest
from scipy import stats

from gru4rec.config.train_config import TrainConfig
from gru4rec.training.samplers import SAMPLERS, PopularitySampler, build_sampler, register_sampler
from inference.shared.errors import UserError


def chi_square_p_value(drawn: np.ndarray, weights: np.ndarray) -> float:
    """How well draws fit weights; neighbouring items are gathered into at most 500 bins of about equal expectation."""
    share = weights / weights.sum()
    _, bin_of = np.unique(np.minimum((np.cumsum(share) * 500).astype(int), 499), return_inverse=True)
    observed = np.bincount(bin_of[drawn.ravel()], minlength=bin_of.max() + 1)
    return stats.chisquare(observed, np.bincount(bin_of, weights=share) * drawn.size).pvalue


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n_items", [50, 1_000_000])
def test_draws_follow_support_to_the_alpha(alpha, n_items):
    support = np.ceil(1e6 / np.arange(1, n_items + 1)).astype(np.int64)  # Zipf, from popular to rare
    drawn = PopularitySampler(support, n_sample=2048, sample_alpha=alpha).draw(500, np.random.default_rng(7))
    assert chi_square_p_value(drawn, support.astype(float) ** alpha) > 1e-3
    assert chi_square_p_value(drawn, support.astype(float) ** (alpha + 0.05)) < 1e-6


@pytest.mark.slow
def test_every_item_of_a_large_catalogue_can_be_drawn():
    """In float32 the cumulative distribution of 20M items would have steps of width zero."""
    n_items, last = 20_000_000, 2000

    class InTheMiddleOfEachItemsShare:
        def random(self, shape):
            return ((np.arange(n_items - last, n_items) + 0.5) / n_items).reshape(shape)

    sampler = PopularitySampler(np.ones(n_items, dtype=np.int64), n_sample=last, sample_alpha=1.0)
    drawn = sampler.draw(1, InTheMiddleOfEachItemsShare())
    np.testing.assert_array_equal(drawn[0], np.arange(n_items - last, n_items))


def test_draws_are_repeatable_and_differ_between_generators():
    sampler = PopularitySampler(np.arange(1, 100), n_sample=64, sample_alpha=0.5)
    first, again, other = (sampler.draw(4, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (4, 64)
    assert first.dtype == np.int32
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_log_weight_is_alpha_times_log_support():
    sampler = PopularitySampler(np.array([1, 4, 9]), n_sample=1, sample_alpha=0.5)
    np.testing.assert_allclose(sampler.log_weight, np.log([1.0, 2.0, 3.0]), rtol=1e-6)


def test_uniform_and_in_batch_are_ends_of_popularity():
    support = np.array([1, 10, 100])
    uniform = build_sampler(support, TrainConfig(sampler="uniform", n_sample=5, sample_alpha=0.9))
    assert uniform.n_sample == 5
    np.testing.assert_array_equal(uniform.log_weight, np.zeros(3, dtype=np.float32))
    assert build_sampler(support, TrainConfig(sampler="in-batch", n_sample=5)).n_sample == 0


def test_full_sampler_draws_nothing_and_scores_everything():
    sampler = build_sampler(np.array([1, 2]), TrainConfig(sampler="full"))
    assert sampler.every_item
    assert sampler.draw(3, np.random.default_rng(0)).shape == (3, 0)


def test_correction_of_sampling_without_sampling_is_refused():
    with pytest.raises(UserError, match="logq: the sampler 'full' scores every item"):
        build_sampler(np.array([1, 2]), TrainConfig(sampler="full", logq=1.0))


def test_unknown_sampler_names_the_known_ones():
    with pytest.raises(UserError, match="unknown sampler 'popular'; available: full, in-batch, popularity, uniform"):
        build_sampler(np.array([1]), TrainConfig(sampler="popular"))


def test_plugged_in_sampler_gets_its_options_and_others_are_refused():
    @register_sampler("every-second")
    class EverySecond:
        every_item = False

        def __init__(self, support, *, n_sample, step):
            self.n_sample, self.step = n_sample, step
            self.log_weight = np.zeros(len(support), dtype=np.float32)

        def draw(self, steps, generator):
            return np.zeros((steps, self.n_sample), dtype=np.int32)

    try:
        config = TrainConfig(sampler="every-second", n_sample=3, sampler_options={"step": 2})
        assert build_sampler(np.array([1, 1]), config).step == 2
        with pytest.raises(UserError, match="n_sample has a key of its own"):
            build_sampler(np.array([1, 1]), TrainConfig(sampler="every-second", sampler_options={"n_sample": 3}))
        for options in ({}, {"step": 2, "width": 1}):
            with pytest.raises(UserError, match=r"sampler_options: .* of the sampler 'every-second'"):
                build_sampler(np.array([1, 1]), TrainConfig(sampler="every-second", sampler_options=options))
    finally:
        del SAMPLERS["every-second"]
