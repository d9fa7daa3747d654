"""The tensors of a block of training steps, prepared beside the training.

The schedule says which clicks meet in a step, the sampler which other items are scored there. Both are known before the
step runs, so they are turned, block by block, into the index tensors that the steps need, one copy to the device per
block, on a background thread where a core is free for it. Random numbers are derived from (seed, epoch,
block): nothing has to be carried or saved to continue a run exactly.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gru4rec import kernels
from gru4rec.training.prefetch import ahead, moved
from gru4rec.training.samplers import Sampler, draw
from gru4rec.training.session_parallel.schedule import Block, SessionParallelSchedule
from gru4rec.training.sparse_rows import FirstOccurrence, Rows, described, different, rows_from

INDICES_PER_BLOCK = 1 << 19  # about 4 MiB of row numbers per block


@dataclass(frozen=True)
class Step:
    """One mini-batch of B rows and C scored columns.

    Attributes:
        number: of the step within the epoch.
        carry: float32 [B, 1], 0 where a session begins (its state is zeroed), 1 elsewhere.
        survivors: int64 [B], the rows of the previous step whose lanes are still walking; None where all are.
        inputs: the rows of the input table.
        columns: the rows of the output table: the B targets, then the additional negatives.
        both: columns and inputs as rows of the one table of a constrained network, None otherwise.
        targets: int64 [B].
    """

    number: int
    carry: Tensor
    survivors: Tensor | None
    inputs: Rows
    columns: Rows
    both: Rows | None
    targets: Tensor


class StepPreparation:
    """Turns an epoch into steps.

    Args:
        schedule: which clicks meet in which step.
        sampler: source of the additional negatives.
        n_items: size of the catalogue.
        constrained: whether inputs and columns are rows of one table.
        seed: of the run.
        device: where the tensors are needed.
    """

    def __init__(
        self,
        schedule: SessionParallelSchedule,
        sampler: Sampler,
        n_items: int,
        *,
        constrained: bool,
        seed: int,
        device: torch.device,
    ):
        self._schedule = schedule
        self._sampler = sampler
        self._constrained = constrained
        self._seed = seed
        self._device = device
        self._fixed = not kernels.serve(device)
        self._n_items = n_items
        self._first_occurrence = FirstOccurrence(n_items)
        per_step = 2 * schedule.batch_size + sampler.n_sample
        self._steps_per_block = max(1, min(1024, INDICES_PER_BLOCK // per_step))

    def steps(self, epoch: int) -> Iterator[Step]:
        """The steps of one epoch (numbered from 0), in order."""
        return itertools.chain.from_iterable(ahead(self._blocks(epoch), self._device))

    def _blocks(self, epoch: int) -> Iterator[Callable[[], list[Step]]]:
        lanes = np.empty(0, dtype=np.int32)
        for number, block in enumerate(self._schedule.blocks(self._steps_per_block)):
            yield functools.partial(self._prepare, epoch, number, block, lanes)
            lanes = block.lanes[block.bounds[-2] :]

    def _prepare(self, epoch: int, number: int, block: Block, lanes_before: np.ndarray) -> list[Step]:
        generator = np.random.default_rng([self._seed, epoch, number])
        negatives = draw(self._sampler, block.n_steps, generator, self._n_items)
        pieces: list[np.ndarray] = []
        layout: list[tuple[int, int]] = []
        for step in range(block.n_steps):
            rows = slice(block.bounds[step], block.bounds[step + 1])
            targets, inputs, lanes = block.targets[rows], block.inputs[rows], block.lanes[rows]
            survivors = np.searchsorted(lanes_before, lanes) if len(lanes) < len(lanes_before) else lanes[:0]
            lanes_before = lanes
            items = np.concatenate([targets, negatives[step], inputs])
            n_columns = len(items) - len(inputs)
            pieces += [items, survivors]
            if self._constrained:
                first = self._first_occurrence(items)
                pieces += described(first, fixed=self._fixed)
                # Columns come first, so an item's first occurrence among them is its first occurrence overall.
                pieces += described(first[:n_columns], fixed=self._fixed)
            else:
                pieces += described(self._first_occurrence(items[:n_columns]), fixed=self._fixed)
                pieces += described(self._first_occurrence(items[n_columns:]), fixed=self._fixed)
            layout.append((len(inputs), n_columns))
        carry = torch.from_numpy(~block.starts).to(self._device, torch.float32).unsqueeze(1)
        return self._steps(block, moved(pieces, self._device), carry, layout)

    def _steps(
        self, block: Block, pieces: Iterator[Tensor], carry: Tensor, layout: list[tuple[int, int]]
    ) -> list[Step]:
        steps = []
        for step, (n_rows, n_columns) in enumerate(layout):
            items, survivors = next(pieces), next(pieces)
            both = rows_from(items, pieces, fixed=self._fixed) if self._constrained else None
            columns = rows_from(items[:n_columns], pieces, fixed=self._fixed)
            inputs = items[n_columns:]
            steps.append(
                Step(
                    number=block.first_step + step,
                    carry=carry[block.bounds[step] : block.bounds[step + 1]],
                    survivors=survivors if len(survivors) else None,
                    inputs=different(inputs) if self._constrained else rows_from(inputs, pieces, fixed=self._fixed),
                    columns=columns,
                    both=both,
                    targets=items[:n_rows],
                )
            )
        return steps
