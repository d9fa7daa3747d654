"""Splitting a log by time, the only split that does not look into the future.

A boundary divides clicks into early and late ones, in one of three ways:

* start: whole sessions; those whose first click is at or after the boundary are late.
* end: whole sessions; those whose last click is at or after the boundary are late (RSC15 in the papers).
* cut: sessions that start at or after the boundary are late; the others lose their clicks after it (the other public
  sets), so no training click is from the time of the test.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gru4rec.data.clicks import Clicks
from gru4rec.data.times import DAY, Clock
from inference.shared.errors import UserError

SplitBy = Literal["start", "end", "cut"]


@dataclass(frozen=True)
class Boundary:
    """Where a log is split; exactly one of the three is given.

    Attributes:
        days: before the last click.
        fraction: of the sessions that are late.
        at: tick.
    """

    days: float | None = None
    fraction: float | None = None
    at: float | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("days", "fraction", "at") if getattr(self, name) is not None]
        if len(given) != 1:
            raise UserError(f"expected one way to split, by days, by fraction or at a time, got {' and '.join(given)}")
        if self.days is not None and not 0 < self.days < math.inf:
            raise UserError(f"expected a split by more than 0 days, got {self.days}")
        if self.fraction is not None and not 0 < self.fraction < 1:
            raise UserError(f"expected a fraction between 0 and 1 to split off, got {self.fraction}")

    def tick(self, clicks: Clicks, clock: Clock, last: float | None = None, by: SplitBy = "start") -> float:
        """The boundary as a tick.

        Args:
            clicks: to split.
            clock: of their times.
            last: the tick that days are counted back from; None for the last click.
            by: how they are split.

        Raises:
            UserError: days are given but the times have no unit.
        """
        if self.at is not None:
            return self.at
        if self.days is not None:
            back = self.days * DAY * clock.per_second
            end = clicks.time.max().item() if last is None else last
            return int(end) - round(back) if clicks.time.dtype == np.int64 else end - back  # nanoseconds fit no float
        assert self.fraction is not None
        edges = _edges(clicks, by)
        first_late = len(edges) - max(1, round(len(edges) * self.fraction))
        boundary: float = np.partition(edges, first_late)[first_late].item()  # nanoseconds fit no float
        return boundary


def split(clicks: Clicks, boundary: float, by: SplitBy = "start") -> tuple[np.ndarray, np.ndarray]:
    """The masks [E] of the early and of the late clicks."""
    late = np.repeat(_edges(clicks, by) >= boundary, clicks.lengths)
    early = ~late
    if by == "cut":
        early &= clicks.time < boundary
    return early, late


def _edges(clicks: Clicks, by: SplitBy) -> np.ndarray:
    """The time of each session that is compared with the boundary: of its last click or its first."""
    edges: np.ndarray = clicks.time[clicks.starts + clicks.lengths - 1 if by == "end" else clicks.starts]
    return edges
