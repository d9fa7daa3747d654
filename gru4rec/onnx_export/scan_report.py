"""What a scan costs in accuracy and gains in time: the scanning graph beside the exact one, on real sessions.

Agreement is counted by scores. An item that the scan gives among its best k agrees if it scores, to within rounding, at
least as much as the exact graph's k-th item; where scores nearly tie there, either item is right. Both graphs answer
the same sessions in turn, so that whatever else the machine does slows down both.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.model.candidates import Candidates
from inference.model.scorer import Scorer
from inference.shared.errors import UserError

LEAST_AGREEMENT = 0.999
RANKS = 20
MOST_SESSIONS = 2000
"""Of more sessions, as many are taken, evenly spread."""
ROUNDING = 1e-5
"""Scores that differ by less count as tied, relative to the largest score or to 1."""
BATCHES = (1, 64)
SECONDS, FEWEST_TURNS, MOST_TURNS = 1.0, 5, 50
"""For each batch size."""
SESSIONS_AT_ONCE = 64
EVERY_ITEM = Candidates(np.empty(0, np.int64), None)


@dataclass(frozen=True)
class Speed:
    """Milliseconds for a batch of sessions, the medians of several turns."""

    batch: int
    exact: float
    scan: float


@dataclass(frozen=True)
class ScanReport:
    """What was measured.

    Attributes:
        sessions: how many sessions were compared.
        ranks: how many items of each.
        agreement: the share of the scan's items that are right, 0 … 1.
        speeds: for each of `BATCHES`.
    """

    sessions: int
    ranks: int
    agreement: float
    speeds: tuple[Speed, ...]

    def as_dict(self) -> dict[str, int | float]:
        """What is true on any machine, to be kept with the model."""
        return {"sessions": self.sessions, f"agreement@{self.ranks}": self.agreement}

    def check(self) -> None:
        """Refuse a scan that is not as good as exact scores.

        Raises:
            UserError: the agreement is below `LEAST_AGREEMENT`.
        """
        if self.agreement < LEAST_AGREEMENT:
            raise UserError(
                f"cannot export with --scan int8: of the top {self.ranks} of {self.sessions} sessions a share of "
                f"{self.agreement:.4f} agrees with exact scores, expected at least {LEAST_AGREEMENT}; leave --scan out"
            )


def spread(sessions: Sequence[np.ndarray]) -> list[np.ndarray]:
    """At most `MOST_SESSIONS` of the sessions, from all parts of them."""
    if len(sessions) <= MOST_SESSIONS:
        return list(sessions)
    return [sessions[place] for place in np.linspace(0, len(sessions) - 1, MOST_SESSIONS).astype(int)]


def states_after(scorer: Scorer, sessions: Sequence[np.ndarray]) -> np.ndarray:
    """The states after the last clicks, float32 [parts, sessions, width]."""
    states = []
    for start in range(0, len(sessions), SESSIONS_AT_ONCE):
        rows = list(sessions[start : start + SESSIONS_AT_ONCE])
        states.append(scorer.rank(rows, scorer.zero_state(len(rows)), 0, EVERY_ITEM, None)[2])
    return np.concatenate(states, axis=1)


def compared(exact: Scorer, scan: Scorer, sessions: Sequence[np.ndarray], n_items: int) -> ScanReport:
    """Run both graphs on the same sessions.

    Args:
        exact: the graph that scores every item.
        scan: the graph that scans first.
        sessions: item numbers of each session, at least one session.
        n_items: the size of the catalogue.
    """
    ranks = min(RANKS, n_items)
    n_right = 0
    for start in range(0, len(sessions), SESSIONS_AT_ONCE):
        rows = list(sessions[start : start + SESSIONS_AT_ONCE])
        (_, right, _), (_, scores, _) = (
            scorer.rank(rows, scorer.zero_state(len(rows)), ranks, EVERY_ITEM, None) for scorer in (exact, scan)
        )
        scale = np.maximum(1.0, np.abs(right).max(axis=1, keepdims=True))
        n_right += int((scores >= right[:, -1:] - ROUNDING * scale).sum())
    speeds = tuple(_speed(exact, scan, sessions, batch, ranks) for batch in BATCHES)
    return ScanReport(len(sessions), ranks, n_right / (ranks * len(sessions)), speeds)


def _speed(exact: Scorer, scan: Scorer, sessions: Sequence[np.ndarray], batch: int, ranks: int) -> Speed:
    seconds: dict[Scorer, list[float]] = {exact: [], scan: []}
    begin = time.perf_counter()
    for turn in range(MOST_TURNS):
        rows = [sessions[(turn * batch + row) % len(sessions)] for row in range(batch)]
        for scorer, times in seconds.items():
            start = time.perf_counter()
            scorer.rank(rows, scorer.zero_state(batch), ranks, EVERY_ITEM, None)
            times.append(time.perf_counter() - start)
        if turn + 1 >= FEWEST_TURNS and time.perf_counter() - begin > SECONDS:
            break
    return Speed(batch, *(1e3 * float(np.median(times[1:])) for times in seconds.values()))  # the first one warms up
