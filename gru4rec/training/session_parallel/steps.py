"""The tensors of a block of training steps, prepared while the previous block is trained on.

The schedule says which clicks are in a step, the sampler which other items are scored there. Both are known before the
step runs. So they are turned, block by block, into the index tensors that the steps need, with one copy to the device
per block, on a background thread if a core is free for it. Random numbers are derived from (seed, epoch, block):
nothing has to be carried or saved to resume a run exactly.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gru4rec import kernels
from gru4rec.config.train_config import TrainConfig
from gru4rec.training.prefetch import prefetch, to_device
from gru4rec.training.samplers import Sampler, draw
from gru4rec.training.session_parallel.schedule import Block, SessionParallelSchedule
from gru4rec.training.sparse_rows import RowPacking, StepRows

INDICES_PER_BLOCK = 1 << 19  # about 4 MiB of row numbers per block


@dataclass(frozen=True)
class Step:
    """One mini-batch of B rows and C scored columns.

    Attributes:
        number: of the step within the epoch.
        carry: float32 [B, 1], 0 where a session begins (its state is zeroed), 1 elsewhere.
        survivors: int64 [B], the rows of the previous step whose slots are still in use; None if all are.
        rows: those of the tables; the columns are the B targets, then the additional negatives.
        targets: int64 [B].
    """

    number: int
    carry: Tensor
    survivors: Tensor | None
    rows: StepRows
    targets: Tensor


class StepPreparation:
    """Turns an epoch into steps.

    Args:
        schedule: which clicks are in which step.
        sampler: source of the additional negatives.
        n_items: size of the catalogue.
        config: the run's choices.
        device: where the tensors are needed.
    """

    def __init__(
        self,
        schedule: SessionParallelSchedule,
        sampler: Sampler,
        n_items: int,
        config: TrainConfig,
        device: torch.device,
    ):
        self._schedule = schedule
        self._sampler = sampler
        self._seed = config.seed
        self._device = device
        self._n_items = n_items
        constrained = config.embedding_mode == "constrained"
        self._packing = RowPacking(n_items, constrained=constrained, fixed=not kernels.runs_on(device))
        per_step = 2 * schedule.batch_size + sampler.n_sample
        self._steps_per_block = max(1, min(1024, INDICES_PER_BLOCK // per_step))

    def steps(self, epoch: int) -> Iterator[Step]:
        """The steps of one epoch (numbered from 0), in order."""
        return itertools.chain.from_iterable(prefetch(self._blocks(epoch), self._device))

    def _blocks(self, epoch: int) -> Iterator[Callable[[], list[Step]]]:
        slots = np.empty(0, dtype=np.int32)
        for number, block in enumerate(self._schedule.blocks(self._steps_per_block)):
            yield functools.partial(self._prepare, epoch, number, block, slots)
            slots = block.slots[block.bounds[-2] :]

    def _prepare(self, epoch: int, number: int, block: Block, slots_before: np.ndarray) -> list[Step]:
        generator = np.random.default_rng([self._seed, epoch, number])
        negatives = draw(self._sampler, block.n_steps, generator, self._n_items)
        pieces: list[np.ndarray] = []
        for step in range(block.n_steps):
            rows = slice(block.bounds[step], block.bounds[step + 1])
            targets, inputs, slots = block.targets[rows], block.inputs[rows], block.slots[rows]
            survivors = np.searchsorted(slots_before, slots) if len(slots) < len(slots_before) else slots[:0]
            slots_before = slots
            pieces += [survivors, *self._packing.pack(np.concatenate([targets, negatives[step]]), inputs)]
        carry = torch.from_numpy(~block.starts).to(self._device, torch.float32).unsqueeze(1)
        tensors = to_device(pieces, self._device)
        return [self._step(block, step, carry, tensors) for step in range(block.n_steps)]

    def _step(self, block: Block, step: int, carry: Tensor, tensors: Iterator[Tensor]) -> Step:
        begin, end = block.bounds[step : step + 2].tolist()
        survivors = next(tensors)
        rows = self._packing.unpack(tensors, end - begin)
        return Step(
            number=block.first_step + step,
            carry=carry[begin:end],
            survivors=survivors if len(survivors) else None,
            rows=rows,
            targets=rows.columns.items[: end - begin],
        )
