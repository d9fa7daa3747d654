"""What both kinds of mini-batches train: the network, with its loss, its negatives and its update rule.

`session_parallel` and `whole_session` decide which clicks are in a step and run the GRU on them. Everything that is the
same for both is here, once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
    """A network and everything that trains it.

    Attributes:
        config: the run's choices.
        network, optimiser, sampler: the parameters, their update rule, the source of negatives.
        loss, loss_options: the loss and the options chosen for it.
        dropout: the random numbers of dropout, restarted in every epoch.
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

    def drop_numbers(self, n_rows: int) -> list[Tensor | None]:
        """The random numbers that decide which values of a step are dropped.

        Returns:
            int16, for the embedded inputs [n_rows, E], and then for the output of each layer [n_rows, H]; None for no
            dropout.
        """
        widths = [self.network.input_table.shape[1], *self.network.widths]
        shares = [self.config.dropout_p_embed, *[self.config.dropout_p_hidden] * len(self.network.widths)]
        return [
            self.dropout.draw(n_rows, width) if share else None for width, share in zip(widths, shares, strict=True)
        ]
