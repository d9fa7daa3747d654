"""The items that can be recommended: all but some, or only some.

The graph itself excludes items after it has scored all of them. With a list of allowed items that would waste work: the
weights of these items are read from the model file once, and the graph only computes the sessions' states. For 5,000 of
400,000 items this is many times faster.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from inference.model.artifact import Artifact
from inference.shared.errors import UserError
from inference.shared.vocabulary import MISSING


@dataclass(frozen=True)
class Allowed:
    """The only items that are recommended, with their weights.

    Args:
        numbers: int64 [M], ascending.
        weight: float32 [M, last width], their output weights.
        bias: float32 [M], their output biases.
    """

    numbers: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    def rank(
        self, state: np.ndarray, k: int, seen: list[np.ndarray], recent: np.ndarray, bonus: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best k of these items for each session.

        Args:
            state: float32 [batch, last width], `Artifact.query`.
            k: how many; all if fewer are allowed.
            seen: excluded numbers of each session.
            recent: int64 [batch, K], the items of each session's last clicks, -1 for none.
            bonus: float32 [batch, K], added to their scores.

        Returns:
            ids int64 and scores float32, both [batch, min(k, M)], best first, ties by number; the score of excluded
            items is minus infinity.
        """
        k = min(k, len(self.numbers))
        if not k:  # all of them are excluded
            return np.empty((len(state), 0), np.int64), np.empty((len(state), 0), np.float32)
        scores = state @ self.weight.T + self.bias  # (batch, M)
        places = np.searchsorted(self.numbers, recent).clip(max=len(self.numbers) - 1)
        rows, clicks = np.nonzero(self.numbers[places] == recent)
        np.add.at(scores, (rows, places[rows, clicks]), bonus[rows, clicks])
        for row, excluded in enumerate(seen):
            scores[row, np.isin(self.numbers, excluded, assume_unique=True)] = -np.inf
        last = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]  # (batch, 1): each row's k-th best score
        rows, places = np.nonzero(scores >= last)  # k of each row, and ties with the last of them
        order = np.lexsort((places, -scores[rows, places], rows))
        starts = np.searchsorted(rows, np.arange(len(scores)))
        best = places[order][starts[:, None] + np.arange(k)]  # (batch, k)
        return self.numbers[best], np.take_along_axis(scores, best, axis=1)


@dataclass(frozen=True)
class Candidates:
    """The items that can be recommended to every session.

    Args:
        excluded: int64, ascending; numbers of excluded items. Empty if `allowed` is given.
        allowed: only these items are recommended; None for all but the excluded.
    """

    excluded: np.ndarray
    allowed: Allowed | None

    @classmethod
    def of(cls, artifact: Artifact, exclude: Iterable[str], allow: Iterable[str] | None) -> "Candidates":
        """Look up the items of both lists; ids that the model does not know have no effect.

        Args:
            artifact: the model.
            exclude: ids that are never recommended.
            allow: only these ids are recommended; None for all.

        Raises:
            UserError: the model knows none of the allowed items.
        """
        excluded = _find_known(artifact, exclude)
        if allow is None:
            return cls(excluded, None)
        numbers = _find_known(artifact, allow)
        if not len(numbers):
            raise UserError("expected allowed items that the model knows, got none; ids must be as in the training log")
        numbers = np.setdiff1d(numbers, excluded, assume_unique=True)
        allowed = Allowed(numbers, artifact.output_weight()[numbers], artifact.output_bias()[numbers])
        return cls(excluded[:0], allowed)


def _find_known(artifact: Artifact, ids: Iterable[str]) -> np.ndarray:
    if isinstance(ids, str):
        raise UserError(f"expected a list of item ids, got the text {ids!r}")
    numbers = artifact.vocabulary.numbers(list(ids))
    return np.unique(numbers[numbers != MISSING])
