"""What both ways of walking a log feed: the network, its loss, its negatives and its update rule.

A way of batching (`session_parallel`, `whole_session`) decides which clicks meet in a step and runs the GRU over them;
everything that is the same in both is here, once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gru4rec.config.train_config import TrainConfig
from gru4rec.model.losses import Loss
from gru4rec.model.network import Network
from gru4rec.model.precision import Precision
from gru4rec.training.dropout import DropNumbers
from gru4rec.training.optimizers import RowOptimiser
from gru4rec.training.samplers import Sampler


@dataclass
class Learner:
    """A network and what changes it.

    Attributes:
        config: the run's choices.
        network, optimiser, sampler: the parameters, their update rule, the source of negatives.
        loss: the loss, and `loss_options` the options chosen for it.
        dropout: the random numbers of dropout, begun anew in every epoch.
        precision: of the matrix products.
    """

    config: TrainConfig
    network: Network
    optimiser: RowOptimiser
    sampler: Sampler
    loss: Loss
    loss_options: Mapping[str, Any]
    dropout: DropNumbers
    precision: Precision

    @property
    def device(self) -> torch.device:
        """Where everything is computed."""
        return self.network.dense.device

    @property
    def product_type(self) -> torch.dtype:
        """The type of what goes into matrix products; all else is float32."""
        return self.precision.product_type

    def seed_dropout(self, epoch: int) -> None:
        """Make the dropout masks of an epoch (numbered from 0) what they always are for this seed."""
        self.dropout.begin(int(np.random.default_rng([self.config.seed, epoch]).integers(1 << 62)))

    def drop_numbers(self, n_rows: int) -> list[Tensor | None]:
        """The random numbers that decide which values of a step are dropped.

        Returns:
            int16, for the embedded inputs [n_rows, E], and then for the output of each layer [n_rows, H]; None where
            nothing is dropped.
        """
        widths = [self.network.input_table.shape[1], *self.network.widths]
        shares = [self.config.dropout_p_embed, *[self.config.dropout_p_hidden] * len(self.network.widths)]
        return [
            self.dropout.draw(n_rows, width) if share else None for width, share in zip(widths, shares, strict=True)
        ]

    def row_losses(self, scores: Tensor, positive: Tensor, excluded: Tensor | None) -> Tensor:
        """The loss per row [B] of scores [B, C]."""
        losses: Tensor = self.loss.function(scores, positive, excluded, **self.loss_options)
        return losses

    def loss_gradient(
        self, scores: Tensor, bias: Tensor, positive: Tensor, scale: float, excluded: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Losses per row [B] and their gradients [B, C]; arguments as of `Loss.gradient`."""
        return self.loss.gradient(self.loss_options, scores, bias, positive, scale, excluded)
