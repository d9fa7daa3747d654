"""How a column of times is written.

Numbers stay numbers; what they count is judged by their magnitude (see `times`). Text is tried against the notations
that people use, as combinations of a date, a time of day and a zone, until every value of the sample is read. Whether
01/02/2023 is in January or in February is decided by the values that allow only one, or else left to the user.
"""

import re
from dataclasses import dataclass, replace
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from gru4rec.data.times import TICKS_PER_SECOND
from inference.shared.errors import UserError

FORMATS = ("auto", *TICKS_PER_SECOND, "order", "iso")
DATES = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%Y%m%d",
    "%d.%m.%Y",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%m-%d-%Y",
    "%d-%m-%Y",
    "%m/%d/%y",
    "%d/%m/%y",
    "%d %b %Y",
    "%d-%b-%Y",
    "%d/%b/%Y",
    "%b %d, %Y",
    "%m %d, %Y",
    "%a, %d %b %Y",
    "%a %b %d %Y",
)
DAY_TIMES = (" %H:%M:%S%.f", " %H:%M", "", " %I:%M:%S %p", " %I:%M %p", " %H%M%S", "%H%M%S", ":%H:%M:%S")
ZONES = ("", " %z")
REPAIRS = (
    (r"(\d)T(\d)", "${1} ${2}"),
    (r"(:\d\d),(\d{1,9})\b", "${1}.${2}"),
    (r"(\d) ?(?:Z|UTC|GMT)$", "${1} +0000"),
    (r"(:\d\d(?:\.\d+)?) ?([+-]\d\d):?(\d\d)$", "${1} ${2}${3}"),
    (r"(:\d\d(?:\.\d+)?) ?([+-]\d\d)$", "${1} ${2}00"),
)
"""Ways to write the same time, and the one that the patterns read."""
ZULU = r" ?(Z|UTC|GMT)$"
FIRST_YEAR = 1900
NO_YEAR = "2000"
"""The year of dates that have none; a leap year."""


@dataclass(frozen=True)
class TimeColumn:
    """How to read one time column.

    Attributes:
        dtype: of the times as they are kept: an integer or float type, Date or Datetime.
        patterns: of datetimes written as text or as digits; empty for numbers and dates.
        zone: of datetimes that name none; None keeps them without a zone.
        repairs: regular expressions and what replaces them before the patterns are tried.
    """

    dtype: pl.DataType
    patterns: tuple[str, ...] = ()
    zone: str | None = None
    repairs: tuple[tuple[str, str], ...] = ()

    def ticks(self, column: pl.Expr) -> pl.Expr:
        """The column as ticks, Int64 or Float64; null if a value is no time."""
        if self.patterns:
            text = column.cast(pl.String)
            for wrong, right in self.repairs:
                text = text.str.replace(wrong, right)
            return pl.coalesce(_moments(text, pattern, self.zone) for pattern in self.patterns)
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
        if self.patterns:
            return f"a time {self.patterns[0]}"
        return "a number or a date"


class AmbiguousTimesError(UserError):
    """Day and month could be either way round."""


