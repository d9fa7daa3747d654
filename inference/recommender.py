"""Recommendations from a model file: whole sessions in batches, or click by click with the state carried.

The two ways give the same numbers, because one graph serves both: a session of T clicks is T steps of one click. What
is decided here is only how sessions are laid out for it. Sessions of similar length share a batch, so that little
padding is computed; long ones are cut in time and their state carried over the cut, so that memory does not grow with
the length; and an empty batch, which would end the process, never reaches onnxruntime.

Items the model does not know are skipped, as if they had not been clicked, and reported. A session of which nothing is
known is ranked from the zero state: what the model recommends to somebody it knows nothing about.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from inference.artifact import INPUTS, OUTPUTS, Artifact, first_line
from inference.errors import UserError, unknown_choice
from inference.vocabulary import MISSING, Vocabulary

SCORES_PER_BATCH = 1 << 25
"""The default batch size keeps the score matrix below this many numbers (128 MiB)."""
CLICKS_PER_RUN = 1 << 15
"""Longer sessions are walked in several runs, so that one run takes at most this many clicks of a batch."""

UnknownPolicy = Literal["skip", "error"]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The best items for one session, best first.

    Args:
        items: ids of the recommended items; fewer than asked for where exclusions leave no more.
        scores: their scores, comparable within this session.
        unknown: the session's clicks on items that the model does not know, in their order.
        n_known: how many clicks the ranking rests on; 0 means that it is the ranking from the zero state.
    """

    items: tuple[str, ...]
    scores: tuple[float, ...]
    unknown: tuple[str, ...]
    n_known: int


@dataclass(frozen=True, slots=True)
class SessionState:
    """Where a session stands after its clicks so far.

    Args:
        hidden: float32 [layers, 1, hidden size].
        n_known: clicks on known items so far.
        seen: numbers of the distinct items clicked so far; kept only where `step` is asked to exclude them.
    """

    hidden: np.ndarray
    n_known: int = 0
    seen: tuple[int, ...] = ()


