"""A custom sampler: mixed negatives, some drawn by popularity, the others uniformly from the catalogue.

    gru4rec train --train clicks.tsv --out model --plugin examples.custom_sampler --sampler mixed
    python -m tune.search --train clicks.tsv --out search --plugin examples.custom_sampler --sampler mixed,popularity

Run it from the folder that contains `examples`, or copy this file next to your data and write `--plugin
custom_sampler`. A search draws `share` from the range registered here, unless `--sampler-options.share` fixes it.

Negatives by popularity are the hard ones, but rare items are hardly ever among them, so their scores are never pushed
down. A share of uniform draws reaches every item. Source: Yang et al., Mixed Negative Sampling for Learning Two-tower
Neural Networks in Recommendations, WWW 2020.
"""

import numpy as np

from gru4rec import register_sampler
from inference import UserError


@register_sampler("mixed", search_ranges={"share": (0.0, 1.0)})
class MixedSampler:
    """Independent draws, each uniform with probability `share`, otherwise proportional to support ** sample_alpha."""

    every_item = False  # negatives are drawn, not all items

    def __init__(self, support: np.ndarray, *, n_sample: int, sample_alpha: float, share: float = 0.5):
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            raise UserError(f"sampler_options: share: expected a number from 0 to 1, got {share!r}")
        self.n_sample = n_sample  # draws per step
        popularity = (support > 0) * support.astype(float) ** sample_alpha  # [N]
        chance = (1 - share) * popularity / popularity.sum() + share / len(support)
        with np.errstate(divide="ignore"):  # minus infinity for items that are never drawn
            self.log_weight = np.log(chance).astype(np.float32)  # `--logq` corrects scores by it
        self._cumulative = np.cumsum(chance) / np.cumsum(chance)[-1]

    def draw(self, steps: int, generator: np.random.Generator) -> np.ndarray:
        """Item numbers, int32 [steps, n_sample], by inverting the cumulative distribution."""
        uniform = generator.random((steps, self.n_sample))
        return np.searchsorted(self._cumulative, uniform, side="right").astype(np.int32)
