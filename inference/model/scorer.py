"""Run batches of encoded sessions through the graph.

Long sessions are cut in time and their state is carried over the cut, so that memory does not grow with their length.
If only some items are allowed, the graph computes the states alone and `candidates` scores those items.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from inference.model.artifact import Artifact
from inference.model.candidates import Candidates
from inference.model.format import INPUTS, OUTPUTS
from inference.shared.errors import UserError, one_line

CLICKS_PER_RUN = 1 << 15
"""Clicks of a batch in one run; longer sessions take several."""


class Scorer:
    """A graph ready to run.

    Args:
        artifact: the model file.
        session: an onnxruntime session of its graph.
    """

    def __init__(self, artifact: Artifact, session: Any):
        self._artifact = artifact
        self._session = session

    def zero_state(self, batch: int) -> np.ndarray:
        """The state before the first click, float32 [parts, batch, width]."""
        parts, width = self._artifact.state_shape
        return np.zeros((parts, batch, width), np.float32)

    def rank(
        self,
        sessions: list[np.ndarray],
        hidden: np.ndarray,
        k: int,
        candidates: Candidates,
        seen: list[np.ndarray] | None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Process the clicks of a batch and rank the candidates.

        Args:
            sessions: item numbers of each session, at least one session; sessions may be empty.
            hidden: float32 [parts, batch, width], their states before these clicks.
            k: how many items to rank.
            candidates: the items that can be recommended.
            seen: excluded numbers of each session, or None.

        Returns:
            ids [batch, ≤ k], scores [batch, ≤ k] (minus infinity for excluded items), and the states after the last
            click.

        Raises:
            UserError: onnxruntime cannot compute this, for example for lack of memory.
        """
        allowed = candidates.allowed
        if allowed is None:
            excluded = _join_excluded(candidates.excluded, seen, len(sessions), self._artifact.n_items)
            return self._run_clicks(sessions, hidden, k, excluded)
        _, _, hidden = self._run_clicks(sessions, hidden, 0, np.empty((len(sessions), 0), np.int64))
        ids, scores = allowed.rank(self._artifact.query(hidden), k, seen or [], *self._artifact.recent(hidden))
        return ids, scores, hidden

    def _run_clicks(
        self, sessions: list[np.ndarray], hidden: np.ndarray, k: int, excluded: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        assert sessions  # onnxruntime ends the process on an empty batch
        longest = max(1, *map(len, sessions))
        at_once = max(1, CLICKS_PER_RUN // len(sessions))
        for start in range(0, longest, at_once):
            stop = min(start + at_once, longest)
            pieces = [numbers[start:stop] for numbers in sessions]
            items = _pad(pieces, stop - start, self._artifact.n_items)
            lengths = np.array([len(piece) for piece in pieces], np.int64)
            ranks = np.array([k if stop == longest else 0], np.int64)  # before the last piece the state alone
            inputs = dict(zip(INPUTS, (items, lengths, hidden, excluded, ranks), strict=True))
            try:
                ids, scores, hidden = self._session.run(list(OUTPUTS), inputs)
            except Exception as error:  # onnxruntime raises a class of its own for every status
                raise UserError(
                    f"onnxruntime cannot compute {len(items)} sessions with {self._artifact.path}: {one_line(error)}; "
                    "if memory ran out, try a smaller batch"
                ) from error
        return ids, scores, hidden


def _pad(rows: Sequence[np.ndarray], width: int, sentinel: int) -> np.ndarray:
    """Rows of numbers as one int64 matrix [rows, width], padded with the sentinel."""
    matrix = np.full((len(rows), width), sentinel, np.int64)
    for row, numbers in enumerate(rows):
        matrix[row, : len(numbers)] = numbers
    return matrix


def _join_excluded(excluded: np.ndarray, seen: list[np.ndarray] | None, batch: int, sentinel: int) -> np.ndarray:
    """The excluded items of each session, int64 [batch, width], padded with the sentinel."""
    shared = np.broadcast_to(excluded, (batch, len(excluded)))
    if seen is None:
        return np.ascontiguousarray(shared)
    return np.concatenate([shared, _pad(seen, max(map(len, seen)), sentinel)], axis=1)
