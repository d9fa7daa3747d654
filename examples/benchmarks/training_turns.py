"""Measure one turn of a comparison of training speeds, in a process of its own."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import official_code

from gru4rec.config.train_config import TrainConfig
from inference.shared.errors import UserError


class Enough(Exception):  # noqa: N818 - not an error
    """Ends the training when enough steps are timed."""


@dataclass(frozen=True)
class Turn:
    """The measurements of one process.

    Attributes:
        events, steps, seconds: of the timed steps.
        until_first_step: seconds from the start of the loading until the first step.
        warm_up: seconds of the steps that were run before the timing began.
        drawing: seconds per step of drawing negatives that `seconds` does not contain.
        threads: of torch.
    """

    events: int
    steps: int
    seconds: float
    until_first_step: float
    warm_up: float
    drawing: float
    threads: int

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds

    @property
    def rate_with_drawing(self) -> float:
        """Events per second, including the drawing of negatives."""
        return self.events / (self.seconds + self.steps * self.drawing)


STEPS_PER_SYNCHRONIZATION = 20
"""On a GPU, so many steps are timed together, since they run asynchronously and waiting for each costs time."""


class Stopwatch:
    """Adds up the time of whole steps after a warm-up, and ends the training when it is enough.

    Args:
        warm_up: steps before the timing begins.
        seconds: of timed steps that are enough.
        steps: timed steps that are enough; None counts only the seconds.
        device: where the steps run.
    """

    def __init__(self, warm_up: int, seconds: float, steps: int | None, device: str = "cpu"):
        self._device = device
        self._pending_steps = self._pending_events = 0
        self._all_count = True
        self._warm_up, self._enough_seconds, self._enough_steps = warm_up, seconds, steps
        self.created = self._last = time.perf_counter()
        self._pause = 0.0
        self._first: float | None = None
        self.until_first_step = self.warm_up = self.seconds = 0.0
        self.steps = self.events = 0
        self._seen = 0

    def subtract(self, seconds: float) -> None:
        """Do not count that part of the current step."""
        self._pause += seconds

    def add(self, n_steps: int, n_events: int, counts: bool) -> None:
        """Add the steps since the last call, and whether they count."""
        self._pending_steps += n_steps
        self._pending_events += n_events
        self._all_count &= counts
        if self._device != "cpu":
            if self._pending_steps < STEPS_PER_SYNCHRONIZATION and self._first is not None:
                return
            import torch

            torch.cuda.synchronize(self._device)
        n_steps, n_events, counts = self._pending_steps, self._pending_events, self._all_count
        self._pending_steps, self._pending_events, self._all_count = 0, 0, True
        now = time.perf_counter()
        if self._first is None:
            self._first, self.until_first_step = now, now - self.created
        elif self._seen >= self._warm_up and counts:
            self.seconds += now - self._last - self._pause
            self.steps += n_steps
            self.events += n_events
        elif self._seen < self._warm_up:
            self.warm_up = now - self._first
        self._seen += n_steps
        self._last, self._pause = now, 0.0
        enough = (
            self.seconds >= self._enough_seconds if self._enough_steps is None else self.steps >= self._enough_steps
        )
        if enough:
            raise Enough

    def finish(self, drawing: float) -> Turn:
        """The measurements."""
        import torch

        return Turn(
            self.events,
            self.steps,
            self.seconds,
            self.until_first_step,
            self.warm_up,
            drawing,
            torch.get_num_threads(),
        )


def time_official(
    directory: Path, data: Path, parameters: dict[str, Any], stopwatch: Stopwatch, device: str = "cpu"
) -> Turn:
    """Train with the official code."""
    official = official_code.load(directory)
    clicks = official_code.read_clicks(data)
    model = official.model(parameters, device=device)
    cache_type, drawings, steps_per_drawing = official.training.SampleCache, [0.0], [1]
    refresh = cache_type._refresh

    def timed_refresh(cache: Any) -> None:
        start = time.perf_counter()
        refresh(cache)
        drawings.append(time.perf_counter() - start)
        steps_per_drawing.append(max(1, cache.generate_length))
        stopwatch.subtract(drawings[-1])

    cache_type._refresh = timed_refresh
    before = 0

    def on_step(n_rows: int) -> None:  # the time since the last call is mostly that of the previous step
        nonlocal before
        stopwatch.add(1, before, n_rows == before == model.batch_size)
        before = n_rows

    while True:  # an epoch may end before enough steps are timed
        try:
            official.train(model, clicks, on_step)
        except Enough:
            return stopwatch.finish(drawings[-1] / steps_per_drawing[-1])


def time_ours(data: Path, config: TrainConfig, stopwatch: Stopwatch) -> Turn:
    """Train with ours."""
    from gru4rec.data.encoded_log import read_training_log
    from gru4rec.training.plugins import import_plugins
    from gru4rec.training.session_parallel.schedule import SessionParallelSchedule
    from gru4rec.training.trainer import Trainer

    log = read_training_log(data)
    import_plugins(config.plugins)
    trainer = Trainer(config, log)
    n_full = count_full_steps(SessionParallelSchedule(log.sessions, config.batch_size))
    done_before = 0

    def on_step_end(done: int) -> None:
        nonlocal done_before
        n_steps = done - done_before if done > done_before else done
        stopwatch.add(n_steps, n_steps * config.batch_size, done_before < done <= n_full and done_before > 0)
        done_before = done

    while True:
        try:
            trainer.run_epoch(on_step_end)
        except Enough:
            return stopwatch.finish(0.0)


def count_full_steps(schedule: Any) -> int:
    """Steps of an epoch, from its first, in which every slot is in use.

    Raises:
        UserError: there are none.
    """
    n_full = 0
    for block in schedule.blocks(1024):
        narrow = np.flatnonzero(np.diff(block.bounds) < schedule.batch_size)
        if len(narrow):
            n_full += int(narrow[0])
            break
        n_full += block.n_steps
    if n_full < 2:
        raise UserError(f"the log is too short to fill {schedule.batch_size} slots; give a larger one")
    return n_full


def time_products(config: TrainConfig, seconds: float) -> dict[str, float]:
    """Seconds of a step's matrix products, by precision."""
    import matrix_products
    import torch

    types = {"fp32": torch.float32, "bf16": torch.bfloat16}
    return {name: matrix_products.time_products(config, dtype, at_least=seconds / 4) for name, dtype in types.items()}
