"""The rows of a log's files in one form: ids as text, times as ticks, and everything as it is written."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import polars as pl
from polars import selectors

from gru4rec.data.polars_errors import READING_ERRORS
from gru4rec.data.reading.columns import LogColumns
from gru4rec.data.reading.log_file import LogFile, bad_value, reading_errors
from gru4rec.data.reading.roles import check_columns
from gru4rec.data.reading.rows import ROW, SAMPLE_ROWS, select_rows
from gru4rec.data.reading.time_columns import AmbiguousTimesError, TimeColumn, infer_time_column, suggest_format

AS_WRITTEN = "_as_written"


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


@dataclass(frozen=True)
class Fault:
    """What is wrong with some rows.

    Attributes:
        role: of the column.
        is_bad: condition on the columns of `LogRows.of`.
        expected: what the values should have been.
        remedy: what to do, for the end of the message.
    """

    role: str
    is_bad: pl.Expr
    expected: str
    remedy: str = ""


class LogRows:
    """The rows of files.

    Args:
        files: at least one, read one after the other.
        reading: how; its columns are those of the first file.

    Raises:
        UserError: a file cannot be read, or a column is missing or cannot hold ids or times.
    """

    def __init__(self, files: list[LogFile], reading: Reading):
        self.files, self.reading = files, reading
        self.columns, self.names = reading.columns, reading.columns.named
        self._kinds = [check_columns(file, self.names) for file in files]
        self.name = files[0].source.name
        self.is_text = all(file.kind == "text" for file in files)
        self._mixed = {role for role in self.names if len({kinds[role] for kinds in self._kinds}) > 1}
        self.time = self.infer_times("time", self.time_format) if self.columns.time else None

    @property
    def time_format(self) -> str:
        """How times are written, as far as it is known; those that count from a day are milliseconds."""
        return "ms" if self.columns.day else self.reading.time_format

    def of(self, file: LogFile) -> pl.LazyFrame:
        """The rows of a file.

        Returns:
            A frame with "row" (from 1), "session" and "item" (text), "ticks", null where a value is none of these,
            "wanted" (is of the wanted kinds), and each role's value with the suffix `AS_WRITTEN`.
        """
        kinds = self._kinds[self.files.index(file)]
        role, number = self.columns.group_role, pl.col(ROW).cast(pl.String)
        if len(self.files) > 1:
            number = pl.format("{}-{}", pl.lit(self.files.index(file) + 1), number)
        return select_rows(file, self.names, self.reading.item_separator).select(
            ROW,
            pl.col(*self.names).name.suffix(AS_WRITTEN),
            session=_as_id(pl.col(role), kinds[role]) if role else number,
            item=_as_id(pl.col("item"), kinds["item"]),
            ticks=self.time.ticks(self._value("time")) if self.time else pl.lit(0),
            wanted=self._is_wanted(),
        )

    def collect_clicks(self) -> pl.DataFrame:
        """All rows: "session" and "item" as categories, "ticks", and "wanted" and "order" if they matter."""
        sessions, items = pl.Categorical(pl.Categories.random()), pl.Categorical(pl.Categories.random())
        columns = [pl.col("session").cast(sessions), pl.col("item").cast(items), pl.col("ticks")]
        if self.reading.event_kinds:
            columns.append(pl.col("wanted"))
        if self.columns.order:
            columns.append(pl.col("order" + AS_WRITTEN).cast(pl.Float64, strict=False).alias("order"))
        frame = self.collect(lambda rows: rows.select(columns))
        if self.time is None:
            return frame.with_columns(ticks=pl.int_range(pl.len()))
        if frame["ticks"].null_count() and self._widen_times():
            return self.collect(lambda rows: rows.select(columns))
        return frame

    def collect(self, select: Callable[[pl.LazyFrame], pl.LazyFrame]) -> pl.DataFrame:
        """Some columns or rows of all files, one after the other.

        Raises:
            UserError: a file cannot be read; it is named.
        """
        frames = [select(self.of(file)) for file in self.files]
        try:
            return pl.concat(frames).collect(engine="streaming")
        except READING_ERRORS:
            for file, frame in zip(self.files, frames, strict=True):  # find the one at fault
                with reading_errors(file):
                    frame.collect(engine="streaming")
            raise

    def infer_times(self, role: str, time_format: str, unread: pl.Series | None = None) -> TimeColumn:
        """How a role's times are written, by the first rows of every file, and by values that could not be read."""
        where = f"{self.name}: column {self.names[role]!r}"
        sample = self._sample(role, SAMPLE_ROWS)
        if unread is not None:
            sample = pl.concat([sample.cast(pl.String), unread])
        try:
            return infer_time_column(sample, where, time_format, self.reading.time_zone)
        except AmbiguousTimesError:
            return infer_time_column(self._sample(role, None), where, time_format, self.reading.time_zone)

    def describe_bad(self, fault: Fault, count: int) -> Iterator[str]:
        """A line for each of the first rows with a fault."""
        for file in self.files:
            value = fault.role + AS_WRITTEN
            found = self.of(file).filter(fault.is_bad).select(ROW, value).head(count).collect(engine="streaming")
            count -= found.height
            for place in range(found.height):
                try:
                    row, written = found.row(place)
                except (ValueError, OverflowError, pl.exceptions.PanicException):  # no date that a calendar holds
                    row, written = found.with_columns(selectors.temporal().to_physical()).row(place)
                remedy = fault.remedy
                if fault.role == "time" and not remedy and isinstance(written, str) and written:
                    remedy = suggest_format(written)
                yield str(bad_value(file, row, self.names[fault.role], written, fault.expected, remedy))

    def id_type(self, role: str | None) -> pl.DataType:
        """The type of a role's ids: integers if they are integers of one type in all files, else text."""
        kinds = {kinds[role] for kinds in self._kinds} if role else {pl.String()}
        kind = kinds.pop()
        return kind if not kinds and kind.is_integer() else pl.String()

    def _value(self, role: str) -> pl.Expr:
        """A role's values, as text if the files have different types."""
        return pl.col(role).cast(pl.String) if role in self._mixed else pl.col(role)

    def _is_wanted(self) -> pl.Expr:
        if not self.reading.event_kinds:
            return pl.lit(True)
        return pl.col("event").cast(pl.String).is_in(self.reading.event_kinds).fill_null(False)

    def _sample(self, role: str, n_rows: int | None) -> pl.Series:
        samples = []
        for file in self.files:
            rows = select_rows(file, self.names, self.reading.item_separator).select(self._value(role))
            with reading_errors(file):
                samples.append((rows.head(n_rows) if n_rows else rows.unique()).collect()[role])
        return pl.concat(samples)

    def _widen_times(self) -> bool:
        """Take the times into account that are written in another way than the first ones; true if it helps."""
        before = self.time
        if before is None or (before.dtype.is_temporal() and not before.patterns):
            return False
        text = pl.col("time" + AS_WRITTEN).cast(pl.String)
        is_unread = pl.col("ticks").is_null() & (text != "")
        unread = self.collect(lambda rows: rows.filter(is_unread).select(time=text).unique())["time"]
        if len(unread):
            self.time = self.infer_times("time", self.time_format, unread)
        return self.time != before


def _as_id(column: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Ids as text, null where there is none; numbers must be whole."""
    if kind.is_float() or kind.is_decimal():
        column = pl.when(column == column.floor()).then(column).cast(pl.Int64, strict=False)
    text = column.cast(pl.String, strict=False)
    return pl.when(text != "").then(text)
