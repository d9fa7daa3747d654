"""A log in any layout, as numbers.

One streaming pass over the files turns ids into numbers and times into ticks. The concurrent dictionary behind a
categorical column numbers the ids: no sorting, no second pass, and text is never held. Whether something is wrong is a
count over the result; only then are the files read again to find the row.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl
from polars import selectors

from gru4rec.data.clicks import Clicks, Ids, renumber
from gru4rec.data.polars_errors import READING_ERRORS
from gru4rec.data.reading.columns import LogColumns
from gru4rec.data.reading.log_file import LogFile, bad_value, reading_errors
from gru4rec.data.reading.roles import check_columns
from gru4rec.data.reading.rows import ROW, SAMPLE_ROWS, kinds_of, select_rows
from gru4rec.data.reading.time_columns import AmbiguousTimesError, TimeColumn, infer_time_column, suggest_format
from gru4rec.data.times import DAY, Clock, infer_clock, infer_time_unit
from inference.shared.errors import UserError

MILLISECONDS_PER_DAY = 86_400_000
LARGEST_INDEX = 2**31 - 2
EXAMPLES = 3
AS_WRITTEN = "_as_written"
NAME_UNIT = "name the unit with --time-format (s, ms, us, ns, order) if they are right"


@dataclass(frozen=True)
class Reading:
    """How to read the files.

    Attributes:
        columns: which is which.
        event_kinds: the wanted kinds of events; empty for all.
        time_format: "auto", a unit, "iso" or a pattern.
        time_zone: of datetimes that name none.
        whole_seconds: truncate times to seconds since 1970.
        item_separator: between the items of one cell; "" if a cell holds one.
        drop_invalid: drop rows without an id or a time instead of refusing them.
        order_only: times only order the clicks; what they mean does not matter.
    """

    columns: LogColumns
    event_kinds: tuple[str, ...] = ()
    time_format: str = "auto"
    time_zone: str | None = None
    whole_seconds: bool = False
    item_separator: str = ""
    drop_invalid: bool = False
    order_only: bool = False


@dataclass
class Log:
    """A log as it was read.

    Attributes:
        clicks: in the files' order, or by session and order if there is a column of that; sessions may be interleaved.
            Sessions are numbered by the group column.
        wanted: which clicks [E] are of the wanted kinds; None for all of them.
        ids: behind the numbers.
        clock: what the times mean.
        rows: clicks in the files; those that are missing in `clicks` were dropped.
        dropped: one line for each of the first rows that were dropped.
        warnings: what looks wrong but does not prevent the work.
    """

    clicks: Clicks
    wanted: np.ndarray | None
    ids: Ids
    clock: Clock
    rows: int
    dropped: tuple[str, ...]
    warnings: tuple[str, ...]

    def take_clicks(self) -> tuple[Clicks, np.ndarray | None]:
        """The clicks and which are wanted; this log keeps none, so a large one is not in memory twice."""
        taken = self.clicks, self.wanted
        self.clicks, self.wanted = self.clicks.keep(slice(0, 0)), None
        return taken


@dataclass(frozen=True)
class _Fault:
    """What is wrong with some rows.

    Attributes:
        role: of the column.
        is_bad: condition on the columns of `_Reader._rows`.
        expected: what the values should have been.
        mask: the rows that have it [E]; None for some.
        remedy: what to do, for the end of the message.
    """

    role: str
    is_bad: pl.Expr
    expected: str
    mask: np.ndarray | None = None
    remedy: str = ""


def read_log(files: list[LogFile], reading: Reading) -> Log:
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

    def __init__(self, files: list[LogFile], reading: Reading):
        self._files = files
        self._reading = reading
        self._columns = reading.columns
        self._names = reading.columns.named
        self._kinds = [kinds_of(file, self._names) for file in files]
        self._mixed = {role for role in self._names if len({kinds[role] for kinds in self._kinds}) > 1}
        self._times: dict[str, TimeColumn] = {}
        if self._columns.time:
            self._infer_times("time", "ms" if self._columns.day else reading.time_format)

    def log(self) -> Log:
        frame = self._collect_clicks()
        if frame["time"].null_count() and self._widen_times():
            frame = self._collect_clicks()
        if frame.is_empty():
            raise UserError(f"{self._files[0].source.name}: expected events, got none (the file has a header only)")
        if frame.height > LARGEST_INDEX:
            raise UserError(f"expected at most {LARGEST_INDEX:,} events, got {frame.height:,}; split the log")
        columns = {column.name: column for column in frame}
        n_rows = frame.height
        del frame  # each column is freed once it has been turned into numbers
        wanted = columns.pop("wanted").to_numpy() if self._reading.event_kinds else None
        if wanted is not None and not wanted.any():
            raise self._no_such_events()
        with ThreadPoolExecutor(2) as threads:
            of_groups = threads.submit(_number, columns.pop("group"))
            of_items = threads.submit(_number, columns.pop("item"))
            (session, sessions), (item, items) = of_groups.result(), of_items.result()
        times = columns.pop("time")
        faults = list(self._time_faults(times))
        faults += self._id_faults(self._columns.group_role or "session", session, sessions, None)
        faults += self._id_faults("item", item, items, wanted)
        invalid, dropped = self._judge(faults, n_rows)
        clicks = Clicks(session, item, times.fill_null(0).to_numpy())
        clock = self._infer_clock(clicks.time if invalid is None else clicks.time[~invalid])
        if self._columns.day:
            clicks = Clicks(clicks.session, clicks.item, clicks.time + self._days(clicks.session))
            clock = Clock("ms", pl.Int64())
        late, more = self._judge(list(self._range_faults(clicks.time, clock, invalid)), n_rows)
        invalid = late if invalid is None else invalid if late is None else invalid | late
        if self._columns.order:
            order = np.lexsort((columns["order"].to_numpy(), clicks.session))
            clicks = _never_back(clicks.keep(order))
            wanted, invalid = (None if mask is None else mask[order] for mask in (wanted, invalid))
        if invalid is not None:
            clicks = clicks.keep(~invalid)
            wanted = None if wanted is None else wanted[~invalid]
        if not len(clicks):
            raise UserError(f"{self._files[0].source.name}: expected events, got none that are valid; {dropped[0]}")
        if self._reading.whole_seconds:
            clicks = Clicks(clicks.session, clicks.item, clicks.time // int(clock.per_second))
            clock = Clock("s", pl.Int64(), zone=clock.zone)
        ids = Ids(self._as_in_files(self._columns.group_role, sessions), self._as_in_files("item", items))
        warnings = self._warnings(clicks.time, clock)
        return Log(clicks, wanted, ids, clock, n_rows, (*dropped, *more)[:EXAMPLES], warnings)

    # What is read.

    def _rows(self, file: LogFile, kinds: dict[str, pl.DataType]) -> pl.LazyFrame:
        """The rows of a file: ids as text and times as ticks, null where they are neither, and all as written."""
        role, number = self._columns.group_role, pl.col(ROW).cast(pl.String)
        if len(self._files) > 1:
            number = pl.format("{}-{}", pl.lit(self._files.index(file) + 1), number)
        rows = select_rows(file, self._names, self._reading.item_separator)
        time = self._times["time"].ticks(self._value("time")) if self._columns.time else pl.lit(0)
        selected = rows.select(
            ROW,
            pl.col(*self._names).name.suffix(AS_WRITTEN),
            group=_as_id(pl.col(role), kinds[role]) if role else number,
            item_id=_as_id(pl.col("item"), kinds["item"]),
            ticks=time,
            wanted=self._is_wanted(),
        )
        if file.kind != "text":
            return selected
        written = [pl.col(name + AS_WRITTEN) for name in self._names]
        return selected.filter(
            ~pl.all_horizontal((value.is_null() | (value == "")) for value in written)
        )  # blank lines

    def _collect_clicks(self) -> pl.DataFrame:
        groups, items = pl.Categorical(pl.Categories.random()), pl.Categorical(pl.Categories.random())
        columns = {
            "group": pl.col("group").cast(groups),
            "item": pl.col("item_id").cast(items),
            "time": pl.col("ticks"),
        }
        if self._reading.event_kinds:
            columns["wanted"] = pl.col("wanted")
        if self._columns.order:
            columns["order"] = pl.col("order" + AS_WRITTEN).cast(pl.Float64, strict=False)
        frame = self._collect(lambda rows: rows.select(**columns))
        return frame if self._columns.time else frame.with_columns(time=pl.int_range(pl.len()))

    def _collect(self, select: Callable[[pl.LazyFrame], pl.LazyFrame]) -> pl.DataFrame:
        frames = [select(self._rows(file, kinds)) for file, kinds in zip(self._files, self._kinds, strict=True)]
        try:
            return pl.concat(frames).collect(engine="streaming")
        except READING_ERRORS:
            for file, frame in zip(self._files, frames, strict=True):  # find the one at fault
                with reading_errors(file):
                    frame.collect(engine="streaming")
            raise

    def _value(self, role: str) -> pl.Expr:
        """A role's values, as text if the files have different types."""
        return pl.col(role).cast(pl.String) if role in self._mixed else pl.col(role)

    def _is_wanted(self) -> pl.Expr:
        if not self._reading.event_kinds:
            return pl.lit(True)
        return pl.col("event").cast(pl.String).is_in(self._reading.event_kinds).fill_null(False)

    # How times are written.

    def _infer_times(self, role: str, time_format: str, unread: pl.Series | None = None) -> None:
        """Decide it by the first rows of every file, and by values that could not be read."""
        where = f"{self._files[0].source.name}: column {self._names[role]!r}"
        sample = self._sample(role, SAMPLE_ROWS)
        if unread is not None:
            sample = pl.concat([sample.cast(pl.String), unread])
        try:
            column = infer_time_column(sample, where, time_format, self._reading.time_zone)
        except AmbiguousTimesError:
            column = infer_time_column(self._sample(role, None), where, time_format, self._reading.time_zone)
        self._times[role] = column

    def _sample(self, role: str, n_rows: int | None) -> pl.Series:
        samples = []
        for file in self._files:
            rows = select_rows(file, self._names, self._reading.item_separator).select(self._value(role))
            with reading_errors(file):
                samples.append((rows.head(n_rows) if n_rows else rows.unique()).collect()[role])
        return pl.concat(samples)

    def _widen_times(self) -> bool:
        """Take the times into account that are written in another way than the first ones; true if it helps."""
        is_unread = pl.col("ticks").is_null()
        text = pl.col("time" + AS_WRITTEN).cast(pl.String)
        unread = self._collect(lambda rows: rows.filter(is_unread).select(time=text).unique())["time"].drop_nulls()
        unread = unread.filter(unread != "")
        if (self._times["time"].dtype.is_temporal() and not self._times["time"].patterns) or not len(unread):
            return False
        before = self._times["time"]
        self._infer_times("time", "ms" if self._columns.day else self._reading.time_format, unread)
        return self._times["time"] != before

    def _infer_clock(self, ticks: np.ndarray) -> Clock:
        if not self._columns.time or self._reading.order_only or not len(ticks):
            return Clock("order", pl.Int64())
        sample = ticks[:: max(1, len(ticks) // 100_000)]
        column = self._times["time"]
        try:
            return infer_clock(
                sample,
                column.dtype,
                self._reading.time_format if not self._columns.day else "ms",
                self._reading.time_zone,
                recognised=bool(column.patterns),
            )
        except UserError as error:
            raise UserError(f"{self._files[0].source.name}: column {self._columns.time!r}: {error}") from None

    def _days(self, session: np.ndarray) -> np.ndarray:
        """For each click, the first day of its session in milliseconds since 1970."""
        self._infer_times("day", "iso")
        column = self._times["day"]
        days = self._collect(lambda rows: rows.select(day=column.ticks(pl.col("day" + AS_WRITTEN))))["day"]
        if days.null_count():
            self._judge([_Fault("day", column.ticks(pl.col("day" + AS_WRITTEN)).is_null(), column.expected)], len(days))
        ticks = days.to_numpy().astype(np.int64)
        first = np.full(int(session.max()) + 1, np.iinfo(np.int64).max)
        np.minimum.at(first, session, ticks // round(DAY * infer_clock(ticks, column.dtype).per_second))
        earliest: np.ndarray = first[session]
        return earliest * MILLISECONDS_PER_DAY

    # What is wrong.

    def _time_faults(self, times: pl.Series) -> Iterator[_Fault]:
        if times.null_count():
            yield _Fault("time", pl.col("ticks").is_null(), self._times["time"].expected, times.is_null().to_numpy())

    def _id_faults(self, role: str, numbers: np.ndarray, ids: pl.Series, wanted: np.ndarray | None) -> Iterator[_Fault]:
        """What is wrong with ids. Items of unwanted events may be anything: a page view has none."""
        text = pl.col("item_id" if role == "item" else "group")
        faults = [(text.is_null(), "a number or text as id")]
        if role == "item":
            faults.append((text.str.contains("\n", literal=True), "an item id on one line"))
        if any(file.kind == "json" for file in self._files):
            faults.append((text.str.contains(r"^[\[{]"), "text or a number as id"))
        for is_bad, expected in faults:
            bad = ids.to_frame(text.meta.output_name()).select(is_bad.fill_null(False)).to_series()
            if bad.any():
                mask = bad.to_numpy()[numbers]
                if wanted is not None:
                    mask, is_bad = mask & wanted, is_bad & pl.col("wanted")
                yield _Fault(role, is_bad, expected, mask)

    def _range_faults(self, ticks: np.ndarray, clock: Clock, invalid: np.ndarray | None) -> Iterator[_Fault]:
        low, high = clock.plausible_range
        outside = (ticks < low) | (ticks >= high)
        if invalid is not None:
            outside &= ~invalid
        if not outside.any():
            return
        if self._columns.day:
            raise UserError(
                f"{self._files[0].source.name}: expected times after 1970 in {self._columns.time!r} and "
                f"{self._columns.day!r}"
            )
        tick = pl.col("ticks")
        if self._reading.order_only:
            return
        if low == 0:
            yield _Fault("time", tick < 0, "a time of at least 0", outside)
            return
        yield _Fault(
            "time",
            (tick < low) | (tick >= high),
            f"{clock.describe().removesuffix(' (recognised)')}, between 1991 and today like most others,",
            outside,
            "; skip such rows with --drop-invalid" + ("" if self._times["time"].patterns else f", or {NAME_UNIT}"),
        )

    def _judge(self, faults: list[_Fault], n_rows: int) -> tuple[np.ndarray | None, list[str]]:
        """Refuse the first fault, or tell which rows have one, with a line for each of the first."""
        faults = [fault for fault in faults if fault.mask is None or fault.mask.any()]
        if not faults:
            return None, []
        lines = [line for fault in faults for line in self._describe_rows(fault)]
        if not self._reading.drop_invalid:
            raise UserError(lines[0])
        masks = [fault.mask for fault in faults if fault.mask is not None]
        return np.logical_or.reduce(masks), lines

    def _describe_rows(self, fault: _Fault) -> Iterator[str]:
        """A line for each of the first rows with a fault."""
        left = EXAMPLES if self._reading.drop_invalid else 1
        value = fault.role + AS_WRITTEN
        for file, kinds in zip(self._files, self._kinds, strict=True):
            found = self._rows(file, kinds).filter(fault.is_bad).select(ROW, value).head(left).collect()
            left -= found.height
            for place in range(found.height):
                try:
                    row, written = found.row(place)
                except (ValueError, OverflowError, pl.exceptions.PanicException):  # no date that a calendar holds
                    row, written = found.with_columns(selectors.temporal().to_physical()).row(place)
                remedy = fault.remedy
                if fault.role == "time" and not remedy and isinstance(written, str) and written:
                    remedy = suggest_format(written)
                yield str(bad_value(file, row, self._names[fault.role], written, fault.expected, remedy))

    def _no_such_events(self) -> UserError:
        kinds = self._collect(lambda rows: rows.select(event=pl.col("event" + AS_WRITTEN).cast(pl.String)))["event"]
        found = ", ".join(map(repr, kinds.value_counts(sort=True)["event"].head(12)))
        return UserError(
            f"{self._files[0].source.name}: expected events of the kind {' or '.join(self._reading.event_kinds)} in "
            f"column {self._columns.event!r}, found only {found}: the event filter removed everything"
        )

    def _warnings(self, ticks: np.ndarray, clock: Clock) -> tuple[str, ...]:
        given = self._reading.time_format
        if given not in ("s", "ms", "us", "ns"):
            return ()
        seen = infer_time_unit(float(np.median(ticks)))
        if seen in (given, "order", None):
            return ()
        last = clock.format_time(float(ticks.max()))
        return (
            f"the times are read as {given}, as asked, so the last one is at {last}; they look like {seen}: "
            f"--time-format {seen}",
        )

    def _as_in_files(self, role: str | None, ids: pl.Series) -> pl.Series:
        """Ids as integers, if they are integers of one type in all files."""
        kinds = {kinds[role] for kinds in self._kinds} if role else {pl.Int64()}
        kind = kinds.pop()
        return ids.cast(kind) if not kinds and kind.is_integer() and (role or len(self._files) == 1) else ids


def _as_id(column: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Ids as text, null where there is none; numbers must be whole."""
    if kind.is_float() or kind.is_decimal():
        column = pl.when(column == column.floor()).then(column).cast(pl.Int64, strict=False)
    text = column.cast(pl.String, strict=False)
    return pl.when(text != "").then(text)


def _number(column: pl.Series) -> tuple[np.ndarray, pl.Series]:
    """The numbers of a column of ids, int32 [E], and the id of each number; a missing id has a number, too."""
    codes = column.to_physical()
    if codes.null_count():
        codes = codes.fill_null(codes.fill_null(0).to_numpy().max() + 1)
    numbers, places = renumber(codes.to_numpy())
    return numbers, column.gather(places).cast(pl.String)


def _never_back(clicks: Clicks) -> Clicks:
    """Clicks whose times never go back in a session, for clicks that are in another order than that of time."""
    frame = pl.DataFrame({"session": clicks.session, "time": clicks.time})
    time = frame.select(pl.col("time").cum_max().over("session"))["time"].to_numpy()
    return Clicks(clicks.session, clicks.item, time)
