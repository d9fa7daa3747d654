"""Session-parallel mini-batches, laid out before training begins.

Each of `batch_size` slots follows one session, a click per step. When a session ends, its slot takes the next session,
so which click is in which step depends only on the session lengths. The layout is computed once, in two parts:

1. every session gets a slot and a first step (a heap of the slots by the step at which they become free);
2. block by block, the steps' inputs and targets are gathered with array operations. Blocks bound the memory, whatever
   the size of the log.

Nothing is skipped: every consecutive pair of every session is in exactly one step. When no session is left for a slot,
the slot is dropped and the following steps have fewer rows. Source: Hidasi et al., arXiv 1511.06939, figure 2. Unlike
stepping through the slots while training, this costs nothing in the training loop.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gru4rec.data.clicks import expand_ranges
from gru4rec.data.sessions import Sessions


@dataclass(frozen=True)
class Block:
    """Consecutive steps, their rows one after the other (R rows in all).

    Attributes:
        first_step: number of the first step within the epoch.
        bounds: int64 [T + 1]; rows bounds[t]:bounds[t + 1] belong to step first_step + t, in order of their slots.
        inputs: int32 [R], the item clicked.
        targets: int32 [R], the item clicked next.
        starts: bool [R], True where the input is the first click of a session.
        slots: int32 [R].
    """

    first_step: int
    bounds: np.ndarray
    inputs: np.ndarray
    targets: np.ndarray
    starts: np.ndarray
    slots: np.ndarray

    @property
    def n_steps(self) -> int:
        """Number of steps, T."""
        return len(self.bounds) - 1


class SessionParallelSchedule:
    """Which session is in which slot from which step on.

    Args:
        sessions: the training sessions, in the order in which they are taken; sessions of a single click have no
            pair and are skipped.
        batch_size: number of slots.

    Attributes:
        n_steps: steps of an epoch.
        n_sessions: sessions that have a pair to train on.
    """

    def __init__(self, sessions: Sessions, batch_size: int):
        self._sessions = sessions
        self.batch_size = batch_size
        pairs = sessions.lengths - 1
        self._order = np.flatnonzero(pairs > 0)
        self._pairs = pairs[self._order]
        self.n_sessions = len(self._order)
        self._slots, self._first_steps = _assign_slots(self._pairs, batch_size)
        last = self._first_steps + self._pairs
        self.n_steps = int(last.max()) if len(last) else 0

    def blocks(self, steps_per_block: int) -> Iterator[Block]:
        """The epoch's steps in blocks of at most that many."""
        running = np.empty(0, dtype=np.int64)  # sessions that reach into the next block
        taken = 0
        for first in range(0, self.n_steps, steps_per_block):
            last = min(first + steps_per_block, self.n_steps)
            until = int(np.searchsorted(self._first_steps, last, side="left"))
            active = np.concatenate([running, np.arange(taken, until)])
            taken = until
            yield self._block(first, last, active)
            running = active[self._first_steps[active] + self._pairs[active] > last]

    def _block(self, first: int, last: int, active: np.ndarray) -> Block:
        begins = self._first_steps[active]
        start = np.maximum(begins, first)
        count = np.minimum(begins + self._pairs[active], last) - start
        session = np.repeat(np.arange(len(active)), count)
        step = expand_ranges(start, count)
        click = self._sessions.offsets[self._order[active]][session] + step - begins[session]
        slot = self._slots[active][session]

        shape = (last - first, self.batch_size)
        position = np.full(shape, -1, dtype=np.int64)
        position[step - first, slot] = click
        starts = np.zeros(shape, dtype=bool)
        starts[step - first, slot] = step == begins[session]
        live = position >= 0
        clicks = position[live]
        return Block(
            first_step=first,
            bounds=np.concatenate([[0], np.cumsum(live.sum(axis=1))]),
            inputs=self._sessions.items[clicks],
            targets=self._sessions.items[clicks + 1],
            starts=starts[live],
            slots=np.nonzero(live)[1].astype(np.int32),
        )


def _assign_slots(pairs: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Slot and first step of every session, in order; slots that become free together are filled in slot order."""
    free = [(0, slot) for slot in range(min(batch_size, len(pairs)))]
    slots = np.empty(len(pairs), dtype=np.int32)
    first_steps = np.empty(len(pairs), dtype=np.int64)
    for session, length in enumerate(pairs.tolist()):
        step, slot = free[0]
        slots[session], first_steps[session] = slot, step
        heapq.heapreplace(free, (step + length, slot))
    return slots, first_steps
