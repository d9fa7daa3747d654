"""`gru4rec prepare`: from raw event files to a folder with training, validation and test clicks."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from gru4rec.commands.column_flags import ColumnFlags
from inference.shared.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from gru4rec.data.event_files import EventFile
    from gru4rec.data.times import Clock
    from gru4rec.preparation.columns import RawColumns
    from gru4rec.preparation.pipeline import Rules, Step
    from gru4rec.preparation.presets import Preset
    from gru4rec.preparation.raw_log import Reading
    from gru4rec.preparation.splits import Boundary

SESSION_GAP = 3600.0
PresetName = Literal["rsc15", "yoochoose", "diginetica", "retailrocket", "rees46", "coveo"]


def _flag(text: str, group: str, **options: Any) -> Any:
    return Parameter(help=text, group=group, **options)


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
        Parameter(help="of times that name none, here too, e.g. Europe/Berlin [default: they stay without]"),
    ] = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RuleFlags:
    """What is removed, and where the log is split."""

    session_gap: Annotated[
        float | None,
        _flag(f"seconds of pause that end a session made from a user's events [default: {SESSION_GAP:g}]", "Filters"),
    ] = None
    keep_repeats: Annotated[
        bool | None, _flag("keep clicks on the item clicked just before", "Filters", negative="--drop-repeats")
    ] = None
    min_item_support: Annotated[int | None, _flag("clicks that an item needs [default: 5]", "Filters")] = None
    min_session_length: Annotated[int | None, _flag("clicks that a session needs [default: 2]", "Filters")] = None
    passes: Annotated[
        str | None, _flag("how often both are applied: a number, or 'stable' [default: stable]", "Filters")
    ] = None
    filter_before_split: Annotated[
        bool | None, _flag("count items in the whole log, test included, as the papers do", "Filters")
    ] = None
    test_days: Annotated[float | None, _flag("test on the last days", "Split")] = None
    test_fraction: Annotated[float | None, _flag("test on the last part of the sessions [default: 0.1]", "Split")] = (
        None
    )
    split_at: Annotated[str | None, _flag("test from this time on: a number or a date", "Split")] = None
    split_by: Annotated[
        Literal["start", "end", "cut"] | None,
        _flag(
            "sessions are later than a time if they start, or end, after it; cut: if they start after it, and the "
            "others lose what comes after it [default: start]",
            "Split",
        ),
    ] = None
    valid: Annotated[bool, _flag("split a validation part off the training part", "Split")] = True
    valid_days: Annotated[float | None, _flag("validate on the days before [default: as the test]", "Split")] = None
    valid_fraction: Annotated[float | None, _flag("validate on the last part of the sessions", "Split")] = None
    valid_at: Annotated[str | None, _flag("validate from this time on", "Split")] = None


def prepare(
    *events: Annotated[str, Parameter(help="event files: TSV, CSV, JSON lines, parquet, packed or not, or patterns")],
    out: Path,
    preset: PresetName | None = None,
    reading: ReadingFlags = ReadingFlags(),
    rules: RuleFlags = RuleFlags(),
) -> None:
    """Turn a raw event log into training, validation and test files.

    Example: gru4rec prepare events.csv.gz --out prepared --event-kinds view --session-gap 3600 --test-days 7

    Args:
        events: the log
        out: folder for train.parquet, valid.parquet, test.parquet and stats.json; a new or an empty one
        preset: layout and official rules of a public log, as it is downloaded; flags win over it
    """
    from inference.shared.atomic import atomic_folder

    with atomic_folder(out) as folder:  # before any work is done
        parts = _prepare(folder, events, preset, reading, rules)
    print(f"{out}: {', '.join(f'{size:,} events in {name}' for name, size in parts.items())}")


def _prepare(
    folder: Path, events: tuple[str, ...], preset: PresetName | None, reading: ReadingFlags, rules: RuleFlags
) -> dict[str, int]:
    """Write the parts into an empty folder and say how many events each has."""
    from gru4rec.data.event_files import found_files, open_event_file
    from gru4rec.preparation.output import write_prepared
    from gru4rec.preparation.pipeline import prepare as prepare_log
    from gru4rec.preparation.presets import PRESETS
    from gru4rec.preparation.raw_log import read_raw

    public = PRESETS[preset] if preset else None
    names = public.names if public else ()
    delimiter = _delimiter(reading.delimiter) or (public.delimiter if public else None)
    files = [open_event_file(path, names=names, delimiter=delimiter) for path in found_files(list(events))]
    how = _reading(files[0], reading, rules, public)
    print(f"columns: {how.columns.described()}")
    raw = read_raw(files, how)
    print(f"times: {raw.clock.described()}, {_span(raw.clock, raw.clicks.time)}")
    chosen = _rules(rules, how.columns, raw.clock, public)
    for warning in raw.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    prepared = prepare_log(raw, chosen, _print_step)
    about = {
        "preset": preset,
        "sources": [{"file": str(file.path), "bytes": file.path.stat().st_size} for file in files],
        "columns": {name: column for name, column in dataclasses.asdict(how.columns).items() if column},
        "rules": dataclasses.asdict(chosen),
        "warnings": list(raw.warnings),
    }
    write_prepared(folder, prepared, about)
    return {name: len(part) for name, part in prepared.parts.items()}


def _reading(file: "EventFile", flags: ReadingFlags, rules: RuleFlags, public: "Preset | None") -> "Reading":
    from gru4rec.preparation.columns import RawColumns, recognised_columns
    from gru4rec.preparation.raw_log import Reading

    kinds = tuple(kind.strip() for kind in (flags.event_kinds or "").split(",") if kind.strip())
    if flags.event_kinds is not None and not kinds:
        raise UserError(
            f"event_kinds: expected kinds such as view,click, got {flags.event_kinds!r}; leave it out for all"
        )
    if public is not None:
        kinds = kinds or public.event_kinds
    given = RawColumns(
        flags.session_column, flags.user_column, flags.item_column, flags.time_column, flags.event_column
    )
    if public is not None:
        chosen = {name: column for name, column in dataclasses.asdict(given).items() if column}
        groups = {"session": None, "user": None} if given.session or given.user else {}
        given = dataclasses.replace(public.columns, **groups | chosen)
    elif flags.event_column is not None and not kinds:
        raise UserError("expected --event-kinds with --event-column: which kinds of events are to be kept?")
    by_user = rules.session_gap is not None
    columns = recognised_columns(file, given, by_user=by_user, with_event=bool(kinds))
    whole_seconds = public is not None and public.whole_seconds
    time_format = flags.time_format or (public.time_format if public else "auto")
    return Reading(columns, kinds, time_format, flags.time_zone, whole_seconds)


def _rules(flags: RuleFlags, columns: "RawColumns", clock: "Clock", public: "Preset | None") -> "Rules":
    from gru4rec.preparation.pipeline import Rules
    from gru4rec.preparation.splits import Boundary

    rules = public.rules if public else Rules()
    named = ("keep_repeats", "min_item_support", "min_session_length", "filter_before_split", "split_by")
    changes = {name: getattr(flags, name) for name in named if getattr(flags, name) is not None}
    if flags.passes is not None:
        changes["passes"] = _passes(flags.passes)
    changes["gap"] = rules.gap if flags.session_gap is None else flags.session_gap
    if changes["gap"] is None and columns.session is None:
        changes["gap"] = SESSION_GAP
    test = _boundary(clock, flags.test_days, flags.test_fraction, flags.split_at)
    valid = _boundary(clock, flags.valid_days, flags.valid_fraction, flags.valid_at)
    if valid is not None and not flags.valid:
        raise UserError("expected either --no-valid or a validation split, got both")
    if public is not None and test is None:
        official = dataclasses.replace(clock, zone=None)  # the official boundaries are times in UTC
        test = _boundary(official, public.days, None, public.test_at)
        valid = valid or _boundary(official, public.days, None, public.valid_at)
    if not flags.valid:
        changes["valid"] = None
    elif valid is not None:
        changes["valid"] = valid
    elif test is not None and test.at is None:
        changes["valid"] = test
    else:
        changes["valid"] = Boundary(fraction=0.1)
    if test is not None:
        changes["test"] = test
    return dataclasses.replace(rules, **changes)


def _boundary(clock: "Clock", days: float | None, fraction: float | None, at: str | None) -> "Boundary | None":
    from gru4rec.preparation.splits import Boundary

    if days is None and fraction is None and at is None:
        return None
    return Boundary(days, fraction, None if at is None else clock.tick(at))


def _passes(text: str) -> int | None:
    if text == "stable":
        return None
    try:
        return int(text)
    except ValueError:
        raise UserError(f"passes: expected a number or 'stable', got {text!r}") from None


def _delimiter(text: str | None) -> str | None:
    if text in ("tab", "\\t"):
        return "\t"
    if text is not None and len(text.encode()) != 1:
        raise UserError(f"delimiter: expected one character or 'tab', got {text!r}")
    return text


def _span(clock: "Clock", times: "np.ndarray") -> str:
    return f"{clock.shown(times.min().item())} … {clock.shown(times.max().item())}"


def _print_step(step: "Step") -> None:
    print(step.line(), flush=True)