class Recommender:
    """A model ready to recommend.

    Args:
        artifact: the opened model file.
        session: an onnxruntime session of its graph.
    """

    def __init__(self, artifact: Artifact, session: Any):
        import onnxruntime  # here, so that importing this module does not load it

        self.artifact = artifact
        self._session = session
        self._terms = artifact.vocabulary.terms()
        self._state_only = onnxruntime.RunOptions()
        self._state_only.only_execute_path_to_fetches = True

    @classmethod
    def load(cls, path: str | Path, provider: str = "cpu", threads: int | None = None) -> "Recommender":
        """Open a model file and make it ready to run.

        Args:
            path: the file that `gru4rec export` wrote.
            provider: what computes: "cpu".
            threads: threads for one computation; None lets onnxruntime choose.

        Raises:
            UserError: the file is missing, not ours, of another version or damaged; or an impossible provider or number
                of threads.
        """
        artifact = Artifact.open(path)
        return cls(artifact, artifact.session(provider, threads))

    @property
    def vocabulary(self) -> Vocabulary:
        """The items that can be clicked and recommended."""
        return self.artifact.vocabulary

    def recommend(
        self,
        sessions: Iterable[Sequence[str]],
        k: int = 20,
        *,
        exclude_seen: bool = False,
        exclude: Iterable[str] = (),
        unknown: UnknownPolicy = "skip",
        batch_size: int | None = None,
    ) -> list[Recommendation]:
        """The best next items for each session.

        Args:
            sessions: item ids of each session, oldest first.
            k: how many items to recommend, 1 … the number of items.
            exclude_seen: never recommend what the session itself holds.
            exclude: ids that are never recommended; ids that the model does not know have no effect.
            unknown: "skip" goes on over unknown items and reports them, "error" raises.
            batch_size: sessions computed together; None chooses by the size of the catalogue.

        Returns:
            One recommendation for each session, in the order of the sessions.

        Raises:
            UserError: an impossible argument, an unknown item where that is an error, or a model whose scores are not
                finite.
        """
        self._check_k(k)
        if batch_size is not None and batch_size < 1:
            raise UserError(f"expected a batch size of at least 1, got {batch_size}")
        batch_size = batch_size or max(1, min(256, SCORES_PER_BATCH // (len(self._terms) + 1)))
        excluded = self._known(exclude)
        encoded = [self._encoded(session, unknown) for session in sessions]
        order = sorted(range(len(encoded)), key=lambda place: len(encoded[place].numbers))
        results: list[Recommendation | None] = [None] * len(encoded)
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            rows = [encoded[place] for place in places]
            hidden = self._zero_state(len(rows))
            seen = [np.unique(row.numbers) if exclude_seen else excluded[:0] for row in rows]
            ids, scores, _ = self._run([row.numbers for row in rows], hidden, k, excluded, seen)
            for place, row, row_ids, row_scores in zip(places, rows, ids, scores, strict=True):
                results[place] = self._recommendation(row_ids, row_scores, row.unknown, len(row.numbers))
        return [result for result in results if result is not None]

    def new_state(self) -> SessionState:
        """The state of a session before its first click."""
        return SessionState(self._zero_state(1))

    def step(
        self,
        state: SessionState,
        item: str,
        k: int = 20,
        *,
        exclude_seen: bool = False,
        exclude: Iterable[str] = (),
        unknown: UnknownPolicy = "skip",
    ) -> tuple[SessionState, Recommendation]:
        """Take one more click of a session and recommend what comes next.

        The recommendation equals that of `recommend` for the whole session so far, at the cost of one click.

        Args:
            state: where the session stands, from `new_state` or an earlier step; left as it is.
            item: the id that was clicked; an unknown one leaves the session where it stood.
            k: how many items to recommend, 1 … the number of items.
            exclude_seen: never recommend what the session holds; to be given from a session's first step on.
            exclude: ids that are never recommended.
            unknown: "skip" or "error", as in `recommend`.

        Returns:
            The state after the click, and the recommendation.

        Raises:
            UserError: as in `recommend`, or a state that is not of this model.
        """
        self._check_k(k)
        shape = self._zero_state(1).shape
        if state.hidden.shape != shape or state.hidden.dtype != np.float32:
            raise UserError(
                f"expected a state of shape {list(shape)} in float32, got {list(state.hidden.shape)} in "
                f"{state.hidden.dtype}; a state belongs to the model that made it"
            )
        click = self._encoded((item,), unknown)
        seen = state.seen
        if exclude_seen:
            seen += tuple(number for number in click.numbers.tolist() if number not in seen)
        rows = [np.array(seen if exclude_seen else (), np.int64)]
        ids, scores, hidden = self._run([click.numbers], state.hidden, k, self._known(exclude), rows)
        n_known = state.n_known + len(click.numbers)
        return SessionState(hidden, n_known, seen), self._recommendation(ids[0], scores[0], click.unknown, n_known)

    def _zero_state(self, rows: int) -> np.ndarray:
        return np.zeros((len(self.artifact.layer_widths), rows, self.artifact.hidden_size), np.float32)

    def _check_k(self, k: int) -> None:
        if not 1 <= k <= len(self._terms):
            raise UserError(f"expected k between 1 and the {len(self._terms)} items of the model, got {k}")

    def _known(self, ids: Iterable[str]) -> np.ndarray:
        """The distinct numbers of the ids that the model knows, int64."""
        numbers = self.vocabulary.numbers(list(ids))
        return np.unique(numbers[numbers != MISSING])

    def _encoded(self, session: Sequence[str], unknown: UnknownPolicy) -> "_EncodedSession":
        if isinstance(session, str):
            raise UserError(f"expected a session as a sequence of item ids, got the text {session!r}")
        if unknown not in ("skip", "error"):
            raise unknown_choice("policy for unknown items", unknown, ["skip", "error"])
        numbers = self.vocabulary.numbers(session, missing="mark" if unknown == "skip" else "error")
        is_missing = numbers == MISSING
        if not is_missing.any():
            return _EncodedSession(numbers, ())
        return _EncodedSession(
            numbers[~is_missing], tuple(session[place] for place in np.flatnonzero(is_missing).tolist())
        )

    def _run(
        self, rows: list[np.ndarray], hidden: np.ndarray, k: int, exclude: np.ndarray, seen: list[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Walk the clicks of a batch and rank.

        Args:
            rows: item numbers of each session, at least one session; sessions may be empty.
            hidden: float32 [layers, batch, hidden size], where they start from.
            k: how many items to rank.
            exclude: numbers excluded from every row.
            seen: numbers excluded from each row.

        Returns:
            ids [batch, k], scores [batch, k], hidden as after the last click.
        """
        assert rows
        sentinel = len(self._terms)
        width = len(exclude) + max(map(len, seen))
        barred = np.full((len(rows), width), sentinel, np.int64)
        barred[:, : len(exclude)] = exclude
        for row, numbers in enumerate(seen):
            barred[row, len(exclude) : len(exclude) + len(numbers)] = numbers
        none_barred = np.empty((len(rows), 0), np.int64)
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        longest = int(lengths.max())
        clicks = max(1, CLICKS_PER_RUN // len(rows))
        for start in range(0, max(1, longest), clicks):
            is_last = start + clicks >= longest
            items = np.full((len(rows), max(1, min(clicks, longest - start))), sentinel, np.int64)
            for row, numbers in enumerate(rows):
                piece = numbers[start : start + clicks]
                items[row, : len(piece)] = piece
            part = np.clip(lengths - start, 0, clicks)
            values = (items, part, hidden, barred if is_last else none_barred, np.array([k], np.int64))
            inputs = dict(zip(INPUTS, values, strict=True))
            if not is_last:
                (hidden,) = self._computed(["hidden"], inputs, self._state_only)
        ids, scores, hidden = self._computed(list(OUTPUTS), inputs)
        return ids, scores, hidden

    def _computed(self, outputs: list[str], inputs: dict[str, np.ndarray], options: Any = None) -> list[np.ndarray]:
        try:
            results: list[np.ndarray] = self._session.run(outputs, inputs, options)
        except Exception as error:  # onnxruntime raises a class of its own for every status
            raise UserError(
                f"onnxruntime cannot compute {len(inputs['items'])} sessions with {self.artifact.path}: "
                f"{first_line(error)}; if memory ran out, try a smaller batch"
            ) from error
        return results

    def _recommendation(
        self, ids: np.ndarray, scores: np.ndarray, unknown: tuple[str, ...], n_known: int
    ) -> Recommendation:
        kept = ~np.isneginf(scores)  # what is excluded scores minus infinity
        if not np.isfinite(scores[kept]).all():
            raise UserError(
                f"the scores of {self.artifact.path} are not finite: its weights are damaged; export it again"
            )
        items = tuple(self._terms[number] for number in ids[kept].tolist())
        return Recommendation(items, tuple(scores[kept].tolist()), unknown, n_known)


@dataclass(frozen=True, slots=True)
class _EncodedSession:
    numbers: np.ndarray  # int64 [known clicks]
    unknown: tuple[str, ...]
