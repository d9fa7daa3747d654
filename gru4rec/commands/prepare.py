"""`gru4rec prepare`: from raw event files to a folder with training, validation and test clicks."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from cyclopts import Parameter

from gru4rec.commands.column_flags import ColumnFlags
from gru4rec.data.event_files import EventFile, find_files, open_event_file
from gru4rec.data.times import Clock
from gru4rec.preparation.columns import RawColumns, recognise_columns
from gru4rec.preparation.output import write_prepared
from gru4rec.preparation.pipeline import Rules
from gru4rec.preparation.pipeline import prepare as prepare_log
from gru4rec.preparation.presets import PRESETS, Preset
from gru4rec.preparation.raw_log import Reading, read_raw
from gru4rec.preparation.splits import Boundary
from inference.shared.atomic import atomic_folder
from inference.shared.errors import UserError

SESSION_GAP = 3600.0
PresetName = Literal["rsc15", "yoochoose", "diginetica", "retailrocket", "rees46", "coveo"]


@Parameter(name="*", group="Reading")
@dataclass(frozen=True, kw_only=True)
class ReadingFlags(ColumnFlags):
    """How the files are read; what is not given is recognised and reported."""

    user_column: Annotated[str | None, Parameter(help="column with user ids, to make sessions from")] = None
    event_column: Annotated[str | None, Parameter(help="column with the kinds of events")] = None
    event_kinds: Annotated[str | None, Parameter(help="kinds of events to keep, e.g. view,click [default: all]")] = None
    delimiter: Annotated[str | None, Parameter(help="of text files: one character, or 'tab'")] = None
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
    *events: Annotated[str, Parameter(help="event files or patterns: TSV, CSV, JSON lines, parquet, packed or not")],
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
    public = PRESETS[preset] if preset else Preset(RawColumns(), Rules(), delimiter=None)
    with atomic_folder(out) as folder:  # before any work is done
        delimiter = _delimiter(reading.delimiter) or public.delimiter
        files = [open_event_file(path, names=public.names, delimiter=delimiter) for path in find_files(list(events))]
        how = _reading(files[0], reading, public, by_user=filters.session_gap is not None)
        print(f"columns: {how.columns.describe()}")
        raw = read_raw(files, how)
        first, last = (raw.clock.format_time(edge(raw.clicks.time).item()) for edge in (np.min, np.max))
        print(f"times: {raw.clock.describe()}, {first} … {last}")
        rules = _rules(filters, split, how.columns, raw.clock, public)
        for warning in raw.warnings:
            sys.stderr.write(f"warning: {warning}\n")
        prepared = prepare_log(raw, rules, lambda step: print(step.format_line(), flush=True))
        about = {
            "preset": preset,
            "sources": [{"file": str(file.path), "bytes": file.path.stat().st_size} for file in files],
            "columns": how.columns.named,
            "rules": dataclasses.asdict(rules),
            "warnings": list(raw.warnings),
        }
        write_prepared(folder, prepared, about)
    print(f"{out}: {', '.join(f'{len(part):,} events in {name}' for name, part in prepared.parts.items())}")


def _reading(file: EventFile, flags: ReadingFlags, public: Preset, *, by_user: bool) -> Reading:
    kinds = tuple(kind.strip() for kind in (flags.event_kinds or "").split(",") if kind.strip())
    if flags.event_kinds is not None and not kinds:
        raise UserError(
            f"event_kinds: expected kinds such as view,click, got {flags.event_kinds!r}; leave it out for all"
        )
    kinds = kinds or public.event_kinds
    if flags.event_column is not None and not kinds:
        raise UserError("expected --event-kinds with --event-column: which kinds of events are to be kept?")
    named = RawColumns(
        flags.session_column, flags.user_column, flags.item_column, flags.time_column, flags.event_column
    ).named
    groups = {"session": None, "user": None} if "session" in named or "user" in named else {}
    given = dataclasses.replace(public.columns, **groups | named)
    columns = recognise_columns(file, given, by_user=by_user, with_event=bool(kinds))
    time_format = flags.time_format or public.time_format
    return Reading(columns, kinds, time_format, flags.time_zone, public.whole_seconds)


def _rules(filters: FilterFlags, split: SplitFlags, columns: RawColumns, clock: Clock, public: Preset) -> Rules:
    given = dataclasses.asdict(filters) | {"split_by": split.split_by}
    gap, passes = given.pop("session_gap"), given.pop("passes")
    changes = {name: value for name, value in given.items() if value is not None}
    if passes is not None:
        changes["passes"] = None if passes == "stable" else passes
    if gap is not None:
        changes["gap"] = gap
    elif public.rules.gap is None and columns.session is None:
        changes["gap"] = SESSION_GAP
    test = _boundary(clock, split.test_days, split.test_fraction, split.split_at)
    valid = _boundary(clock, split.valid_days, split.valid_fraction, split.valid_at)
    if valid is not None and not split.valid:
        raise UserError("expected either --no-valid or a validation split, got both")
    if test is None:
        official = dataclasses.replace(clock, zone=None)  # the official boundaries are in UTC
        test = _boundary(official, public.days, None, public.test_at)
        valid = valid or _boundary(official, public.days, None, public.valid_at)
    if not split.valid:
        changes["valid"] = None
    elif valid or (test and test.at is None):
        changes["valid"] = valid or test
    if test is not None:
        changes["test"] = test
    return dataclasses.replace(public.rules, **changes)


def _boundary(clock: Clock, days: float | None, fraction: float | None, at: str | None) -> Boundary | None:
    if days is None and fraction is None and at is None:
        return None
    return Boundary(days, fraction, None if at is None else clock.parse_time(at))


def _delimiter(text: str | None) -> str | None:
    if text in ("tab", "\\t"):
        return "\t"
    if text is not None and len(text.encode()) != 1:
        raise UserError(f"delimiter: expected one character or 'tab', got {text!r}")
    return text
