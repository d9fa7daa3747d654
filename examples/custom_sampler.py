"""A sampler of one's own: mixed negatives, some drawn by popularity, the others from the whole catalogue.

    gru4rec train --train clicks.tsv --out model --plugin examples.custom_sampler --sampler mixed
    python -m tune.search --train clicks.tsv --out search --plugin examples.custom_sampler --sampler mixed,popularity

Run from the folder that holds `examples`, or copy this file beside your data and write `--plugin custom_sampler`. A
search draws `share` from the range that is registered here, unless it is fixed with `--sampler-options.share`.

Negatives by popularity are the hard ones, but a rare item is hardly ever among them, so nothing holds its score down. A
share of uniform draws gives every item its turn in every epoch. Source: Yang et al., Mixed Negative Sampling for
Learning Two-tower Neural Networks in Recommendations, WWW 2020.
"""

import numpy as np

from gru4rec.training.samplers import register_sampler
from inference.shared.errors import UserError


@register_sampler("mixed", search_ranges={"share": (0.0, 1.0)})
class MixedSampler:
    """Independent draws, each uniform with the chance `share`, and else in proportion to support ** sample_alpha."""

    every_item = False  # some are drawn

    def __init__(self, support: np.ndarray, *, n_sample: int, sample_alpha: float, share: float = 0.5):
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            raise UserError(f"sampler_options: share: expected a number from 0 to 1, got {share!r}")
        self.n_sample = n_sample  # draws a step
        popularity = (support > 0) * support.astype(float) ** sample_alpha  # [N]
        chance = (1 - share) * popularity / popularity.sum() + share / len(support)
        with np.errstate(divide="ignore"):  # what is never drawn has minus infinity
            self.log_weight = np.log(chance).astype(np.float32)  # what `--logq` corrects scores by
        self._cumulative = np.cumsum(chance) / np.cumsum(chance)[-1]

    def draw(self, steps: int, generator: np.random.Generator) -> np.ndarray:
        """Item numbers, int32 [steps, n_sample]: random numbers looked up in the cumulative chances."""
        uniform = generator.random((steps, self.n_sample))
        return np.searchsorted(self._cumulative, uniform, side="right").astype(np.int32)
