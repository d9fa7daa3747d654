"""What times mean.

Times keep their type from the file: integers, floats or datetimes of any unit. To compute with them they become plain
numbers, *ticks*: the integers or floats themselves, or a datetime's count of its unit since 1970. A `Clock` says how
many ticks make a second. The unit of plain numbers is inferred from their magnitude, which leaves one choice between
1991 and today. Numbers below only order the clicks and have no duration; any other number is left to the user.
"""

import datetime
import re
import time
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from inference.shared.errors import UserError

TICKS_PER_SECOND: dict[str, float] = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}
UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
DAY = 86_400.0  # seconds
FIRST_SECOND = 662_688_000.0  # 1991: no click log is older, and ticks of .NET would be nanoseconds of 1990
SMALLEST_SECOND = 1e8  # smaller numbers are taken for an order
TOMORROW = 2 * DAY  # a clock may be fast, and in another zone


@dataclass(frozen=True)
class Clock:
    """What ticks mean.

    Attributes:
        unit: of a tick; "order" if ticks only order events; "day" for dates.
        dtype: of the time column.
        recognised: whether the unit was inferred rather than given.
        zone: of printed times and of times that a user writes without one; None for UTC.
    """

    unit: str
    dtype: pl.DataType
    recognised: bool = False
    zone: str | None = None

    @property
    def per_second(self) -> float:
        """Ticks in a second.

        Raises:
            UserError: the times have no duration.
        """
        if self.unit == "order":
            raise UserError(
                "expected times with a unit to measure durations in, got plain numbers that only order the clicks; use "
                "--test-fraction or --split-at, or name their unit with --time-format (s, ms, us, ns)"
            )
        return 1 / DAY if self.unit == "day" else TICKS_PER_SECOND[self.unit]

    def format_time(self, tick: float) -> str:
        """A tick as text: a date, or the number itself."""
        if self.unit == "order":
            return f"{tick:,.0f}" if float(tick).is_integer() else f"{tick:,}"
        try:
            moment = datetime.datetime.fromtimestamp(tick / self.per_second, tz=self._zone())
        except (ValueError, OverflowError, OSError):
            return f"{tick:.0f} (no calendar date)"
        return moment.strftime("%Y-%m-%d %H:%M:%S").removesuffix(" 00:00:00")

    def describe(self) -> str:
        """The format in words."""
        how = " (recognised)" if self.recognised else ""
        zone = getattr(self.dtype, "time_zone", None)
        if self.zone not in (None, zone) and self.unit != "order":
            how += f", shown as in {self.zone}"
        if self.dtype.is_temporal():
            return f"dates and times, {zone or 'no zone'}{how}" if self.unit != "day" else f"dates{how}"
        if self.unit == "order":
            return f"plain numbers that order the events{how}"
        return f"{UNIT_NAMES[self.unit]} since 1970{how}"

    @property
    def plausible_range(self) -> tuple[float, float]:
        """The first tick that can be a time, and the first that is too late.

        A given unit is trusted, whatever the numbers. If it was inferred, times before 1991 or after today are wrong.
        """
        if self.unit == "order" or not (self.recognised or self.dtype.is_temporal()):
            return 0, np.inf
        return FIRST_SECOND * self.per_second, last_second() * self.per_second

    def parse_time(self, text: str) -> float:
        """The tick of a time that a user wrote: a number in the column's unit, or a date or time in the zone.

        Raises:
            UserError: it is neither.
        """
        if re.fullmatch(r"-?\d{1,19}", text.strip()):  # nanoseconds do not fit into a float
            return int(text)
        try:
            return float(text)
        except ValueError:
            pass
        try:
            moment = datetime.datetime.fromisoformat(text.strip())
        except ValueError:
            raise UserError(f"expected a number or a time such as 2024-01-31T12:00:00, got {text!r}") from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=self._zone())
        seconds = (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) / datetime.timedelta(seconds=1)
        tick = seconds * self.per_second
        return tick if self.dtype.is_float() else round(tick)

    def _zone(self) -> datetime.tzinfo:
        return ZoneInfo(self.zone) if self.zone else datetime.UTC


def infer_clock(
    ticks: np.ndarray,
    kind: pl.DataType,
    time_format: str = "auto",
    zone: str | None = None,
    *,
    recognised: bool = False,
) -> Clock:
    """What the ticks of a column mean.

    Args:
        ticks: some of them, at least one.
        kind: type of the times as they are kept.
        time_format: a unit; anything else infers it.
        zone: of times that name none; dates, and datetimes kept without a zone, do not depend on it.
        recognised: the notation of datetimes was inferred.

    Raises:
        UserError: plain numbers that are no time between 1991 and today in any unit, and too large for an order.
    """
    if kind == pl.Date:
        return Clock("day", kind)
    if isinstance(kind, pl.Datetime):
        zone = zone or kind.time_zone if kind.time_zone else None
        return Clock(kind.time_unit, kind, recognised=recognised, zone=zone)
    if time_format in (*TICKS_PER_SECOND, "order"):
        return Clock(time_format, kind, zone=zone)
    median = float(np.median(ticks))
    unit = infer_time_unit(median)
    if unit is None:
        raise UserError(
            f"expected times between 1991 and today, got numbers such as {median:.0f}; name their unit with "
            "--time-format (s, ms, us, ns), or order if they only order the clicks"
        )
    return Clock(unit, kind, recognised=True, zone=zone)


def infer_time_unit(tick: float) -> str | None:
    """The unit in which a number is a time between 1991 and today; "order" for small ones, None if there is none."""
    for unit, per_second in TICKS_PER_SECOND.items():
        if FIRST_SECOND * per_second <= tick < last_second() * per_second:
            return unit
    return "order" if tick < SMALLEST_SECOND else None


def last_second() -> float:
    """The latest second at which a click can have happened."""
    return time.time() + TOMORROW
