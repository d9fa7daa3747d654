"""The items that a model knows, and their numbers.

Ids are text, exactly as written in the log ("007" stays "007"). They are sorted by their UTF-8 bytes, and an item's
number is its position in that order. So the vocabulary is one newline-joined text, the same for the same items, and a
look-up is a bisection: a short-lived process builds no dictionary before its first recommendation.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence

import numpy as np

from inference.shared.errors import UserError

MISSING = -1
"""The number given to an item that is not in the vocabulary."""


class Vocabulary:
    """A fixed, sorted set of item ids and their numbers 0 … N-1.

    Args:
        terms: distinct item ids, in any order.

    Raises:
        UserError: an id is empty, holds a line break, or occurs twice.
    """

    def __init__(self, terms: Iterable[str]):
        self._terms = sorted(terms)  # code-point order is UTF-8 byte order
        for term in self._terms:
            if not term or "\n" in term:
                raise UserError(f"expected item ids that are not empty and hold no line break, got {term!r}")
        for left, right in zip(self._terms, self._terms[1:], strict=False):
            if left == right:
                raise UserError(f"expected distinct item ids, got {left!r} twice")

    @classmethod
    def from_text(cls, text: str) -> "Vocabulary":
        """The vocabulary that `to_text` wrote.

        Raises:
            UserError: the lines are not sorted and distinct.
        """
        vocabulary = cls.__new__(cls)
        vocabulary._terms = text.split("\n") if text else []
        terms = vocabulary._terms
        if any(map(str.__ge__, terms, terms[1:])) or (terms and not terms[0]):
            raise UserError("expected a vocabulary of sorted, distinct item ids; the file is damaged")
        return vocabulary

    def to_text(self) -> str:
        """The ids in order, one a line, without a final line break."""
        return "\n".join(self._terms)

    def sha256(self) -> str:
        """The digest of `to_text()` in UTF-8, as 64 hexadecimal digits."""
        return hashlib.sha256(self.to_text().encode()).hexdigest()

    def number(self, term: str) -> int:
        """The number of one item, or `MISSING`."""
        place = bisect_left(self._terms, term)
        return place if place < len(self._terms) and self._terms[place] == term else MISSING

    def numbers(self, terms: Sequence[str | int]) -> np.ndarray:
        """The numbers of several items, int64 [len(terms)]; `MISSING` for an unknown id.

        Args:
            terms: ids; integers are taken as the text that they are written as.

        Raises:
            UserError: an id that is neither text nor an integer.
        """
        try:
            return np.fromiter(map(self.number, terms), dtype=np.int64, count=len(terms))  # type: ignore[arg-type]
        except TypeError:  # text does not compare with anything else
            return np.array([self.number(_as_text(term)) for term in terms], dtype=np.int64)

    def term(self, number: int) -> str:
        """The id of one item.

        Raises:
            IndexError: the number is not in 0 … N-1.
        """
        if not 0 <= number < len(self._terms):
            raise IndexError(f"expected an item number in 0 … {len(self._terms) - 1}, got {number}")
        return self._terms[number]

    def terms(self, numbers: Iterable[int] | None = None) -> list[str]:
        """The ids of several items, or of all of them in order."""
        return list(self._terms) if numbers is None else [self.term(int(number)) for number in numbers]

    def __len__(self) -> int:
        return len(self._terms)

    def __contains__(self, term: object) -> bool:
        return isinstance(term, str) and self.number(term) != MISSING

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._terms == other._terms

    def __hash__(self) -> int:
        return hash(self.sha256())

    def __repr__(self) -> str:
        return f"Vocabulary of {len(self)} items"


def _as_text(term: object) -> str:
    if isinstance(term, str):
        return term
    if isinstance(term, int | np.integer) and not isinstance(term, bool):
        return str(term)
    raise UserError(f"expected item ids as text or integers, got {term!r}")
