"""Clicks as numbers: what the steps of a preparation work on.

A log becomes three arrays, 16 bytes per click whatever its ids look like. Every step except reading and writing is a
few passes over them: sessions are runs of equal numbers, items are counted with a bincount. A group-by per step over
text ids would cost several times the time and memory.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Counts:
    """The size of a log."""

    events: int
    sessions: int
    items: int


@dataclass(frozen=True)
class Clicks:
    """The clicks of a log, grouped by session and in time order within it (`grouping_order` takes any order).

    Attributes:
        session: int32 [E], numbered by first appearance in the log, ascending; numbers may be missing.
        item: int32 [E], numbered by first appearance in the log; numbers may be missing.
        time: ticks [E], int64 or float64.
    """

    session: np.ndarray
    item: np.ndarray
    time: np.ndarray

    def __len__(self) -> int:
        return len(self.session)

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each session begins, int64 [S]."""
        changes = np.flatnonzero(self.session[1:] != self.session[:-1]) + 1
        return np.concatenate([[0], changes]) if len(self) else changes

    @property
    def lengths(self) -> np.ndarray:
        """Clicks per session, int64 [S]."""
        return np.diff(self.starts, append=len(self))

    @cached_property
    def support(self) -> np.ndarray:
        """Clicks per item number, int64 [largest item number + 1]."""
        return np.bincount(self.item)

    def counts(self) -> Counts:
        """How many clicks, sessions and items there are."""
        return Counts(len(self), len(self.starts), int(np.count_nonzero(self.support)))

    def keep(self, mask: np.ndarray | slice) -> "Clicks":
        """The clicks that a mask [E] marks, or those at an index or slice."""
        if isinstance(mask, slice):
            return Clicks(self.session[mask], self.item[mask], self.time[mask])
        if mask.dtype == bool and mask.all():
            return self  # with its cached properties
        rows = pl.DataFrame({"session": self.session, "item": self.item, "time": self.time})
        kept = rows.filter(pl.Series(mask)) if mask.dtype == bool else rows[mask]  # several times faster than numpy
        return Clicks(*(column.to_numpy() for column in kept))


@dataclass(frozen=True)
class Ids:
    """The ids behind the numbers of clicks.

    Attributes:
        sessions: id of each session number, in the type of the log.
        items: id of each item number.
    """

    sessions: pl.Series
    items: pl.Series


def renumber(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number codes in the order in which they first appear.

    Args:
        codes: unsigned integers [E], fewer than 2³¹.

    Returns:
        The new numbers, int32 [E], and the place at which each of them first appears, ascending.
    """
    first = np.full(int(codes.max(initial=0)) + 1, len(codes), dtype=np.int32)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1, dtype=np.int32)  # the last write, of the first place, stays
    places = np.sort(first[first < len(codes)])
    number = np.empty(len(first), dtype=np.int32)
    number[codes[places]] = np.arange(len(places), dtype=np.int32)
    return number[codes], places


def pairs_at(distance: int, item: np.ndarray, session: np.ndarray, n_items: int) -> np.ndarray:
    """Pairs of clicks of one session, `distance` clicks apart, as one number each: first · n_items + second.

    Args:
        distance: at least 1, which gives consecutive clicks.
        item: [E], grouped by session and in time order.
        session: [E], the session of each click.
        n_items: greater than every item number.
    """
    same = session[distance:] == session[:-distance]
    pairs: np.ndarray = item[:-distance][same].astype(np.int64) * n_items + item[distance:][same]
    return pairs


def expand_ranges(begin: np.ndarray | int, sizes: np.ndarray) -> np.ndarray:
    """The numbers begin, begin + 1, … of consecutive ranges of these sizes.

    >>> expand_ranges(np.array([5, 0]), np.array([3, 2])).tolist()
    [5, 6, 7, 0, 1]
    """
    numbers: np.ndarray = np.arange(sizes.sum()) + np.repeat(begin - np.cumsum(sizes) + sizes, sizes)
    return numbers


def grouping_order(clicks: Clicks, tie: np.ndarray | None = None) -> np.ndarray | slice:
    """The order that groups clicks by session and sorts each session by time.

    Args:
        clicks: in any order.
        tie: [E], orders clicks of equal time; None keeps their present order.

    Returns:
        An index [E] into their arrays, or a slice over all of them if they are in order already.
    """
    session, time = clicks.session, clicks.time
    in_order = time[1:] >= time[:-1]
    if tie is not None:
        return np.lexsort((tie, time, session))
    if (session[1:] >= session[:-1]).all() and (in_order | (session[1:] != session[:-1])).all():
        return slice(None)
    if in_order.all():
        numbered = pl.DataFrame({"session": session}).with_row_index("place")
        return numbered.sort("session", maintain_order=True)["place"].to_numpy()
    return np.lexsort((time, session))


def split_at_pauses(clicks: Clicks, gap: float) -> tuple[Clicks, np.ndarray, np.ndarray]:
    """Cut sessions, for instance all clicks of a user, at every pause longer than a gap.

    Args:
        clicks: of users or sessions.
        gap: in ticks.

    Returns:
        The clicks with new session numbers, and for each new session its old number and its place, from 1, among the
        new sessions of that number.
    """
    first = np.diff(clicks.session, prepend=-1) != 0
    begins = first.copy()
    begins[1:] |= np.diff(clicks.time) > gap
    number = np.cumsum(begins, dtype=np.int32) - 1
    old = clicks.session[begins]
    group = np.flatnonzero(first[begins])  # the first new session of each old one
    place = expand_ranges(1, np.diff(group, append=len(old)))
    return Clicks(number, clicks.item, clicks.time), old, place
