"""Recommendations from a model file: whole sessions in batches, or click by click with the state carried.

Both give the same numbers, because one graph serves both: a session of T clicks is T steps of one click. Sessions of
similar length share a batch, to save padding.

Clicks on items that the model does not know are skipped and reported. A session without a known item is ranked from the
zero state.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from inference.model.artifact import Artifact
from inference.model.candidates import Candidates
from inference.model.providers import find_provider
from inference.model.scorer import Scorer
from inference.shared.errors import UserError, unknown_choice
from inference.shared.vocabulary import MISSING, Vocabulary

SCORES_PER_BATCH = 1 << 25
"""The default batch size keeps all score matrices together below this many numbers (128 MiB)."""
UnknownPolicy = Literal["skip", "error"]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The best items for one session, best first.

    Args:
        items: ids of the recommended items; fewer than k if exclusions leave no more.
        scores: their scores, comparable within this session.
        unknown: the session's clicks on items that the model does not know, in their order.
        n_known: clicks that the ranking is based on; 0 for the ranking from the zero state.
    """

    items: tuple[str, ...]
    scores: tuple[float, ...]
    unknown: tuple[str, ...]
    n_known: int


@dataclass(frozen=True, slots=True)
class SessionState:
    """The state of a session after its clicks so far.

    Args:
        hidden: float32 [parts, 1, width], `Artifact.state_shape` with one session.
        n_known: clicks on known items so far.
        seen: numbers of the distinct items clicked so far, in the order of their first clicks; any sequence, such as a
            list read from JSON.
    """

    hidden: np.ndarray
    n_known: int = 0
    seen: Sequence[int] = ()


