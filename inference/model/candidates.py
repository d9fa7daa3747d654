"""Which items may be recommended: all but some, or only some.

All but some is the work of the graph: it scores every item and bars the excluded ones. Where only some items are
allowed, scoring the others would be wasted: the rows of the allowed items are taken out of the model file once, and
the graph is only asked for the sessions' states. For 5,000 of 400,000 items that is many times faster.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from inference.model.artifact import Artifact
from inference.shared.errors import UserError
from inference.shared.vocabulary import MISSING


@dataclass(frozen=True)
class Allowed:
    """The only items that may be recommended, with what scoring them takes.

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
            state: float32 [batch, last width], what item rows are multiplied with.
            k: how many; where fewer are allowed, all.
            seen: numbers that are barred in each row.
            recent: int64 [batch, K], the items of each session's last clicks, -1 for none.
            bonus: float32 [batch, K], what these score more.

        Returns:
            ids int64 and scores float32, both [batch, min(k, M)], best first, of equal scores the smaller number first;
            barred items have the score minus infinity.
        """
        scores = state @ self.weight.T + self.bias  # (batch, M)
        if len(self.numbers):
            places = np.searchsorted(self.numbers, recent).clip(max=len(self.numbers) - 1)
            rows, clicks = np.nonzero(self.numbers[places] == recent)
            np.add.at(scores, (rows, places[rows, clicks]), bonus[rows, clicks])
        for row, barred in enumerate(seen):
            scores[row, np.isin(self.numbers, barred, assume_unique=True)] = -np.inf
        k = min(k, len(self.numbers))
        if not k:
            return np.empty((len(scores), 0), np.int64), np.empty((len(scores), 0), np.float32)
        last = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]  # (batch, 1): each row's k-th best score
        rows, places = np.nonzero(scores >= last)  # k of each row and what ties with the last of them
        order = np.lexsort((places, -scores[rows, places], rows))
        starts = np.searchsorted(rows, np.arange(len(scores)))
        best = places[order][starts[:, None] + np.arange(k)]  # (batch, k)
        return self.numbers[best], np.take_along_axis(scores, best, axis=1)


@dataclass(frozen=True)
class Candidates:
    """The choice of items that may be recommended to every session.

    Args:
        excluded: int64, ascending; numbers of items that may not. Empty where `allowed` is given.
        allowed: the only ones that may, or None for all but the excluded.
    """

    excluded: np.ndarray
    allowed: Allowed | None

    @classmethod
    def of(cls, artifact: Artifact, exclude: Iterable[str], allow: Iterable[str] | None) -> "Candidates":
        """Prepare a choice.

        Args:
            artifact: the model.
            exclude: ids that are never recommended; those the model does not know have no effect.
            allow: ids that alone may be recommended, or None for every item; those the model does not know have no
                effect.

        Raises:
            UserError: the model knows none of the allowed items.
        """
        excluded = _known(artifact, exclude)
        if allow is None:
            return cls(excluded, None)
        numbers = _known(artifact, allow)
        if not len(numbers):
            raise UserError("expected allowed items that the model knows, got none; ids must be as in the training log")
        numbers = np.setdiff1d(numbers, excluded, assume_unique=True)
        allowed = Allowed(numbers, artifact.output_weight()[numbers], artifact.output_bias()[numbers])
        return cls(excluded[:0], allowed)


def _known(artifact: Artifact, ids: Iterable[str]) -> np.ndarray:
    if isinstance(ids, str):
        raise UserError(f"expected a list of item ids, got the text {ids!r}")
    numbers = artifact.vocabulary.numbers(list(ids))
    return np.unique(numbers[numbers != MISSING])
