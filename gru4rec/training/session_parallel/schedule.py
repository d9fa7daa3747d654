"""Session-parallel mini-batches, laid out before training begins.

`batch_size` lanes walk one session each, a click per step; a lane whose session ends takes the next unread one, so
which click meets which step depends only on the session lengths. That is worked out once, in two parts:

1. every session gets a lane and a first step (a heap of the lanes by the step at which they become free);
2. block by block, the steps' inputs and targets are gathered with array operations. Blocks bound the memory, whatever
   the size of the log.

Nothing is skipped: every consecutive pair of every session is in exactly one step. When no session is left for a lane,
it is gone and the following steps have fewer rows. Source: Hidasi et al., arXiv 1511.06939, figure 2. Compared with
stepping through the lanes while training, this costs no work in the training loop.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gru4rec.data.clicks import expand_ranges
from gru4rec.data.sessions import Sessions


@dataclass(frozen=True)
class Block:
    """Consecutive steps; the rows of all of them lie behind one another (R rows in all).

    Attributes:
        first_step: number of the first step within the epoch.
        bounds: int64 [T + 1]; rows bounds[t]:bounds[t + 1] belong to step first_step + t, in order of their lanes.
        inputs: int32 [R], the item clicked.
        targets: int32 [R], the item clicked next.
        starts: bool [R], True where the input is the first click of a session.
        lanes: int32 [R].
    """

    first_step: int
    bounds: np.ndarray
    inputs: np.ndarray
    targets: np.ndarray
    starts: np.ndarray
    lanes: np.ndarray

    @property
    def n_steps(self) -> int:
        """Number of steps, T."""
        return len(self.bounds) - 1


class SessionParallelSchedule:
    """Which session walks on which lane from which step on.

    Args:
        sessions: the training sessions, in the order in which they are taken; single clicks have no pair and are
            passed over.
        batch_size: number of lanes.

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
        self._lanes, self._first_steps = _assign_lanes(self._pairs, batch_size)
        last = self._first_steps + self._pairs
        self.n_steps = int(last.max()) if len(last) else 0

    def blocks(self, steps_per_block: int) -> Iterator[Block]:
        """The epoch's steps in blocks of at most that many."""
        running = np.empty(0, dtype=np.int64)  # sessions that reach into the next block
        taken = 0
        for first in range(0, self.n_steps, steps_per_block):
            last = min(first + steps_per_block, self.n_steps)
            until = int(np.searchsorted(self._first_steps, last, side="left"))
            walking = np.concatenate([running, np.arange(taken, until)])
            taken = until
            yield self._block(first, last, walking)
            running = walking[self._first_steps[walking] + self._pairs[walking] > last]

    def _block(self, first: int, last: int, walking: np.ndarray) -> Block:
        begins = self._first_steps[walking]
        start = np.maximum(begins, first)
        count = np.minimum(begins + self._pairs[walking], last) - start
        session = np.repeat(np.arange(len(walking)), count)
        step = expand_ranges(start, count)
        click = self._sessions.offsets[self._order[walking]][session] + step - begins[session]
        lane = self._lanes[walking][session]

        shape = (last - first, self.batch_size)
        position = np.full(shape, -1, dtype=np.int64)
        position[step - first, lane] = click
        starts = np.zeros(shape, dtype=bool)
        starts[step - first, lane] = step == begins[session]
        live = position >= 0
        clicks = position[live]
        return Block(
            first_step=first,
            bounds=np.concatenate([[0], np.cumsum(live.sum(axis=1))]),
            inputs=self._sessions.items[clicks],
            targets=self._sessions.items[clicks + 1],
            starts=starts[live],
            lanes=np.nonzero(live)[1].astype(np.int32),
        )


def _assign_lanes(pairs: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Lane and first step of every session, in order; lanes that become free together are filled in lane order."""
    free = [(0, lane) for lane in range(min(batch_size, len(pairs)))]
    lanes = np.empty(len(pairs), dtype=np.int32)
    first_steps = np.empty(len(pairs), dtype=np.int64)
    for session, length in enumerate(pairs.tolist()):
        step, lane = free[0]
        lanes[session], first_steps[session] = lane, step
        heapq.heapreplace(free, (step + length, lane))
    return lanes, first_steps
