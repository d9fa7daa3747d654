"""The source of a step's additional negatives, and the registry that makes samplers choices.

Every step scores the mini-batch's own targets; a sampler adds columns shared by all rows. It is built from the items'
support in the training log, draws for many steps at once (in the background, since nothing depends on the training) and
says how likely each item was, for the sampling correction.

Drawing is by inversion: a uniform number is looked up in the cumulative distribution. That is float64, in which a
million items still have distinct steps; float32 has 2²⁴ of them and would starve rare items.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gru4rec.config.train_config import TrainConfig
from inference.shared.errors import UserError, unknown_choice


class Sampler(Protocol):
    """The interface of a sampler.

    An item may have no support: with a warm start, the catalogue contains the earlier model's items, too.

    Attributes:
        n_sample: additional columns per step.
        every_item: True if every step scores every item of the catalogue, so that nothing is drawn.
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
        support: int64 [N], events per item in the training log. Items without support are drawn only with alpha 0.
        n_sample: additional negatives per step; 0 leaves only the in-batch negatives.
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
        # [0, 1) in equal parts, a power of two of them, and the first item that a number in each part can select
        self._n_parts = 1 << (4 * len(support) - 1).bit_length()
        starts = np.arange(self._n_parts) / self._n_parts
        self._first = np.searchsorted(self._cumulative, starts, side="right").astype(np.int32)

    def draw(self, steps: int, generator: np.random.Generator) -> np.ndarray:
        uniform = generator.random((steps, self.n_sample))
        return self._items(uniform.reshape(-1)).reshape(uniform.shape)

    def _items(self, uniform: np.ndarray) -> np.ndarray:
        """The items [n] that random numbers in [0, 1) select: how many entries of the cumulative share are ≤ each.

        Starts at the first item of the number's part of [0, 1) and moves a few items up: faster than bisection.
        """
        items = self._first[(uniform * self._n_parts).astype(np.int32)]
        below = np.flatnonzero(self._cumulative[items] <= uniform)
        while len(below):
            items[below] += 1
            below = below[self._cumulative[items[below]] <= uniform[below]]
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
        search_ranges: per option, what a search tries: (low, high) for a range, a list for a choice.
    """

    name: str
    factory: Callable[..., Sampler]
    search_ranges: dict[str, Any]

    def build(self, support: np.ndarray, config: TrainConfig) -> Sampler:
        """A sampler for a training log.

        Samplers with keyword arguments `n_sample` or `sample_alpha` get those; all get `sampler_options`.

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
        self._check(sampler, len(support))
        if sampler.every_item and config.logq:
            raise UserError(
                f"logq: the sampler {self.name!r} scores every item, so there is no sampling to correct; set it to 0"
            )
        return sampler

    def _check(self, sampler: Sampler, n_items: int) -> None:
        """Refuse an object without the interface of a sampler."""
        for name in ("n_sample", "every_item", "log_weight", "draw"):
            if not hasattr(sampler, name):
                raise UserError(f"sampler: expected {self.name!r} to have {name}, which it lacks")
        n_sample, every_item, log_weight = sampler.n_sample, sampler.every_item, sampler.log_weight
        if not isinstance(n_sample, (int, np.integer)) or n_sample < 0 or (every_item and n_sample):
            expected = "0, as it scores every item" if every_item else "a whole number of at least 0"
            raise UserError(f"sampler: expected the n_sample of {self.name!r} to be {expected}, got {n_sample!r}")
        is_array = isinstance(log_weight, np.ndarray) and np.issubdtype(log_weight.dtype, np.floating)
        if not is_array or log_weight.shape != (n_items,):
            expected, found = f"float32 of shape ({n_items},)", _describe_array(log_weight)
        elif np.isnan(log_weight).any() or not np.isfinite(log_weight.max()):
            expected, found = "logarithms of chances", "NaN or infinity"
        else:
            return
        raise UserError(f"sampler: expected the log_weight of {self.name!r} to be {expected}, got {found}")


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


def get_sampler(name: str) -> SamplerChoice:
    """The registered sampler of that name.

    Raises:
        UserError: there is none; the message lists those that exist.
    """
    if name not in SAMPLERS:
        raise unknown_choice("sampler", name, list(SAMPLERS))
    return SAMPLERS[name]


def build_sampler(support: np.ndarray, config: TrainConfig) -> Sampler:
    """The sampler that a configuration names, for a log with this support [N].

    Raises:
        UserError: there is no such sampler, or its options are wrong.
    """
    return get_sampler(config.sampler).build(support, config)


def draw(sampler: Sampler, steps: int, generator: np.random.Generator, n_items: int) -> np.ndarray:
    """The additional negatives of consecutive steps, item numbers [steps, n_sample], checked.

    Raises:
        UserError: the sampler draws something else.
    """
    drawn = sampler.draw(steps, generator)
    shape = (steps, sampler.n_sample)
    if not isinstance(drawn, np.ndarray) or drawn.shape != shape or not np.issubdtype(drawn.dtype, np.integer):
        raise UserError(f"sampler: expected draw to give int32 of shape {shape}, got {_describe_array(drawn)}")
    if drawn.size and (drawn.min() < 0 or drawn.max() >= n_items):
        raise UserError(
            f"sampler: expected draw to give item numbers from 0 to {n_items - 1}, got {drawn.min()} to {drawn.max()}"
        )
    return drawn


def _describe_array(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return type(value).__name__


register_sampler("popularity")(PopularitySampler)
register_sampler("full")(FullSampler)


@register_sampler("uniform")
def _uniform(support: np.ndarray, *, n_sample: int) -> PopularitySampler:
    return PopularitySampler(support, n_sample=n_sample, sample_alpha=0.0)


@register_sampler("in-batch")
def _in_batch(support: np.ndarray) -> PopularitySampler:
    return PopularitySampler(support, n_sample=0, sample_alpha=0.0)