def infer_time_column(sample: pl.Series, where: str, time_format: str = "auto", zone: str | None = None) -> TimeColumn:
    """How to read a time column.

    Args:
        sample: some of its values; text needs at least one that is not null.
        where: the column in messages, e.g. "column 'Time'".
        time_format: "auto", a unit, "order", "iso" or a pattern such as "%d.%m.%Y %H:%M".
        zone: of datetimes that name none, e.g. Europe/Berlin.

    Raises:
        AmbiguousTimesError: the sample does not tell day and month apart.
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
    if kind in (pl.Categorical, pl.Enum, pl.Binary):
        kind, sample = pl.String(), sample.cast(pl.String)
    is_number = kind.is_numeric()
    if kind == pl.Date or isinstance(kind, pl.Datetime):
        return TimeColumn(kind)
    if not is_number and kind != pl.String:
        raise UserError(f"{where}: expected numbers or dates as times, got {kind}")
    values = sample.drop_nulls()
    if "%" in time_format:
        zulu = values.cast(pl.String)[:1].str.contains(ZULU).any() and "%z" not in time_format
        column = _datetimes((time_format,), "UTC" if zulu else zone, where)
        return replace(column, repairs=((ZULU, ""),)) if zulu else column
    texts = values.cast(pl.String).filter(values.cast(pl.String) != "")
    if time_format == "auto" and not texts.is_empty() and (digits := _dates_in_digits(texts)):
        return _datetimes((digits,), zone, where)
    if is_number:
        return TimeColumn(pl.Float64() if kind.is_decimal() else kind)
    if time_format != "iso":
        for dtype in (pl.Int64(), pl.Float64()):
            if not texts.cast(dtype, strict=False).null_count():
                return TimeColumn(dtype)
    mostly_float = texts.cast(pl.Float64, strict=False).null_count() < texts.len() / 2
    if time_format in ("auto", "iso") and not mostly_float:
        repaired, repairs = _repair(texts)
        if patterns := find_patterns(repaired, where):
            return replace(_datetimes(patterns, zone, where), repairs=repairs)
    return TimeColumn(pl.Float64() if mostly_float else pl.Int64())


def _dates_in_digits(texts: pl.Series) -> str:
    """The pattern of dates written as one number, such as 20231114 and 20231114223230; "" if it is none."""
    for pattern, digits in (("%Y%m%d", 8), ("%Y%m%d%H%M%S", 14)):
        if texts.str.contains(rf"^(19|20)\d{{{digits - 2}}}$").all() and not _read(texts, pattern).null_count():
            return pattern
    return ""


def find_patterns(texts: pl.Series, where: str) -> tuple[str, ...]:
    """The fewest patterns that read these times; empty if none reads any.

    Raises:
        AmbiguousTimesError: day and month could be either way round.
    """
    left = texts.unique(maintain_order=True)
    patterns: list[str] = []
    while not left.is_empty():
        candidates = [pattern for pattern in all_patterns() if _swap(pattern) not in patterns]
        readable = [pattern for pattern in candidates if not _read(left[:1], pattern).null_count()]
        if not readable:
            left = left[1:]
            continue
        misses = {pattern: _read(left, pattern).null_count() for pattern in readable}
        best = min(misses, key=lambda pattern: misses[pattern])
        twin = _swap(best)
        if misses.get(twin) == misses[best] and not _read(left, best).equals(_read(left, twin)):
            raise AmbiguousTimesError(
                f"{where}: {left[0]!r} may be in {best!r} or {twin!r}; choose one with --time-format (of gru4rec "
                "prepare)"
            )
        patterns.append(best)
        left = left.filter(_read(left, best).is_null())
    return tuple(patterns)


@cache
def all_patterns() -> tuple[str, ...]:
    """All notations that are tried, the likeliest first."""
    return tuple(date + time + zone for date in DATES for time in DAY_TIMES for zone in ZONES if time or not zone)


def suggest_format(text: str) -> str:
    """A --time-format that reads a value, for the end of a message; "" if none is known."""
    value = pl.Series([text])
    pattern = next((pattern for pattern in all_patterns() if not _read(value, pattern).null_count()), None)
    pattern = pattern or _guess_pattern(text)
    fits = "%" in pattern and not _read(value, pattern).null_count()
    return f"; --time-format '{pattern}' (of gru4rec prepare) reads it" if fits else ""


def _guess_pattern(text: str) -> str:
    """The digits of a time as year, month, day and so on, or day, month, year and so on, and the rest as it is."""
    groups = re.findall(r"\d+", text)
    year_first = bool(groups) and len(groups[0]) == 4
    order = iter([*(("%Y", "%m", "%d") if year_first else ("%d", "%m", "%Y")), "%H", "%M", "%S"])
    return re.sub(r"\d+", lambda _: next(order, "%f"), text)


def _swap(pattern: str) -> str:
    """The same pattern with day and month the other way round; "" if it names the month."""
    for one, other in (("%m/%d/", "%d/%m/"), ("%d/%m/", "%m/%d/"), ("%m-%d-", "%d-%m-"), ("%d-%m-", "%m-%d-")):
        if pattern.startswith(one):
            return other + pattern.removeprefix(one)
    return ""


def _datetimes(patterns: tuple[str, ...], zone: str | None, where: str) -> TimeColumn:
    zoned = ["%z" in pattern or pattern == "%+" for pattern in patterns]
    if any(zoned) and not all(zoned) and zone is None:
        raise UserError(
            f"{where}: some times name a zone and others do not; name that of the others with --time-zone (e.g. UTC)"
        )
    keeps_zone = any(zoned) or zone is not None
    return TimeColumn(pl.Datetime("us", "UTC" if keeps_zone else None), patterns, zone)


def _moments(text: pl.Expr, pattern: str, zone: str | None) -> pl.Expr:
    """The microseconds since 1970 of times in one notation, null where it does not fit."""
    if not any(year in pattern for year in ("%Y", "%y", "%D", "%s", "%c", "%+", "%F")):
        text, pattern = NO_YEAR + " " + text, "%Y " + pattern
    moments = text.str.to_datetime(pattern, time_unit="us", strict=False)
    if "%z" in pattern or pattern == "%+":
        return moments.to_physical()
    moments = pl.when(moments.dt.year() >= FIRST_YEAR).then(moments)  # %Y reads two digits, too
    if zone is not None and zone != "UTC":
        moments = moments.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return moments.to_physical()


def _read(texts: pl.Series, pattern: str) -> pl.Series:
    return texts.to_frame("text").select(_moments(pl.col("text"), pattern, None)).to_series()


def _repair(texts: pl.Series) -> tuple[pl.Series, tuple[tuple[str, str], ...]]:
    """The times in the notation of the patterns, and the repairs that it took."""
    done = []
    for wrong, right in REPAIRS:
        repaired = texts.str.replace(wrong, right)
        if not repaired.equals(texts):
            texts = repaired
            done.append((wrong, right))
    return texts, tuple(done)
