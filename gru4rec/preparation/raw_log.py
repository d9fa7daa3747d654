"""A raw log in any readable form, as numbers.

One streaming pass over the files turns ids into numbers and times into ticks. The concurrent dictionary behind a
categorical column numbers the ids: no sorting, no second pass, and text is never held. Whether something is wrong is a
count over the result; only then are the files read again to find the row.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from polars import selectors

from gru4rec.data.clicks import Clicks, Ids, renumber
from gru4rec.data.event_files import (
    READING_ERRORS,
    EventFile,
    bad_value,
    check_columns,
    reading_errors,
)
from gru4rec.data.times import DAY, Clock, infer_clock, infer_time_column, infer_time_unit
from gru4rec.preparation.columns import RawColumns
from inference.shared.errors import UserError

SAMPLE_ROWS = 1000
MILLISECONDS_PER_DAY = 86_400_000
LARGEST_INDEX = 2**31 - 2


@dataclass
class RawLog:
    """A raw log as it was read.

    Attributes:
        clicks: in the files' order; sessions may be interleaved. Sessions are numbered by the group column.
        wanted: which clicks [E] are of the wanted kinds; None for all of them.
        ids: behind the numbers.
        clock: what the times mean.
        warnings: what looks wrong but does not prevent the work.
    """

    clicks: Clicks
    wanted: np.ndarray | None
    ids: Ids
    clock: Clock
    warnings: tuple[str, ...]

    def take_clicks(self) -> tuple[Clicks, np.ndarray | None]:
        """The clicks and which are wanted; this log keeps none, so a large one is not in memory twice."""
        taken = self.clicks, self.wanted
        self.clicks, self.wanted = self.clicks.keep(slice(0, 0)), None
        return taken


@dataclass(frozen=True)
class Reading:
    """How to read the files.

    Attributes:
        columns: which is which.
        event_kinds: the wanted kinds of events; empty for all.
        time_format: "auto", a unit, "iso" or a pattern.
        time_zone: of datetimes that name none.
        whole_seconds: truncate times to seconds since 1970.
    """

    columns: RawColumns
    event_kinds: tuple[str, ...] = ()
    time_format: str = "auto"
    time_zone: str | None = None
    whole_seconds: bool = False


def read_raw(files: list[EventFile], reading: Reading) -> RawLog:
    """Read a log.

    Args:
        files: at least one, read one after the other.
        reading: how; its columns are those of the first file.

    Raises:
        UserError: a file cannot be read, a column is missing, or a value is no id or no time; with file and row.
    """
    for file in files:
        check_columns(file, reading.columns.named)
    return _Reader(files, reading).log()


class _Reader:
    """The files with what is known of them."""

    def __init__(self, files: list[EventFile], reading: Reading):
        self._files = files
        self._reading = reading
        self._columns = reading.columns
        assert self._columns.item is not None
        assert self._columns.time is not None
        self._item, self._time = self._columns.item, self._columns.time
        times = self._sample(self._time)
        self._time_is_text = times.dtype == pl.String
        format_of_time = "ms" if self._columns.day else reading.time_format
        where = f"column {self._time!r}"
        self._time_column = infer_time_column(times, where, format_of_time, reading.time_zone)

    def log(self) -> RawLog:
        frame = self._collect_clicks()
        if frame["time"].null_count() and self._time_is_text and self._time_column.dtype.is_integer():
            self._time_column = replace(self._time_column, dtype=pl.Float64())  # fractions after whole numbers
            frame = self._collect_clicks()
        if frame.is_empty():
            raise UserError(f"{self._files[0].path}: expected events, got none (the file has a header only)")
        if frame.height > LARGEST_INDEX:
            raise UserError(f"expected at most {LARGEST_INDEX:,} events, got {frame.height:,}; split the log")
        wanted = frame["wanted"].to_numpy() if self._reading.event_kinds else None
        if wanted is not None and not wanted.any():
            raise self._no_such_events()
        if frame["time"].null_count():
            is_bad = self._time_column.ticks(pl.col(self._time)).is_null()
            self._refuse_rows(self._time, is_bad, self._time_column.expected)
        columns = {column.name: column for column in frame}
        del frame  # each column is freed once it has been turned into numbers
        with ThreadPoolExecutor(2) as threads:
            of_groups = threads.submit(self._numbers, columns.pop("group"), self._columns.group)
            of_items = threads.submit(self._numbers, columns.pop("item"), self._item)
            (session, sessions), (item, items) = of_groups.result(), of_items.result()
        clicks = Clicks(session, item, columns.pop("time").to_numpy())
        sample = clicks.time[:: max(1, len(clicks) // 100_000)]
        clock = infer_clock(sample, self._time_column, self._reading.time_format, self._reading.time_zone)
        if self._columns.day:
            clicks = Clicks(clicks.session, clicks.item, clicks.time + self._days(clicks.session))
            clock = Clock("ms", pl.Int64())
        self._check_times(clicks.time, clock)
        if self._reading.whole_seconds:
            clicks = Clicks(clicks.session, clicks.item, clicks.time // int(clock.per_second))
            clock = Clock("s", pl.Int64(), zone=clock.zone)
        return RawLog(clicks, wanted, Ids(sessions, items), clock, self._warnings(clicks.time, clock))

    def _collect_clicks(self) -> pl.DataFrame:
        groups, items = pl.Categorical(pl.Categories.random()), pl.Categorical(pl.Categories.random())
        return self._collect_files(
            lambda file: file.frame.select(
                pl.col(self._columns.group).cast(pl.String).cast(groups).alias("group"),
                pl.col(self._item).cast(pl.String).cast(items).alias("item"),
                self._time_column.ticks(pl.col(self._time)).alias("time"),
                *([self._is_wanted().alias("wanted")] if self._reading.event_kinds else []),
            )
        )

    def _collect_files(self, select: Callable[[EventFile], pl.LazyFrame]) -> pl.DataFrame:
        try:
            return pl.concat([select(file) for file in self._files]).collect(engine="streaming")
        except READING_ERRORS:
            for file in self._files:  # find the one at fault
                with reading_errors(file):
                    select(file).collect(engine="streaming")
            raise

    def _sample(self, name: str) -> pl.Series:
        samples = []
        for file in self._files:
            with reading_errors(file):
                samples.append(file.frame.select(name).head(SAMPLE_ROWS).collect()[name])
            if samples[-1].dtype != samples[0].dtype:
                raise UserError(
                    f"{file.path}: expected times of one type in all files, got {samples[-1].dtype} in column {name!r} "
                    f"after {samples[0].dtype} in {self._files[0].path}; convert one of them"
                )
        return pl.concat(samples)

    def _is_wanted(self) -> pl.Expr:
        if not self._reading.event_kinds:
            return pl.lit(True)
        assert self._columns.event is not None
        return pl.col(self._columns.event).cast(pl.String).is_in(self._reading.event_kinds).fill_null(False)

    def _numbers(self, column: pl.Series, name: str) -> tuple[np.ndarray, pl.Series]:
        """The numbers of a column of ids, and the id of each number; of integer type if all files agree on one."""
        codes = column.to_physical()
        if codes.null_count():
            codes = codes.fill_null(codes.fill_null(0).to_numpy().max() + 1)
        numbers, places = renumber(codes.to_numpy())
        ids = column.gather(places).cast(pl.String)
        text = pl.col(name).cast(pl.String)
        self._refuse(name, ids, text.is_null() | (text == ""), "a value")
        if name == self._item:
            self._refuse(name, ids, text.str.contains("\n", literal=True), "an item id on one line")
        if any(file.kind == "json" for file in self._files):
            self._refuse(name, ids, text.str.contains(r"^[\[{]"), "text or a number as id")
        kinds = {file.schema()[name] for file in self._files}
        kind = kinds.pop()
        return numbers, ids.cast(kind) if not kinds and kind.is_integer() else ids

    def _refuse(self, name: str, ids: pl.Series, is_bad: pl.Expr, expected: str) -> None:
        """Raise if a condition holds for one of the ids; only then are the rows read.

        Items of unwanted events may be anything: a page view has none.
        """
        if ids.to_frame(name).select(is_bad.any()).item():
            self._refuse_rows(name, is_bad & self._is_wanted() if name == self._item else is_bad, expected)

    def _days(self, session: np.ndarray) -> np.ndarray:
        """For each click, the first day of its session in milliseconds since 1970."""
        name = self._columns.day
        assert name is not None
        column = infer_time_column(self._sample(name), f"column {name!r}", "iso")
        days = self._collect_files(lambda file: file.frame.select(column.ticks(pl.col(name)).alias("day")))["day"]
        if days.null_count():
            self._refuse_rows(name, column.ticks(pl.col(name)).is_null(), column.expected)
        ticks = days.to_numpy().astype(np.int64)
        first = np.full(int(session.max()) + 1, np.iinfo(np.int64).max)
        np.minimum.at(first, session, ticks // round(DAY * infer_clock(ticks, column).per_second))
        earliest: np.ndarray = first[session]
        return earliest * MILLISECONDS_PER_DAY

    def _check_times(self, ticks: np.ndarray, clock: Clock) -> None:
        low, high = clock.plausible_range
        if ticks.min() >= low and ticks.max() < high:
            return
        if self._columns.day:
            raise UserError(
                f"{self._files[0].path}: expected times after 1970 in {self._time!r} and {self._columns.day!r}"
            )
        tick = self._time_column.ticks(pl.col(self._time))
        if ticks.min() < 0:
            expected = "a time of at least 0" if not self._time_column.dtype.is_temporal() else "a time after 1973"
            self._refuse_rows(self._time, tick < 0, expected)
        self._refuse_rows(
            self._time,
            (tick < low) | (tick >= high),
            f"{clock.describe().removesuffix(' (recognised)')} like most others",
            "; if it is right, name the unit with --time-format (s, ms, us, ns, order)",
        )

    def _warnings(self, ticks: np.ndarray, clock: Clock) -> tuple[str, ...]:
        given = self._reading.time_format
        if given not in ("s", "ms", "us", "ns"):
            return ()
        seen = infer_time_unit(float(np.median(ticks)))
        if seen in (given, "order"):
            return ()
        last = clock.format_time(float(ticks.max()))
        return (
            f"the times are read as {given}, as asked, so the last one is at {last}; they look like {seen}: "
            f"--time-format {seen}",
        )

    def _no_such_events(self) -> UserError:
        name = self._columns.event
        assert name is not None
        kinds = self._collect_files(lambda file: file.frame.select(pl.col(name).cast(pl.String)))
        found = ", ".join(map(repr, kinds[name].value_counts(sort=True)[name].head(12)))
        return UserError(
            f"{self._files[0].path}: expected events of the kind {' or '.join(self._reading.event_kinds)} in column "
            f"{name!r}, found only {found}: the event filter removed everything"
        )

    def _refuse_rows(self, name: str, is_bad: pl.Expr, expected: str, remedy: str = "") -> None:
        """Raise for the first row for which a condition on a column holds, if there is one."""
        for file in self._files:
            rows = file.frame.with_row_index("row", 1).filter(is_bad).select("row", name).head(1)
            found = rows.collect(engine="streaming")
            if found.height:
                try:
                    row, value = found.row(0)
                except (ValueError, OverflowError, pl.exceptions.PanicException):  # no date that a calendar holds
                    row, value = found.with_columns(selectors.temporal().to_physical()).row(0)
                raise bad_value(file, row, name, value, expected, remedy)
