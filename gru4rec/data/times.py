"""How a time column is written, and what its numbers mean.

Times keep their type from the file: integers, floats or datetimes of any unit. To compute with them they become plain
numbers, *ticks*: the integers or floats themselves, or a datetime's count of its unit since 1970. A `Clock` says how
many ticks make a second. The format of text is inferred from its first rows, the unit of plain numbers from their
magnitude, which is unambiguous between 1973 and 5138. Smaller numbers only order the clicks and have no duration.
"""

import datetime
import re
from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import polars as pl

from inference.shared.errors import UserError

TICKS_PER_SECOND: dict[str, float] = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}
UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
DAY = 86_400.0  # seconds
FIRST_SECOND, LAST_SECOND = 1e8, 1e11  # 1973 and 5138: a number in between is a date in seconds
NAIVE_PATTERNS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M")
WITH_OFFSET = "%+"
ZULU = r"(Z| ?UTC)$"
FORMATS = ("auto", "s", "ms", "us", "ns", "order", "iso")


@dataclass(frozen=True)
class TimeColumn:
    """How to read one time column.

    Attributes:
        dtype: of the times as they are kept: an integer or float type, Date or Datetime.
        pattern: of datetimes written as text, else "".
        zone: of datetimes that name none; None keeps them without a zone.
    """

    dtype: pl.DataType
    pattern: str = ""
    zone: str | None = None

    def ticks(self, column: pl.Expr) -> pl.Expr:
        """The column as ticks, Int64 or Float64; null if a value is no time."""
        if self.pattern:
            if self.pattern == WITH_OFFSET:
                moments = column.str.to_datetime(WITH_OFFSET, time_unit="us", strict=False)
            else:
                moments = column.str.replace(ZULU, "").str.to_datetime(self.pattern, time_unit="us", strict=False)
                if self.zone is not None and self.zone != "UTC":
                    moments = moments.dt.replace_time_zone(self.zone, ambiguous="earliest", non_existent="null")
            return moments.to_physical()
        if self.dtype.is_temporal():
            return column.to_physical().cast(pl.Int64)
        if self.dtype.is_float():
            number = column.cast(pl.Float64, strict=False)
            return pl.when(number.is_finite()).then(number)
        return column.cast(pl.Int64, strict=False)

    def read(self, times: pl.Series) -> pl.Series:
        """`ticks` of a column in memory."""
        return times.to_frame().select(self.ticks(pl.col(times.name))).to_series()

    @property
    def expected(self) -> str:
        """What messages say a value should have been."""
        if self.pattern:
            return "a time such as 2024-01-31T12:00:00Z" if self.pattern == WITH_OFFSET else f"a time {self.pattern}"
        return "a whole number" if self.dtype.is_integer() else "a number or a date"


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
                "expected times with a unit to measure durations in, got plain numbers below the year 1973; use "
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
        if self.zone is not None and self.unit != "order":
            how += f", shown as in {self.zone}"
        if self.dtype.is_temporal():
            zone = getattr(self.dtype, "time_zone", None)
            return f"dates and times, {zone or 'no zone'}{how}" if self.unit != "day" else f"dates{how}"
        if self.unit == "order":
            return f"plain numbers that order the events{how}"
        return f"{UNIT_NAMES[self.unit]} since 1970{how}"

    @property
    def plausible_range(self) -> tuple[float, float]:
        """The first tick that can be a time, and the first that is too late.

        A given unit is trusted, whatever the numbers; if it was inferred, dates before 1973 or after 5138 are mistakes.
        """
        if self.unit in ("order", "day") or not (self.recognised or self.dtype.is_temporal()):
            return 0, np.inf
        return FIRST_SECOND * self.per_second, LAST_SECOND * self.per_second

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


def infer_time_column(sample: pl.Series, where: str, time_format: str = "auto", zone: str | None = None) -> TimeColumn:
    """How to read a time column.

    Args:
        sample: its first rows; text needs at least one that is not null.
        where: the column in messages, e.g. "column 'Time'".
        time_format: "auto", a unit, "iso" or a pattern such as "%d.%m.%Y %H:%M".
        zone: of datetimes that name none, e.g. Europe/Berlin.

    Raises:
        UserError: the zone or the format is unknown, or the column cannot hold times.
    """
    if zone is not None:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise UserError(f"unknown time zone {zone!r}; expected a name such as UTC or Europe/Berlin") from None
    if time_format not in FORMATS and "%" not in time_format:
        raise UserError(
            f"unknown time format {time_format!r}; expected one of {', '.join(FORMATS)} or a pattern such as %Y-%m-%d"
        )
    kind = sample.dtype
    if kind.is_integer() or kind.is_float() or kind == pl.Date or isinstance(kind, pl.Datetime):
        return TimeColumn(kind)
    if kind.is_decimal():
        return TimeColumn(pl.Float64())
    if kind != pl.String:
        raise UserError(f"{where}: expected numbers or dates as times, got {kind}")
    texts = sample.drop_nulls().filter(sample.drop_nulls() != "")
    if "%" in time_format:
        return _datetimes(time_format, texts, zone)
    if time_format != "iso":
        for dtype in (pl.Int64(), pl.Float64()):
            if not texts.cast(dtype, strict=False).null_count():
                return TimeColumn(dtype)
    if time_format in ("auto", "iso"):
        for pattern in (*NAIVE_PATTERNS, WITH_OFFSET):
            if not TimeColumn(pl.Datetime("us"), pattern).read(texts[:1]).null_count():
                return _datetimes(pattern, texts, zone)
    mostly_float = texts.cast(pl.Float64, strict=False).null_count() < texts.len() / 2
    return TimeColumn(pl.Float64() if mostly_float else pl.Int64())


def _datetimes(pattern: str, texts: pl.Series, zone: str | None) -> TimeColumn:
    if pattern == WITH_OFFSET or "%z" in pattern or texts[:1].str.contains(ZULU).any():
        return TimeColumn(pl.Datetime("us", "UTC"), pattern, "UTC")
    return TimeColumn(pl.Datetime("us", "UTC" if zone else None), pattern, zone)


def infer_clock(ticks: np.ndarray, column: TimeColumn, time_format: str = "auto", zone: str | None = None) -> Clock:
    """What the ticks of a column mean.

    Args:
        ticks: some of them, at least one.
        column: how they were read.
        time_format: a unit; anything else infers it.
        zone: of times that name none; dates, and datetimes kept without a zone, do not depend on it.
    """
    kind = column.dtype
    if kind == pl.Date:
        return Clock("day", kind)
    if isinstance(kind, pl.Datetime):
        return Clock(kind.time_unit, kind, recognised=bool(column.pattern), zone=zone if kind.time_zone else None)
    if time_format in (*TICKS_PER_SECOND, "order"):
        return Clock(time_format, kind, zone=zone)
    return Clock(infer_time_unit(float(np.median(ticks))), kind, recognised=True, zone=zone)


def infer_time_unit(tick: float) -> str:
    """The unit in which a number is a date between 1973 and 5138; "order" if there is none."""
    for unit, per_second in TICKS_PER_SECOND.items():
        if FIRST_SECOND * per_second <= tick < LAST_SECOND * per_second:
            return unit
    return "order"
