"""A log in any layout, as numbers.

One streaming pass over the files turns ids into numbers and times into ticks. The concurrent dictionary behind a
categorical column numbers the ids: no sorting, no second pass, and text is never held. Whether something is wrong is a
count over the result; only then are the files read again to find the row.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from gru4rec.data.clicks import Clicks, Ids, renumber
from gru4rec.data.reading.log_file import LogFile
from gru4rec.data.reading.log_rows import AS_WRITTEN, Fault, LogRows, Reading
from gru4rec.data.times import DAY, Clock, infer_clock, infer_time_unit
from inference.shared.errors import UserError

MILLISECONDS_PER_DAY = 86_400_000
LARGEST_INDEX = 2**31 - 2
EXAMPLES = 3
NAME_UNIT = "name the unit with --time-format (s, ms, us, ns, order) if they are right"
IS_BLANK = pl.all_horizontal(pl.col("session", "item", "ticks").is_null())
"""A row of a text file without anything in the columns that are read: a blank line."""


@dataclass
class Log:
    """A log as it was read.

    Attributes:
        clicks: in the files' order, or by session and order if there is a column of that; sessions may be interleaved.
            Sessions are numbered by the group column.
        wanted: which clicks [E] are of the wanted kinds; None for all of them.
        ids: behind the numbers.
        clock: what the times mean.
        rows: in the files, or clicks if a row holds several.
        blank: how many of them are blank lines; what else is missing in `clicks` was dropped.
        dropped: one line for each of the first rows that were dropped.
        warnings: what looks wrong but does not prevent the work.
    """

    clicks: Clicks
    wanted: np.ndarray | None
    ids: Ids
    clock: Clock
    rows: int
    blank: int
    dropped: tuple[str, ...]
    warnings: tuple[str, ...]

    def take_clicks(self) -> tuple[Clicks, np.ndarray | None]:
        """The clicks and which are wanted; this log keeps none, so a large one is not in memory twice."""
        taken = self.clicks, self.wanted
        self.clicks, self.wanted = self.clicks.keep(slice(0, 0)), None
        return taken


def read_log(files: list[LogFile], reading: Reading) -> Log:
    """Read a log.

    Args:
        files: at least one, read one after the other.
        reading: how; its columns are those of the first file.

    Raises:
        UserError: a file cannot be read, a column is missing, or a value is no id or no time; with file and row.
    """
    rows = LogRows(files, reading)
    frame = rows.collect_clicks()
    if frame.is_empty():
        raise UserError(f"{rows.name}: expected events, got none (the file has a header only)")
    if frame.height > LARGEST_INDEX:
        raise UserError(f"expected at most {LARGEST_INDEX:,} events, got {frame.height:,}; split the log")
    columns = {column.name: column for column in frame}
    n_rows, blank = frame.height, _blank(frame) if rows.is_text else None
    del frame  # each column is freed once it has been turned into numbers
    wanted = columns.pop("wanted").to_numpy() if reading.event_kinds else None
    if wanted is not None and not wanted.any():
        raise _no_such_events(rows)
    with ThreadPoolExecutor(2) as threads:
        of_sessions = threads.submit(_number, columns.pop("session"))
        of_items = threads.submit(_number, columns.pop("item"))
        (session, sessions), (item, items) = of_sessions.result(), of_items.result()
    times = columns.pop("ticks")
    judge = _Judge(rows, blank)
    if times.null_count():
        assert rows.time is not None
        judge.add(Fault("time", pl.col("ticks").is_null(), rows.time.expected), times.is_null().to_numpy())
    for role, numbers, names in ((rows.columns.group_role or "session", session, sessions), ("item", item, items)):
        for fault, is_bad in _id_faults(rows, role, names):
            judge.add(fault, is_bad[numbers] if role != "item" or wanted is None else is_bad[numbers] & wanted)
    clicks = Clicks(session, item, times.fill_null(0).to_numpy())
    clock = _find_clock(rows, judge.select(clicks.time))
    if rows.columns.day:
        clicks, clock = Clicks(session, item, clicks.time + _days(rows, session)), Clock("ms", pl.Int64())
    for fault, outside in _range_faults(rows, clicks.time, clock):
        judge.add(fault, outside)
    order = None
    if rows.columns.order:
        order = np.lexsort((columns["order"].to_numpy(), clicks.session))
        clicks = _never_back(clicks.keep(order))
    clicks = Clicks(*(judge.select(column, order) for column in (clicks.session, clicks.item, clicks.time)))
    if not len(clicks):
        raise UserError(f"{rows.name}: expected events, got none that are valid; {judge.lines[0]}")
    if wanted is not None:
        wanted = judge.select(wanted if order is None else wanted[order], order)
    if reading.whole_seconds:
        clicks = Clicks(clicks.session, clicks.item, clicks.time // int(clock.per_second))
        clock = Clock("s", pl.Int64(), zone=clock.zone)
    ids = Ids(sessions.cast(rows.id_type(rows.columns.group_role)), items.cast(rows.id_type("item")))
    n_blank = 0 if blank is None else int(blank.sum())
    warnings = _warnings(reading.time_format, clicks.time, clock)
    return Log(clicks, wanted, ids, clock, n_rows, n_blank, tuple(judge.lines[:EXAMPLES]), warnings)


class _Judge:
    """What is wrong with the rows: refused at once, or dropped if that is what the user wants.

    Attributes:
        lines: one for each of the first rows that are dropped.
    """

    def __init__(self, rows: LogRows, blank: np.ndarray | None):
        self._rows = rows
        self._blank = blank
        self._invalid = blank
        self.lines: list[str] = []

    def add(self, fault: Fault, is_bad: np.ndarray) -> None:
        """Add the rows [E] that have a fault; those that have another already do not count.

        Raises:
            UserError: there are some, and they are not to be dropped.
        """
        if self._invalid is not None:
            is_bad = is_bad & ~self._invalid
        if not is_bad.any():
            return
        if self._blank is not None:
            fault = replace(fault, is_bad=fault.is_bad & ~IS_BLANK)
        drops = self._rows.reading.drop_invalid
        self.lines += self._rows.describe_bad(fault, EXAMPLES if drops else 1)
        if not drops:
            raise UserError(self.lines[0])
        self._invalid = is_bad if self._invalid is None else self._invalid | is_bad

    def select(self, values: np.ndarray, order: np.ndarray | None = None) -> np.ndarray:
        """The values [E] of valid rows, which are in an order or in that of the files."""
        if self._invalid is None:
            return values
        selected: np.ndarray = values[~(self._invalid if order is None else self._invalid[order])]
        return selected


def _blank(frame: pl.DataFrame) -> np.ndarray | None:
    """Which rows are blank; None if there are none."""
    if not all(frame[name].null_count() for name in ("session", "item")):
        return None
    blank = frame.select(IS_BLANK).to_series()
    return blank.to_numpy() if blank.any() else None


def _id_faults(rows: LogRows, role: str, ids: pl.Series) -> Iterator[tuple[Fault, np.ndarray]]:
    """What is wrong with ids, and which [number of an id]. Items of unwanted events may be anything."""
    name = "item" if role == "item" else "session"
    text = pl.col(name)
    faults = [(text.is_null(), "a number or text as id")]
    if role == "item":
        faults.append((text.str.contains("\n", literal=True), "an item id on one line"))
    if any(file.kind == "json" for file in rows.files):
        faults.append((text.str.contains(r"^[\[{]"), "text or a number as id"))
    for is_bad, expected in faults:
        bad = ids.to_frame(name).select(is_bad.fill_null(False)).to_series()
        if bad.any():
            yield Fault(role, is_bad & pl.col("wanted") if role == "item" else is_bad, expected), bad.to_numpy()


def _range_faults(rows: LogRows, ticks: np.ndarray, clock: Clock) -> Iterator[tuple[Fault, np.ndarray]]:
    """Times that cannot be right [E]."""
    low, high = clock.plausible_range
    outside = (ticks < low) | (ticks >= high)
    if rows.reading.order_only or rows.time is None or not outside.any():
        return
    if rows.columns.day:
        raise UserError(f"{rows.name}: expected times after 1991 in {rows.columns.time!r} and {rows.columns.day!r}")
    tick = pl.col("ticks")
    if low == 0:
        yield Fault("time", tick < 0, "a time of at least 0"), outside
    else:
        expected = f"{clock.describe().removesuffix(' (recognised)')}, between 1991 and today like most others,"
        remedy = "; skip such rows with --drop-invalid" + ("" if rows.time.patterns else f", or {NAME_UNIT}")
        yield Fault("time", (tick < low) | (tick >= high), expected, remedy), outside


def _find_clock(rows: LogRows, ticks: np.ndarray) -> Clock:
    if rows.time is None or rows.reading.order_only or not len(ticks):
        return Clock("order", pl.Int64())
    sample, zone = ticks[:: max(1, len(ticks) // 100_000)], rows.reading.time_zone
    try:
        return infer_clock(sample, rows.time.dtype, rows.time_format, zone, recognised=bool(rows.time.patterns))
    except UserError as error:
        raise UserError(f"{rows.name}: column {rows.columns.time!r}: {error}") from None


def _days(rows: LogRows, session: np.ndarray) -> np.ndarray:
    """For each click, the first day of its session in milliseconds since 1970."""
    column = rows.infer_times("day", "iso")
    day = column.ticks(pl.col("day" + AS_WRITTEN))
    days = rows.collect(lambda frame: frame.select(day=day))["day"]
    if days.null_count():
        raise UserError(next(rows.describe_bad(Fault("day", day.is_null(), column.expected), 1)))
    ticks = days.to_numpy().astype(np.int64)
    first = np.full(int(session.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, session, ticks // round(DAY * infer_clock(ticks, column.dtype).per_second))
    earliest: np.ndarray = first[session]
    return earliest * MILLISECONDS_PER_DAY


def _no_such_events(rows: LogRows) -> UserError:
    kinds = rows.collect(lambda frame: frame.select(event=pl.col("event" + AS_WRITTEN).cast(pl.String)))["event"]
    found = ", ".join(map(repr, kinds.value_counts(sort=True)["event"].head(12)))
    return UserError(
        f"{rows.name}: expected events of the kind {' or '.join(rows.reading.event_kinds)} in column "
        f"{rows.columns.event!r}, found only {found}: the event filter removed everything"
    )


def _warnings(given: str, ticks: np.ndarray, clock: Clock) -> tuple[str, ...]:
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