class Recommender:
    """A model ready to recommend.

    Args:
        artifact: the opened model file.
        session: an onnxruntime session of its graph.
        workers: how many batches `recommend` computes in parallel. For many sessions, several workers of one thread
            each are faster than one of several threads, which wait for each other at every node of the graph.

    Attributes:
        provider: "cpu" or "cuda".
    """

    def __init__(self, artifact: Artifact, session: Any, workers: int = 1):
        if workers < 1:
            raise UserError(f"expected at least one worker, got {workers}")
        self.artifact = artifact
        self._scorer = Scorer(artifact, session)
        self._terms = artifact.vocabulary.terms()
        self.provider = find_provider(session)
        self._workers = workers
        self._prepared: tuple[object, object, Candidates] | None = None

    @classmethod
    def load(
        cls, path: str | Path, provider: str = "cpu", threads: int | None = None, workers: int = 1
    ) -> "Recommender":
        """Open a model file.

        Args:
            path: the file that `gru4rec export` wrote.
            provider: "cpu", "cuda", or "auto" for CUDA if it starts and else the CPU.
            threads: threads for one batch; None lets onnxruntime choose.
            workers: how many batches `recommend` computes in parallel.

        Raises:
            UserError: as `Artifact` and `Artifact.create_session`.
        """
        artifact = Artifact(path)
        return cls(artifact, artifact.create_session(provider, threads), workers)

    @property
    def vocabulary(self) -> Vocabulary:
        """The items that can be clicked and recommended."""
        return self.artifact.vocabulary

    def recommend(
        self,
        sessions: Iterable[Sequence[str | int]],
        k: int = 20,
        *,
        exclude_seen: bool = False,
        exclude: Iterable[str] = (),
        allow: Iterable[str] | None = None,
        unknown: UnknownPolicy = "skip",
        batch_size: int | None = None,
    ) -> list[Recommendation]:
        """The best next items for each session.

        Args:
            sessions: item ids of each session, text or integers, oldest first.
            k: how many items to recommend, 1 … the number of items.
            exclude_seen: never recommend what the session itself holds.
            exclude: ids that are never recommended; ids that the model does not know have no effect. A list that serves
                many calls is best given as a tuple, which is looked up only once; so is `allow`.
            allow: ids that alone may be recommended; None for every item. Only these items are scored.
            unknown: "skip" skips unknown items and reports them, "error" raises.
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
        candidates = self._find_candidates(exclude, allow)
        batch_size = batch_size or max(1, min(256, SCORES_PER_BATCH // self._workers // (len(self._terms) + 1)))
        encoded = [self._encode(session, unknown) for session in sessions]
        results: dict[int, Recommendation] = {}

        def compute(places: list[int]) -> None:
            rows = [encoded[place][0] for place in places]
            seen = [np.unique(numbers) for numbers in rows] if exclude_seen else None
            ids, scores, _ = self._scorer.rank(rows, self._scorer.zero_state(len(rows)), k, candidates, seen)
            for place, row_ids, row_scores in zip(places, ids, scores, strict=True):
                numbers, missing = encoded[place]
                results[place] = self._create_recommendation(row_ids, row_scores, missing, len(numbers))

        batches = list(_split_batches([len(numbers) for numbers, _ in encoded], batch_size))
        if self._workers == 1 or len(batches) == 1:
            for batch in batches:
                compute(batch)
        else:
            with ThreadPoolExecutor(self._workers) as pool:
                list(pool.map(compute, batches))
        return [results[place] for place in range(len(encoded))]

    def new_state(self) -> SessionState:
        """The state of a session before its first click."""
        return SessionState(self._scorer.zero_state(1))

    def step(self, state: SessionState, item: str, k: int = 20, **options: Any) -> tuple[SessionState, Recommendation]:
        """Process one more click of a session and recommend what comes next.

        The recommendation equals that of `recommend` for the whole session so far, at the cost of one click.

        Args:
            state: of the session, from `new_state` or an earlier step; not modified.
            item: the id that was clicked; an unknown one leaves the state unchanged.
            k: how many items to recommend, 1 … the number of items.
            options: exclude_seen, exclude, allow and unknown, as in `recommend`.

        Returns:
            The state after the click, and the recommendation.

        Raises:
            UserError: as in `recommend`, or a state that is not of this model.
        """
        return self.steps([state], [item], k, **options)[0]

    def steps(
        self,
        states: Sequence[SessionState],
        items: Sequence[str],
        k: int = 20,
        *,
        exclude_seen: bool = False,
        exclude: Iterable[str] = (),
        allow: Iterable[str] | None = None,
        unknown: UnknownPolicy = "skip",
    ) -> list[tuple[SessionState, Recommendation]]:
        """One click in each of several sessions, computed together; otherwise as `step`."""
        self._check_k(k)
        if len(states) != len(items):
            raise UserError(f"expected one item for each state, got {len(items)} items for {len(states)} states")
        shape = self._scorer.zero_state(1).shape
        for state in states:
            if state.hidden.shape != shape or state.hidden.dtype != np.float32:
                raise UserError(
                    f"expected a state of shape {list(shape)} in float32, got {list(state.hidden.shape)} in "
                    f"{state.hidden.dtype}; a state belongs to the model that made it"
                )
        candidates = self._find_candidates(exclude, allow)
        if not states:
            return []
        clicks = [self._encode((item,), unknown) for item in items]
        seen = [  # also without exclude_seen: a later step may exclude them
            (*state.seen, *(number for number in numbers.tolist() if number not in state.seen))
            for state, (numbers, _) in zip(states, clicks, strict=True)
        ]
        ids, scores, hidden = self._scorer.rank(
            [numbers for numbers, _ in clicks],
            np.concatenate([state.hidden for state in states], axis=1),
            k,
            candidates,
            [np.array(numbers, np.int64) for numbers in seen] if exclude_seen else None,
        )
        results = []
        for row, (state, (numbers, missing)) in enumerate(zip(states, clicks, strict=True)):
            n_known = state.n_known + len(numbers)
            following = SessionState(hidden[:, row : row + 1].copy(), n_known, seen[row])
            results.append((following, self._create_recommendation(ids[row], scores[row], missing, n_known)))
        return results

    def _check_k(self, k: int) -> None:
        if not hasattr(k, "__index__") or not 1 <= k <= len(self._terms):
            raise UserError(f"expected k between 1 and the {len(self._terms)} items of the model, got {k!r}")

    def _find_candidates(self, exclude: Iterable[str], allow: Iterable[str] | None) -> Candidates:
        prepared = self._prepared  # read once: another thread may replace it
        if prepared and prepared[0] is exclude and prepared[1] is allow:
            return prepared[2]
        candidates = Candidates.of(self.artifact, exclude, allow)
        if isinstance(exclude, tuple) and isinstance(allow, tuple | None):  # which do not change
            self._prepared = (exclude, allow, candidates)
        return candidates

    def _encode(self, session: Sequence[str | int], unknown: UnknownPolicy) -> tuple[np.ndarray, tuple[str, ...]]:
        """The numbers of the known items, int64, and the unknown items."""
        if isinstance(session, str):
            raise UserError(f"expected a session as a sequence of item ids, got the text {session!r}")
        if unknown not in ("skip", "error"):
            raise unknown_choice("policy for unknown items", unknown, ["skip", "error"])
        numbers = self.vocabulary.numbers(session)
        # iterate, do not index: a pandas Series is indexed by labels
        missing = tuple(str(item) for item, number in zip(session, numbers.tolist(), strict=True) if number == MISSING)
        if missing and unknown == "error":
            raise UserError(f"expected items that the model knows, got {missing[0]!r}")
        return (numbers[numbers != MISSING] if missing else numbers), missing

    def _create_recommendation(
        self, ids: np.ndarray, scores: np.ndarray, unknown: tuple[str, ...], n_known: int
    ) -> Recommendation:
        kept = ~np.isneginf(scores)  # excluded items score minus infinity
        if not np.isfinite(scores[kept]).all():
            raise UserError(
                f"the scores of {self.artifact.path} are not finite: its weights are damaged; export it again"
            )
        items = tuple(self._terms[number] for number in ids[kept].tolist())
        return Recommendation(items, tuple(scores[kept].tolist()), unknown, n_known)


def _split_batches(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """The positions of sessions that are computed together: of similar length, so that less than half is padding."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) == batch_size or lengths[place] > 2 * lengths[batch[0]] + 8):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
