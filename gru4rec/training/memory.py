"""The memory that a training run takes, forecast before it starts.

A run that outgrows its machine is killed without a message, often after an hour. What it needs is known before: tables
grow with the catalogue, the optimiser keeps one or two numbers per parameter, and a step grows with its batch and its
negatives. The forecast of a large run is meant to be right within a quarter.
"""

import math
from dataclasses import dataclass

import torch

from gru4rec.config.train_config import WHOLE_SESSION, TrainConfig
from gru4rec.data.sessions import EncodedLog
from gru4rec.model.device import free_memory, process_memory
from gru4rec.model.network import parameter_shapes
from gru4rec.training.plugins import plugin_errors
from gru4rec.training.samplers import build_sampler
from gru4rec.training.session_parallel.steps import INDICES_PER_BLOCK
from gru4rec.training.whole_session.batching import STEPS_PER_BLOCK
from gru4rec.training.whole_session.chunked_loss import SCORES_PER_CHUNK
from inference.shared.errors import UserError

GIB = 1 << 30
FLOAT, INDEX = 4, 8
COPIES_OF_INDICES = 12  # items, repeats and their places, for the current block and the next one
COPIES_OF_SCORES = 8  # passes of a loss and its gradient
COPIES_OF_ROWS = 8  # gathered rows, their gradients and optimiser states, and the same merged
COPIES_OF_STATES = 24  # 3 gates, their gradients, and copies
COPIES_OF_TABLE = 3  # the same if every item is a column and nothing is gathered
BYTES_PER_ITEM = 64  # weights and lookup tables of the sampler
BYTES_PER_SESSION = 64


@dataclass(frozen=True)
class Forecast:
    """The memory that a run takes, in bytes.

    Attributes:
        parameters: tables and GRU weights.
        optimiser: its state.
        steps: negatives, prefetched batches, and a step's intermediate results.
        validation: ranking all items; 0 without validation.
        resident: the log and the program, which are in memory when the forecast is made.
        device: where parameters, optimiser and steps are.
    """

    parameters: int
    optimiser: int
    steps: int
    validation: int
    resident: int
    device: torch.device

    @property
    def needed(self) -> int:
        """Peak bytes on the device, in addition to the resident ones."""
        return self.parameters + self.optimiser + max(self.steps, self.validation)

    @property
    def peak(self) -> int:
        """Peak bytes of the process, if it trains on the CPU."""
        return self.resident + self.needed

    def __str__(self) -> str:
        parts = {name: getattr(self, name) for name in ("parameters", "optimiser", "steps", "validation")}
        listed = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts.items() if size)
        return f"about {self.needed / GIB:.1f} GiB on {self.device} ({listed})"


def forecast(log: EncodedLog, config: TrainConfig, device: torch.device, *, validates: bool = False) -> Forecast:
    """The memory that training on a log takes; call it when the log has been read and plug-ins are imported.

    Args:
        log: the training log.
        config: the run's choices.
        device: where the run trains.
        validates: whether epochs are validated.

    Raises:
        UserError: the sampler does not exist or cannot be built.
    """
    N, H = len(log.vocabulary), config.layers[-1]
    shapes = parameter_shapes(N, config)
    parameters = FLOAT * sum(map(math.prod, shapes.values()))
    dense = sum(math.prod(shape) for name, shape in shapes.items() if name.startswith("gru."))
    input_width = shapes.get("input_table", (N, 0))[1]
    slots = 2 if config.optimizer == "adamw" or config.momentum else 1
    whole = config.batching == WHOLE_SESSION
    rows = config.batch_size
    with plugin_errors(config.plugins):
        sampler = build_sampler(log.support, config)
    drawn = None if sampler.every_item else sampler.n_sample
    # whole sessions without samples have the step's own targets as negatives
    columns = rows + (N if drawn is None else drawn or (rows if whole else 0))
    scores = min(rows * columns, max(SCORES_PER_CHUNK, 8 * columns)) if whole else rows * columns
    indices = STEPS_PER_BLOCK * (columns + rows) if whole else max(INDICES_PER_BLOCK, columns + rows)
    steps = FLOAT * (
        COPIES_OF_SCORES * scores
        + (COPIES_OF_TABLE if drawn is None and not whole else COPIES_OF_ROWS) * columns * max(H, input_width)
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
        resident=process_memory(),
        device=device,
    )


def check(expected: Forecast, free: int | None = None) -> None:
    """Refuse a run that does not fit.

    Args:
        expected: of the run.
        free: bytes available to it; by default what is available now.

    Raises:
        UserError: it needs more than is available.
    """
    free = free_memory(expected.device) if free is None else free
    if free is not None and expected.needed > free:
        raise UserError(
            f"training needs {expected}, and {free / GIB:.1f} GiB are available; use fewer units or items, "
            "a smaller batch_size or n_sample, adagrad without momentum, or a machine with more memory"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out; for the memory of CPUs torch has only a text, no type."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )
