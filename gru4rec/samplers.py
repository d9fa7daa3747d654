"""Where a step's additional negatives come from, and the register that makes samplers choices.

Every step scores the mini-batch's own targets; a sampler adds columns to them, shared by all rows. It is built from the
items' support in the training log, draws many steps at once (they are known before the epoch begins, so drawing happens
beside the training) and says how likely each item was, for the sampling correction.

Drawing is by inversion: a uniform number is looked up in the cumulative distribution in float64, where a million items
still have distinct steps (float32 has 2²⁴ of them and would starve the rare items).
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gru4rec.config import TrainConfig
from inference.errors import UserError, unknown_choice


class Sampler(Protocol):
    """What the trainer asks of a sampler.

    An item of the catalogue may have no support: one that only the model knows which the training begins with.

    Attributes:
        n_sample: additional columns per step.
        every_item: True when every item of the catalogue is scored in every step, so that nothing is drawn.
        log_weight: float32 [N], logarithm of each item's unnormalised chance of being drawn.
    """

    n_sample: int
    every_item: bool
    log_weight: np.ndarray

    def draw(self, steps: int, generator: np.random.Generator) -> np.ndarray:
        """Item numbers of the additional negatives of consecutive steps, int32 [steps, n_sample]."""
        ...


class PopularitySampler:
    """Independent draws with replacement, in proportion to support ** alpha.

    Args:
        support: int64 [N], events per item in the training log. Items without any are drawn with alpha 0 only.
        n_sample: additional negatives per step; 0 draws none, which leaves the in-batch negatives.
        sample_alpha: 0 draws uniformly, 1 by popularity.
    """

    every_item = False

    def __init__(self, support: np.ndarray, *, n_sample: int, sample_alpha: float):
        self.n_sample = n_sample
        absent = -np.inf if sample_alpha else 0.0
        log_weight = np.where(support > 0, sample_alpha * np.log(np.maximum(support, 1.0)), absent)
        self.log_weight = log_weight.astype(np.float32)
        cumulative = np.cumsum(np.exp(log_weight - log_weight.max()))
        self._cumulative = cumulative / cumulative[-1]
        # [0, 1) in a power of two of equal parts, and the first item that a number in each part can mean
        self._n_parts = 1 << (4 * len(support) - 1).bit_length()
        starts = np.arange(self._n_parts) / self._n_parts
        self._first = np.searchsorted(self._cumulative, starts, side="right").astype(np.int32)

    def draw(self, steps: int, generator: np.random.Generator) -> np.ndarray:
        uniform = generator.random((steps, self.n_sample))
        return self._items(uniform.reshape(-1)).reshape(uniform.shape)

    def _items(self, uniform: np.ndarray) -> np.ndarray:
        """The items [n] that random numbers in [0, 1) mean: how many entries of the cumulative share are ≤ each.

        Found by a look at where a number's part of [0, 1) begins and a few steps on, rather than by halving.
        """
        items = self._first[(uniform * self._n_parts).astype(np.int32)]
        behind = np.flatnonzero(self._cumulative[items] <= uniform)
        while len(behind):
            items[behind] += 1
            behind = behind[self._cumulative[items[behind]] <= uniform[behind]]
        return items


class FullSampler:
    """No sampling: every item is a column of every step."""

    every_item = True
    n_sample = 0

    def __init__(self, support: np.ndarray):
        self.log_weight = np.zeros(len(support), dtype=np.float32)

    def draw(self, steps: int, generator: np.random.Generator) -> np.ndarray:
        return np.empty((steps, 0), dtype=np.int32)


@dataclass(frozen=True)
class SamplerChoice:
    """A registered sampler.

    Attributes:
        name: the choice in flags, files and searches.
        factory: called with the support [N] and keyword options.
        search_ranges: per option, what a search may try: (low, high) for a range, a list for a choice.
    """

    name: str
    factory: Callable[..., Sampler]
    search_ranges: dict[str, Any]

    def build(self, support: np.ndarray, config: TrainConfig) -> Sampler:
        """A sampler for a training log.

        `n_sample` and `sample_alpha` are handed to samplers that have such keyword arguments, `sampler_options` to all.

        Raises:
            UserError: an option does not exist or is missing, or the configuration contradicts the sampler.
        """
        for name in ("n_sample", "sample_alpha"):
            if name in config.sampler_options:
                raise UserError(f"sampler_options: {name} has a key of its own, set that instead")
        parameters = inspect.signature(self.factory).parameters
        options = {name: getattr(config, name) for name in ("n_sample", "sample_alpha") if name in parameters} | dict(
            config.sampler_options
        )
        try:
            inspect.signature(self.factory).bind(support, **options)
        except TypeError as error:
            raise UserError(f"sampler_options: {error} of the sampler {self.name!r}") from None
        sampler = self.factory(support, **options)
        if sampler.every_item and config.logq:
            raise UserError(
                f"logq: the sampler {self.name!r} scores every item, so there is no sampling to correct; set it to 0"
            )
        return sampler


SAMPLERS: dict[str, SamplerChoice] = {}
"""Every registered sampler by name."""


def register_sampler(
    name: str, *, search_ranges: dict[str, Any] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a class (or function) that builds a sampler from the support a choice by name."""

    def register(factory: Callable[..., Any]) -> Callable[..., Any]:
        SAMPLERS[name] = SamplerChoice(name, factory, dict(search_ranges or {}))
        return factory

    return register


def build_sampler(support: np.ndarray, config: TrainConfig) -> Sampler:
    """The sampler that a configuration names, for a log with this support [N].

    Raises:
        UserError: there is none of that name, or its options are wrong.
    """
    if config.sampler not in SAMPLERS:
        raise unknown_choice("sampler", config.sampler, list(SAMPLERS))
    return SAMPLERS[config.sampler].build(support, config)


register_sampler("popularity", search_ranges={"sample_alpha": (0.0, 1.0)})(PopularitySampler)
register_sampler("full")(FullSampler)


@register_sampler("uniform")
def _uniform(support: np.ndarray, *, n_sample: int) -> PopularitySampler:
    return PopularitySampler(support, n_sample=n_sample, sample_alpha=0.0)


@register_sampler("in-batch")
def _in_batch(support: np.ndarray) -> PopularitySampler:
    return PopularitySampler(support, n_sample=0, sample_alpha=0.0)
