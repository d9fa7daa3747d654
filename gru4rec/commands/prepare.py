"""`gru4rec prepare`: from raw event files to a folder with training, validation and test clicks."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from cyclopts import Parameter

from gru4rec.commands.column_flags import ColumnFlags
from gru4rec.data.reading.columns import LogColumns
from gru4rec.data.reading.layouts import Layout
from gru4rec.data.reading.log import read_log
from gru4rec.data.reading.log_file import LogFile, open_log_file
from gru4rec.data.reading.log_rows import Reading
from gru4rec.data.reading.roles import NO_COLUMN, choose_columns, find_layout
from gru4rec.data.reading.sources import find_sources
from gru4rec.data.times import Clock
from gru4rec.preparation.output import write_prepared
from gru4rec.preparation.pipeline import Rules
from gru4rec.preparation.pipeline import prepare as prepare_log
from gru4rec.preparation.presets import PRESETS, Preset
from gru4rec.preparation.splits import Boundary
from inference.shared.atomic import atomic_folder
from inference.shared.errors import UserError

SESSION_GAP = 3600.0
PresetName = Literal["rsc15", "yoochoose", "diginetica", "retailrocket", "rees46", "coveo", "none"]
PLAIN = Layout("plain", LogColumns())
ALL_KINDS = "all"


@Parameter(name="*", group="Reading")
@dataclass(frozen=True, kw_only=True)
class ReadingFlags(ColumnFlags):
    """How the files are read; what is not given is recognised and reported."""

    user_column: Annotated[str | None, Parameter(help="column with user ids, to make sessions from")] = None
    order_column: Annotated[
        str | None, Parameter(help="column with the place of a click in its session, if times are as coarse as days")
    ] = None
    event_column: Annotated[str | None, Parameter(help="column with the kinds of events")] = None
    event_kinds: Annotated[
        str | None, Parameter(help="kinds of events to keep, e.g. view,click [default: all, or those of a public log]")
    ] = None
    columns: Annotated[
        str | None,
        Parameter(help="names of the columns by position, for files without a header, e.g. session,time,item,_"),
    ] = None
    delimiter: Annotated[
        str | None, Parameter(help="of text files: 'tab', 'blank' or the characters themselves, e.g. ::")
    ] = None
    item_separator: Annotated[
        str | None, Parameter(help="between the items of one cell, if a cell holds several; 'blank' for blanks")
    ] = None
    quotes: Annotated[bool, Parameter(help="quotes may enclose values of text files", negative="--no-quotes")] = True
    drop_invalid: Annotated[
        bool, Parameter(help="drop rows without an id or a time instead of refusing them", negative="")
    ] = False
    time_format: Annotated[
        str | None, Parameter(help="s, ms, us or ns since 1970, order, iso, or a pattern such as %d.%m.%Y")
    ] = None
    time_zone: Annotated[
        str | None,
        Parameter(help="of times without one, also of those given here, e.g. Europe/Berlin [default: none]"),
    ] = None


@Parameter(name="*", group="Filters")
@dataclass(frozen=True, kw_only=True)
class FilterFlags:
    """Where sessions end, and what is removed."""

    session_gap: Annotated[
        float | None,
        Parameter(help=f"pause in seconds that ends a session made from a user's events [default: {SESSION_GAP:g}]"),
    ] = None
    keep_repeats: Annotated[
        bool | None, Parameter(help="keep clicks on the item clicked just before", negative="--drop-repeats")
    ] = None
    since: Annotated[str | None, Parameter(name="--from", help="first time that is kept: a number or a date")] = None
    until: Annotated[str | None, Parameter(help="first time that is not kept")] = None
    drop_duplicates: Annotated[
        bool | None, Parameter(help="drop clicks with session, item and time of another one", negative="")
    ] = None
    max_session_length: Annotated[int | None, Parameter(help="drop longer sessions, such as those of robots")] = None
    max_item_share: Annotated[
        float | None, Parameter(help="drop items with a larger share of all clicks, which are mostly no products")
    ] = None
    min_item_support: Annotated[int | None, Parameter(help="clicks that an item needs [default: 5]")] = None
    min_session_length: Annotated[int | None, Parameter(help="clicks that a session needs [default: 2]")] = None
    passes: Annotated[
        int | Literal["stable"] | None, Parameter(help="how often both filters run [default: stable]")
    ] = None
    filter_before_split: Annotated[
        bool | None, Parameter(help="count items in the whole log, including the test, as the papers do")
    ] = None


@Parameter(name="*", group="Split")
@dataclass(frozen=True, kw_only=True)
class SplitFlags:
    """Where the log is split."""

    test_days: Annotated[float | None, Parameter(help="test on the last days")] = None
    test_fraction: Annotated[float | None, Parameter(help="test on the last part of the sessions [default: 0.1]")] = (
        None
    )
    split_at: Annotated[str | None, Parameter(help="test from this time on: a number or a date")] = None
    split_by: Annotated[
        Literal["start", "end", "cut"] | None,
        Parameter(
            help="a session belongs to the later part if it starts, or ends, after the boundary; cut: if it starts "
            "after it, and earlier sessions lose their clicks after it [default: start]"
        ),
    ] = None
    valid: Annotated[bool, Parameter(help="split a validation part off the training part")] = True
    valid_days: Annotated[float | None, Parameter(help="validate on the days before it [default: as the test]")] = None
    valid_fraction: Annotated[float | None, Parameter(help="validate on the last part of the sessions")] = None
    valid_at: Annotated[str | None, Parameter(help="validate from this time on")] = None


def prepare(
    *events: Annotated[
        str, Parameter(help="files, patterns or folders in any layout, packed or not; - is standard input")
    ],
    out: Path,
    preset: PresetName | None = None,
    reading: ReadingFlags = ReadingFlags(),
    filters: FilterFlags = FilterFlags(),
    split: SplitFlags = SplitFlags(),
) -> None:
    """Turn a raw event log into training, validation and test files.

    Example: gru4rec prepare events.csv.gz --out prepared --event-kinds view --session-gap 3600 --test-days 7

    Args:
        events: the log
        out: folder for train.parquet, valid.parquet, test.parquet and stats.json; new or empty
        preset: layout and official rules of a public log, as downloaded; flags override it
    """
    public = PRESETS[preset] if preset and preset != "none" else None
    with atomic_folder(out) as folder:  # before any work is done
        files = _open(list(events), reading, public)
        layout = public.layout if public else _layout(files[0], reading, plain=preset == "none")
        how = _reading(files[0], reading, layout, by_user=filters.session_gap is not None)
        how = dataclasses.replace(how, whole_seconds=public is not None and public.whole_seconds)
        print(f"columns: {how.columns.describe()}")
        log = read_log(files, how)
        first, last = (log.clock.format_time(edge(log.clicks.time).item()) for edge in (np.min, np.max))
        print(f"times: {log.clock.describe()}, {first} … {last}")
        n_dropped = log.rows - log.blank - len(log.clicks)
        print(
            f"rows: {len(log.clicks):,} read, {n_dropped:,} dropped, {log.blank:,} blank"
            + "".join(f"\n  {row}" for row in log.dropped)
        )
        rules = _rules(filters, split, how.columns, log.clock, public)
        prepared = prepare_log(log, rules, lambda step: print(step.format_line(), flush=True))
        for warning in (*log.warnings, *prepared.warnings):
            sys.stderr.write(f"warning: {warning}\n")
        about = {
            "preset": preset,
            "sources": [{"file": file.source.name, "bytes": file.source.size} for file in files],
            "columns": how.columns.named,
            "rows": log.rows,
            "dropped_rows": n_dropped,
            "blank_rows": log.blank,
            "rules": dataclasses.asdict(rules),
            "warnings": [*log.warnings, *prepared.warnings],
        }
        write_prepared(folder, prepared, about)
    print(f"{out}: {', '.join(f'{len(part):,} events in {name}' for name, part in prepared.parts.items())}")


def _open(named: list[str], flags: ReadingFlags, public: Preset | None) -> list[LogFile]:
    delimiter = {"tab": "\t", "\\t": "\t", "blank": ""}.get(flags.delimiter or "", flags.delimiter)
    names = tuple(name.strip() for name in flags.columns.split(",")) if flags.columns else ()
    if public and not names:
        names = public.layout.names
    return [
        open_log_file(source, names=names, delimiter=delimiter, quotes=flags.quotes) for source in find_sources(named)
    ]


def _layout(file: LogFile, flags: ReadingFlags, *, plain: bool) -> Layout:
    """The layout of the public log that a file looks like, unless the user names columns."""
    layout = None if plain else find_layout(file)
    if layout is None or flags.columns or any((flags.session_column, flags.user_column)):
        return PLAIN
    about = [*([layout.about] if layout.about else [])]
    if layout.event_kinds and not flags.event_kinds:
        about.append(f"only {', '.join(layout.event_kinds)} events are kept")
    details = f": {'; '.join(about)}" if about else ""
    print(f"looks like {layout.title}{details} (--preset none reads it plainly)")
    return layout


def _reading(file: LogFile, flags: ReadingFlags, layout: Layout, *, by_user: bool) -> Reading:
    kinds = tuple(kind.strip() for kind in (flags.event_kinds or "").split(",") if kind.strip())
    if flags.event_kinds is not None and not kinds:
        raise UserError(
            f"event_kinds: expected kinds such as view,click, got {flags.event_kinds!r}; leave it out for all"
        )
    kinds = () if kinds == (ALL_KINDS,) else kinds or layout.event_kinds
    if flags.event_column is not None and not kinds:
        raise UserError("expected --event-kinds with --event-column: which kinds of events are to be kept?")
    named = LogColumns(
        flags.session_column,
        flags.user_column,
        flags.item_column,
        flags.time_column,
        flags.event_column,
        flags.order_column,
    ).named
    given = layout.columns.named
    if named.keys() & {"session", "user"}:
        given = {role: name for role, name in given.items() if role not in ("session", "user")}
    given |= named
    if layout is not PLAIN and "time" not in given:
        given["time"] = NO_COLUMN
    columns = choose_columns(file, LogColumns(**given), by_user=by_user, with_event=bool(kinds))
    separator = " " if flags.item_separator == "blank" else flags.item_separator or layout.item_separator
    return Reading(
        columns,
        kinds,
        flags.time_format or layout.time_format,
        flags.time_zone,
        item_separator=separator,
        drop_invalid=flags.drop_invalid or layout.without_item,
    )


def _rules(filters: FilterFlags, split: SplitFlags, columns: LogColumns, clock: Clock, public: Preset | None) -> Rules:
    given = dataclasses.asdict(filters) | {"split_by": split.split_by}
    gap, passes = given.pop("session_gap"), given.pop("passes")
    for name in ("since", "until"):
        if given[name] is not None:
            given[name] = clock.parse_time(given[name])
    changes = {name: value for name, value in given.items() if value is not None}
    if passes is not None:
        changes["passes"] = None if passes == "stable" else passes
    if gap is not None:
        changes["gap"] = gap
    elif columns.group_role == "user" and (public is None or public.rules.gap is None):
        changes["gap"] = SESSION_GAP
    test = _boundary(clock, split.test_days, split.test_fraction, split.split_at)
    valid = _boundary(clock, split.valid_days, split.valid_fraction, split.valid_at)
    if valid is not None and not split.valid:
        raise UserError("expected either --no-valid or a validation split, got both")
    if test is None and public is not None:
        official = dataclasses.replace(clock, zone=None)  # the official boundaries are in UTC
        test = _boundary(official, public.days, None, public.test_at)
        valid = valid or _boundary(official, public.days, None, public.valid_at)
    if not split.valid:
        changes["valid"] = None
    elif valid or (test and test.at is None):
        changes["valid"] = valid or test
    if test is not None:
        changes["test"] = test
    return dataclasses.replace(public.rules if public else Rules(), **changes)


def _boundary(clock: Clock, days: float | None, fraction: float | None, at: str | None) -> Boundary | None:
    if days is None and fraction is None and at is None:
        return None
    return Boundary(days, fraction, None if at is None else clock.parse_time(at))
