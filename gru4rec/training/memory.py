"""How much memory a training run will take, told before it begins, and how much there is.

A run that outgrows its machine is killed without a word, often an hour after it began. What it needs is known before:
the tables grow with the catalogue, the optimiser keeps one to two numbers per parameter, and a step's size is that of
its batch and its negatives. The forecast names these parts; where a run is large it is meant to be right within a
quarter. What is available is the smaller of what the system says and what the control groups around the process leave
(a container's limit), or what is free on the graphics card.
"""

from dataclasses import dataclass

import torch

from gru4rec.config.train_config import WHOLE_SESSION, TrainConfig
from gru4rec.data.sessions import EncodedLog
from gru4rec.model.device import available, choose_device, resident
from gru4rec.training.plugins import import_plugins, plugin_failures
from gru4rec.training.samplers import get_sampler
from gru4rec.training.session_parallel.steps import INDICES_PER_BLOCK
from gru4rec.training.whole_session.batching import STEPS_PER_BLOCK
from gru4rec.training.whole_session.chunked_loss import SCORES_PER_CHUNK
from inference.shared.errors import UserError

GIB = 1 << 30
LARGE = GIB
FLOAT, INDEX = 4, 8
COPIES_OF_INDICES = 12  # items, repeats and where these belong, for the block that runs and the one being prepared
COPIES_OF_SCORES = 8  # passes of a loss and its gradient
COPIES_OF_ROWS = 8  # gathered rows, their gradients, optimiser states, and the same merged
COPIES_OF_STATES = 24  # 3 gates, their gradients, and copies
COPIES_OF_TABLE = 3  # the same where every item is a column: nothing is gathered
BYTES_PER_ITEM = 64  # weights of the negatives and the tables of places and parts
BYTES_PER_SESSION = 64


@dataclass(frozen=True)
class Forecast:
    """What a run will take, in bytes, beyond what the process holds already.

    Attributes:
        parameters: tables and GRU weights.
        optimiser: its state.
        steps: negatives, batches prepared ahead, and a step's intermediate results.
        validation: ranking all items; 0 where nothing is validated.
        held: the log, and the program itself: in memory already when the forecast is made.
        device: where parameters, optimiser and steps will be.
    """

    parameters: int
    optimiser: int
    steps: int
    validation: int
    held: int
    device: torch.device

    @property
    def needed(self) -> int:
        """Bytes on the device beyond those held: the highest point of the run."""
        return self.parameters + self.optimiser + max(self.steps, self.validation)

    @property
    def peak(self) -> int:
        """Bytes of the process at its highest, if it trains on the CPU."""
        return self.held + self.needed

    @property
    def is_large(self) -> bool:
        """Whether it is worth a word before the run."""
        return self.needed >= LARGE

    def __str__(self) -> str:
        parts = {
            "parameters": self.parameters,
            "optimiser": self.optimiser,
            "steps": self.steps,
            "validation": self.validation,
        }
        listed = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts.items() if size)
        return f"about {self.needed / GIB:.1f} GiB on {self.device} ({listed})"


def forecast(log: EncodedLog, config: TrainConfig, *, validates: bool = False) -> Forecast:
    """What training on a log will take; call it when the log has been read.

    Args:
        log: the training log.
        config: the run's choices.
        validates: whether epochs are validated.

    Raises:
        UserError: the configuration names a plug-in or a sampler that does not exist, or one that cannot be built.
    """
    import_plugins(config)
    N, H = len(log.vocabulary), config.layers[-1]
    width = {"constrained": 0, "separate": config.embedding, "one-hot": 3 * config.layers[0]}[config.embedding_mode]
    dense, width_in = 0, width or H
    for number, units in enumerate(config.layers):
        looked_up = config.embedding_mode == "one-hot" and number == 0
        dense += 3 * units * ((0 if looked_up else width_in) + units + 2)
        width_in = units
    parameters = FLOAT * (N * (H + 1 + width) + dense)
    slots = 2 if config.optimizer == "adamw" or config.momentum else 1
    whole = config.batching == WHOLE_SESSION
    rows = config.batch_size
    with plugin_failures(config.plugins):
        drawn = get_sampler(config.sampler).n_drawn(log.support, config)
    every_item = drawn is None
    # whole sessions without samples have the step's own targets as negatives
    columns = rows + (N if drawn is None else drawn or (rows if whole else 0))
    scores = min(rows * columns, max(SCORES_PER_CHUNK, 8 * columns)) if whole else rows * columns
    indices = max(INDICES_PER_BLOCK, columns + rows) if not whole else STEPS_PER_BLOCK * (columns + rows)
    steps = FLOAT * (
        COPIES_OF_SCORES * scores
        + (COPIES_OF_TABLE if every_item and not whole else COPIES_OF_ROWS) * columns * max(H, width)
        + COPIES_OF_STATES * rows * sum(config.layers)
        + 3 * dense
    )
    steps += COPIES_OF_INDICES * INDEX * indices + BYTES_PER_ITEM * N + BYTES_PER_SESSION * log.sessions.n_sessions
    normalised = FLOAT * N * H if config.score == "cosine" else 0
    return Forecast(
        parameters=parameters,
        optimiser=slots * parameters,
        steps=steps,
        validation=normalised + (1 << 26) if validates else 0,
        held=resident(),
        device=choose_device(config.device),
    )


def check(expected: Forecast, free: int | None = None) -> None:
    """Refuse a run that cannot fit.

    Args:
        expected: of the run.
        free: bytes available to it; by default what is there now.

    Raises:
        UserError: it needs more than is available.
    """
    free = available(expected.device) if free is None else free
    if free is not None and expected.needed > free:
        raise UserError(
            f"training needs {expected}, and {free / GIB:.1f} GiB are available; take fewer units or items, "
            "a smaller batch_size or n_sample, adagrad without momentum, or a machine with more memory"
        )


def how_many_fit(expected: Forecast, free: int | None = None) -> int | None:
    """How many runs of that size fit at once, each with its own program and log; None where that is not known.

    Args:
        expected: of one run.
        free: bytes available to all of them; by default what is there now.
    """
    free = available(expected.device) if free is None else free
    each = expected.peak if expected.device.type == "cpu" else expected.needed
    return None if free is None else free // max(1, each)
