"""Batches of numbered sessions through the graph.

Three things are seen to here. An empty batch, which would end the process, never reaches onnxruntime. Long sessions
are cut in time and their state carried over the cut, so that memory does not grow with the length. And where only
some items are allowed, the graph computes the states alone and those items are scored by themselves.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from inference.model.artifact import Artifact
from inference.model.candidates import Candidates
from inference.model.format import INPUTS, OUTPUTS
from inference.shared.errors import UserError, one_line

CLICKS_PER_RUN = 1 << 15
"""Longer sessions are walked in several runs, so that one run takes at most this many clicks of a batch."""


class Scorer:
    """A graph ready to run.

    Args:
        artifact: the opened model file.
        session: an onnxruntime session of its graph.
    """

    def __init__(self, artifact: Artifact, session: Any):
        self._artifact = artifact
        self._session = session

    def zero_state(self, rows: int) -> np.ndarray:
        """The state before the first click, float32 [parts, rows, width]."""
        parts, width = self._artifact.state_shape
        return np.zeros((parts, rows, width), np.float32)

    def rank(
        self,
        rows: list[np.ndarray],
        hidden: np.ndarray,
        k: int,
        candidates: Candidates,
        seen: list[np.ndarray] | None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Walk the clicks of a batch and rank the candidates.

        Args:
            rows: item numbers of each session, at least one session; sessions may be empty.
            hidden: float32 [parts, batch, width], where they start from.
            k: how many items to rank.
            candidates: the items that may be recommended.
            seen: numbers that are barred in each row, or None.

        Returns:
            ids [batch, ≤ k], scores [batch, ≤ k] (minus infinity where an item is barred), and hidden as after the last
            click.

        Raises:
            UserError: onnxruntime cannot compute this, say for lack of memory.
        """
        allowed = candidates.allowed
        if allowed is None:
            excluded = _exclude(candidates.excluded, seen, len(rows), self._artifact.n_items)
            return self._run_clicks(rows, hidden, k, excluded)
        _, _, hidden = self._run_clicks(rows, hidden, 0, np.empty((len(rows), 0), np.int64))
        ids, scores = allowed.rank(self._artifact.query(hidden), k, seen or [], *self._artifact.recent(hidden))
        return ids, scores, hidden

    def _run_clicks(
        self, rows: list[np.ndarray], hidden: np.ndarray, k: int, barred: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        assert rows
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        longest = int(lengths.max())
        clicks = max(1, CLICKS_PER_RUN // len(rows))
        start = 0
        while longest - start > clicks:  # the state alone
            items = _pad([numbers[start : start + clicks] for numbers in rows], clicks, self._artifact.n_items)
            _, _, hidden = self._run_graph(items, np.clip(lengths - start, 0, clicks), hidden, barred[:, :0], 0)
            start += clicks
        items = _pad([numbers[start:] for numbers in rows], max(1, longest - start), self._artifact.n_items)
        return self._run_graph(items, np.maximum(lengths - start, 0), hidden, barred, k)

    def _run_graph(
        self, items: np.ndarray, lengths: np.ndarray, hidden: np.ndarray, barred: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        inputs = dict(zip(INPUTS, (items, lengths, hidden, barred, np.array([k], np.int64)), strict=True))
        try:
            ids, scores, following = self._session.run(list(OUTPUTS), inputs)
        except Exception as error:  # onnxruntime raises a class of its own for every status
            raise UserError(
                f"onnxruntime cannot compute {len(items)} sessions with {self._artifact.path}: {one_line(error)}; "
                "if memory ran out, try a smaller batch"
            ) from error
        return ids, scores, following


def _pad(rows: Sequence[np.ndarray], width: int, sentinel: int) -> np.ndarray:
    """Rows of numbers as one int64 matrix [rows, width], filled up with the sentinel."""
    matrix = np.full((len(rows), width), sentinel, np.int64)
    for row, numbers in enumerate(rows):
        matrix[row, : len(numbers)] = numbers
    return matrix


def _exclude(excluded: np.ndarray, seen: list[np.ndarray] | None, n_rows: int, sentinel: int) -> np.ndarray:
    """What may not be recommended in each row, int64 [rows, width], filled up with the sentinel."""
    shared = np.broadcast_to(excluded, (n_rows, len(excluded)))
    if seen is None:
        return np.ascontiguousarray(shared)
    return np.concatenate([shared, _pad(seen, max(map(len, seen)), sentinel)], axis=1)
