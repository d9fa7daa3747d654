"""What a scan costs in accuracy and gains in time: the scanning graph next to the exact one, on real sessions.

Agreement is counted by scores. An item among the scan's best k agrees if it scores, to within rounding, at least as
much as the exact graph's k-th item; where scores nearly tie there, either item is right. The graphs take turns on the
same sessions, so that other load on the machine slows down both.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from inference.model.candidates import Candidates
from inference.model.scorer import Scorer
from inference.shared.errors import UserError

MIN_AGREEMENT = 0.999
RANKS = 20
MAX_SESSIONS = 2000
"""Of more sessions, this many are taken, evenly spread."""
ROUNDING = 1e-5
"""Scores that differ by less count as tied, relative to the largest score or to 1."""
TIMED_BATCH_SIZES = (1, 64)
SECONDS, MIN_TURNS, MAX_TURNS = 1.0, 5, 50
"""Per batch size."""
BATCH_SIZE = 64
EVERY_ITEM = Candidates(np.empty(0, np.int64), None)


@dataclass(frozen=True)
class Speed:
    """Milliseconds for a batch of sessions, medians of several turns."""

    batch: int
    exact: float
    scan: float


@dataclass(frozen=True)
class ScanReport:
    """Agreement and speed of a scan.

    Attributes:
        sessions: number of sessions compared.
        ranks: number of items of each.
        agreement: the share of the scan's items that agree, 0 … 1.
        speeds: for each of `TIMED_BATCH_SIZES`.
    """

    sessions: int
    ranks: int
    agreement: float
    speeds: tuple[Speed, ...]


def take_evenly(sessions: Sequence[np.ndarray]) -> list[np.ndarray]:
    """At most `MAX_SESSIONS` of the sessions, from all parts of them."""
    count = min(len(sessions), MAX_SESSIONS)
    return [sessions[place] for place in np.linspace(0, len(sessions) - 1, count).astype(int)]


def final_states(scorer: Scorer, sessions: Sequence[np.ndarray]) -> np.ndarray:
    """The states after the last click of each session, float32 [parts, sessions, width]."""
    return np.concatenate([states for _, _, states in _rank(scorer, sessions, 0)], axis=1)


def _rank(scorer: Scorer, sessions: Sequence[np.ndarray], k: int) -> Iterator[tuple[np.ndarray, ...]]:
    """The best k items, their scores and the states, batch after batch."""
    for start in range(0, len(sessions), BATCH_SIZE):
        rows = list(sessions[start : start + BATCH_SIZE])
        yield scorer.rank(rows, scorer.zero_state(len(rows)), k, EVERY_ITEM, None)


def compare(exact: Scorer, scan: Scorer, sessions: Sequence[np.ndarray], n_items: int) -> ScanReport:
    """Run both graphs on the same sessions.

    Args:
        exact: runs the graph that scores every item.
        scan: runs the graph that scans first.
        sessions: item numbers of each session; at least one session.
        n_items: the size of the catalogue.

    Raises:
        UserError: the agreement is below `MIN_AGREEMENT`, so the scan would lose items.
    """
    ranks = min(RANKS, n_items)
    n_right = 0
    batches = zip(_rank(exact, sessions, ranks), _rank(scan, sessions, ranks), strict=True)
    for (_, right, _), (_, scores, _) in batches:
        scale = np.maximum(1.0, np.abs(right).max(axis=1, keepdims=True))
        n_right += int((scores >= right[:, -1:] - ROUNDING * scale).sum())
    agreement = n_right / (ranks * len(sessions))
    if agreement < MIN_AGREEMENT:
        raise UserError(
            f"cannot export with --scan int8: {agreement:.4f} of the top {ranks} items of {len(sessions)} sessions "
            f"agree with exact scores, expected at least {MIN_AGREEMENT}; leave --scan out"
        )
    speeds = tuple(_speed(exact, scan, sessions, batch, ranks) for batch in TIMED_BATCH_SIZES)
    return ScanReport(len(sessions), ranks, agreement, speeds)


def _speed(exact: Scorer, scan: Scorer, sessions: Sequence[np.ndarray], batch: int, ranks: int) -> Speed:
    seconds: dict[Scorer, list[float]] = {exact: [], scan: []}
    begin = time.perf_counter()
    for turn in range(MAX_TURNS):
        rows = [sessions[(turn * batch + row) % len(sessions)] for row in range(batch)]
        for scorer, times in seconds.items():
            start = time.perf_counter()
            scorer.rank(rows, scorer.zero_state(batch), ranks, EVERY_ITEM, None)
            times.append(time.perf_counter() - start)
        if turn + 1 >= MIN_TURNS and time.perf_counter() - begin > SECONDS:
            break
    return Speed(batch, *(1e3 * float(np.median(times[1:])) for times in seconds.values()))  # the first one warms up
