"""From a raw log to training, validation and test clicks.

The steps, each of which reports what it removed: read, make sessions, keep the wanted kinds of events, drop duplicates
and repeats, filter, split, filter. Item support is counted in the training clicks alone (the test must not decide what
is trained on), unless the rules filter before the split, as the official preprocessing of the public logs does.
Validation and test keep only items that training has.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np
import polars as pl

from gru4rec.data.clicks import Clicks, Counts, Ids, grouping_order, split_at_pauses
from gru4rec.data.reading.log import Log
from gru4rec.data.times import DAY, Clock
from gru4rec.preparation.filters import has_length, has_support, is_duplicate, is_no_repeat
from gru4rec.preparation.splits import Boundary, SplitBy, split
from inference.shared.errors import UserError


@dataclass(frozen=True)
class Rules:
    """What is done to a log.

    Attributes:
        gap: seconds without a click after which a new session begins; None takes the sessions as they are.
        gap_over_all: look for pauses among all events, before unwanted kinds are dropped.
        since, until: ticks of the first click that is kept and of the first one that is not; None for no bound.
        drop_duplicates: drop clicks with session, item and time of another one.
        keep_repeats: keep clicks on the item clicked just before.
        max_session_length: clicks of a session that is kept; None for any.
        max_item_share: of all clicks, for an item that is kept; None for any.
        min_item_support: clicks that an item needs.
        min_session_length: clicks that a session needs.
        passes: how often both filters are applied; None until nothing changes.
        length_first: drop short sessions before the first pass, too.
        filter_before_split: filter the whole log; else only the training clicks.
        ties: the order of clicks of a session at the same time: by file, by item id as a number, or by the item's first
            appearance.
        test: where the test begins.
        valid: where the validation begins; None for no validation part.
        split_by: see `splits`.
    """

    gap: float | None = None
    gap_over_all: bool = False
    since: float | None = None
    until: float | None = None
    drop_duplicates: bool = False
    keep_repeats: bool = False
    max_session_length: int | None = None
    max_item_share: float | None = None
    min_item_support: int = 5
    min_session_length: int = 2
    passes: int | None = None
    length_first: bool = False
    filter_before_split: bool = False
    ties: Literal["file", "number", "appearance"] = "file"
    test: Boundary = field(default_factory=lambda: Boundary(fraction=0.1))
    valid: Boundary | None = field(default_factory=lambda: Boundary(fraction=0.1))
    split_by: SplitBy = "start"

    def __post_init__(self) -> None:
        least_values = {"min_item_support": 1, "min_session_length": 1, "passes": 1, "gap": 0, "max_session_length": 1}
        if self.max_item_share is not None and not 0 < self.max_item_share <= 1:
            raise UserError(f"max_item_share: expected a share above 0, at most 1, got {self.max_item_share}")
        for name, least in least_values.items():
            value = getattr(self, name)
            if value is not None and not least <= value < math.inf:
                raise UserError(f"{name}: expected a number of at least {least}, got {value}")


NOTHING = Counts(0, 0, 0)
RETURNING_SHARE = 0.01
"""Of sessions that may have a pause of a day without a warning."""


@dataclass(frozen=True)
class Step:
    """What one step did: its printed name, and the size of the log before and after it."""

    name: str
    before: Counts
    after: Counts

    def format_line(self) -> str:
        """What the step removed and what is left, in one line."""
        left = format_counts(self.after)
        if not self.before.events:
            return f"{self.name}: {left}"
        before, after = asdict(self.before), asdict(self.after)
        changes = {unit: after[unit] - before[unit] for unit in before}
        removed = ", ".join(f"{change:+,} {unit}" if change else f"0 {unit}" for unit, change in changes.items())
        return f"{self.name}: {removed}; {left} left"


@dataclass(frozen=True)
class Prepared:
    """A prepared log.

    Attributes:
        parts: clicks of "train", "valid" (if there is one) and "test".
        ids: behind their numbers.
        clock: of their times.
        steps: what was done.
        boundaries: the first ticks of "valid" and "test".
        warnings: what looks wrong but does not prevent the work.
    """

    parts: dict[str, Clicks]
    ids: Ids
    clock: Clock
    steps: tuple[Step, ...]
    boundaries: dict[str, float]
    warnings: tuple[str, ...] = ()


def format_counts(counts: Counts) -> str:
    """A log's size in words."""
    return f"{counts.events:,} events, {counts.sessions:,} sessions, {counts.items:,} items"


def prepare(raw: Log, rules: Rules, on_step: Callable[[Step], None] = lambda step: None) -> Prepared:
    """Prepare a log.

    Args:
        raw: as it was read; its clicks are taken out of it.
        rules: what to do.
        on_step: called after every step.

    Raises:
        UserError: a step or a split leaves nothing.
    """
    steps = _Steps(on_step)
    clicks, ids, warnings = _make_sessions(raw, rules, steps)
    clicks = _drop(clicks, rules, steps)
    if rules.filter_before_split:
        clicks = _filter(clicks, rules, steps)
    parts: dict[str, Clicks] = {}
    boundaries: dict[str, float] = {}
    for name, where in (("test", rules.test), ("valid", rules.valid)):
        if where is not None:
            end = boundaries.get("test")
            clicks, parts[name], boundaries[name] = _split(clicks, where, rules, raw.clock, name, steps, end)
    parts["train"] = clicks
    del clicks  # as every step's input, so that at most two copies of a large log are in memory
    parts, boundaries = dict(reversed(parts.items())), dict(reversed(boundaries.items()))
    for name, part in parts.items():
        begins = f" from {raw.clock.format_time(boundaries[name])}" if name in boundaries else ""
        steps.add(Step(f"{name}{begins}", NOTHING, part.counts()))
    del part
    filtered = {"train": _filter(parts.pop("train"), rules, steps, "train: ", only_length=rules.filter_before_split)}
    known = np.flatnonzero(filtered["train"].support)
    for name, part in parts.items():
        is_known = np.isin(part.item, known)
        part = steps.keep(f"{name}: items not in train", part, is_known, "a larger training part")
        filtered[name] = _filter(part, rules, steps, f"{name}: ", only_length=True)
    return Prepared(filtered, ids, raw.clock, tuple(steps.done), boundaries, warnings)


class _Steps:
    """The history of a preparation."""

    def __init__(self, on_step: Callable[[Step], None]):
        self.done: list[Step] = []
        self._on_step = on_step

    def add(self, step: Step) -> None:
        self.done.append(step)
        self._on_step(step)

    def keep(self, name: str, clicks: Clicks, mask: np.ndarray, remedy: str, *, quiet: bool = False) -> Clicks:
        """Keep the clicks of a mask, which must mark some; a quiet step that removes nothing is not reported."""
        kept = clicks.keep(mask)
        if not quiet or len(kept) < len(clicks):
            self.add(Step(name, clicks.counts(), kept.counts()))
        if not len(kept):
            raise UserError(f"expected events after the step '{name}', which removed all {len(clicks):,}; try {remedy}")
        return kept


def _make_sessions(raw: Log, rules: Rules, steps: _Steps) -> tuple[Clicks, Ids, tuple[str, ...]]:
    (clicks, wanted), ids = raw.take_clicks(), raw.ids
    steps.add(Step("read", NOTHING, Counts(len(clicks), len(ids.sessions), len(ids.items) - ids.items.null_count())))
    order = grouping_order(clicks, _tie(clicks, ids, rules))
    clicks = clicks.keep(order)
    wanted = None if wanted is None else wanted[order]
    del order
    if wanted is not None and not rules.gap_over_all:
        clicks, wanted = steps.keep("unwanted kinds of events", clicks, wanted, "other --event-kinds"), None
    clicks, wanted = _between(clicks, wanted, rules, steps)
    warnings = () if rules.gap is not None else _returning_sessions(clicks, raw.clock)
    if rules.gap is not None:
        before = clicks.counts()
        clicks, old, place = split_at_pauses(clicks, rules.gap * raw.clock.per_second)
        users = ids.sessions.cast(pl.String).gather(old)
        ids = Ids(pl.select(pl.format("{}-{}", users, pl.Series(place))).to_series(), ids.items)
        steps.add(Step(f"sessions cut at pauses of more than {rules.gap:g} s", before, clicks.counts()))
    if wanted is not None:
        clicks = steps.keep("unwanted kinds of events", clicks, wanted, "other --event-kinds")
    return clicks, ids, warnings


def _between(
    clicks: Clicks, wanted: np.ndarray | None, rules: Rules, steps: _Steps
) -> tuple[Clicks, np.ndarray | None]:
    """The clicks between two times, and which of them are wanted."""
    if rules.since is None and rules.until is None:
        return clicks, wanted
    first, end = -math.inf if rules.since is None else rules.since, math.inf if rules.until is None else rules.until
    mask = (clicks.time >= first) & (clicks.time < end)
    kept = steps.keep("clicks outside of --from and --until", clicks, mask, "other times")
    return kept, None if wanted is None else wanted[mask]


def _returning_sessions(clicks: Clicks, clock: Clock) -> tuple[str, ...]:
    """A warning if session ids return after a day: they may be used again, or be those of users."""
    if clock.unit in ("order", "day") or len(clicks) < 2:
        return ()
    pauses = (np.diff(clicks.time) > DAY * clock.per_second) & (clicks.session[1:] == clicks.session[:-1])
    returning = len(np.unique(clicks.session[1:][pauses]))
    if returning <= RETURNING_SHARE * len(clicks.starts):
        return ()
    return (
        f"{returning:,} of {len(clicks.starts):,} sessions have a pause of more than a day: are their ids used again, "
        "or those of users? --session-gap 3600 cuts sessions at pauses of more than an hour",
    )


def _drop(clicks: Clicks, rules: Rules, steps: _Steps) -> Clicks:
    """Drop what distorts a log: duplicates, repeats, endless sessions, items that are no products."""
    if rules.drop_duplicates:
        clicks = steps.keep("duplicates", clicks, ~is_duplicate(clicks), "to keep them")
    if not rules.keep_repeats:
        clicks = steps.keep("consecutive repeats", clicks, is_no_repeat(clicks), "--keep-repeats")
    if (longest := rules.max_session_length) is not None:
        mask = np.repeat(clicks.lengths <= longest, clicks.lengths)
        name = f"sessions of more than {longest} clicks"
        clicks = steps.keep(name, clicks, mask, "a larger --max-session-length")
    if (share := rules.max_item_share) is not None:
        mask = (clicks.support <= share * len(clicks))[clicks.item]
        name = f"items of more than {share:.0%} of all clicks"
        clicks = steps.keep(name, clicks, mask, "a larger --max-item-share")
    return clicks


def _tie(clicks: Clicks, ids: Ids, rules: Rules) -> np.ndarray | None:
    if rules.ties == "file":
        return None
    if rules.ties == "appearance":
        return clicks.item
    numbers = ids.items.cast(pl.Int64, strict=False)
    tie: np.ndarray = numbers.rank("ordinal").fill_null(0).to_numpy()[clicks.item]
    return tie


def _filter(clicks: Clicks, rules: Rules, steps: _Steps, part: str = "", *, only_length: bool = False) -> Clicks:
    length, support = rules.min_session_length, rules.min_item_support
    short, rare = f"{part}sessions of fewer than {length} clicks", f"{part}items of fewer than {support} clicks"

    def drop_short(clicks: Clicks, number: str = "", *, quiet: bool = False) -> Clicks:
        mask = has_length(clicks, length)
        return steps.keep(short + number, clicks, mask, "a lower --min-session-length", quiet=quiet)

    if rules.length_first or only_length:
        clicks = drop_short(clicks)
    passes = 0
    while not only_length and passes != rules.passes:
        passes += 1
        before = len(clicks)
        number = "" if rules.passes == 1 else f", pass {passes}"
        quiet = passes > 1
        mask = has_support(clicks, support)
        clicks = steps.keep(rare + number, clicks, mask, "a lower --min-item-support", quiet=quiet)
        clicks = drop_short(clicks, number, quiet=quiet)
        if len(clicks) == before:
            break
    return clicks


def _split(
    clicks: Clicks,
    where: Boundary,
    rules: Rules,
    clock: Clock,
    name: str,
    steps: _Steps,
    end: float | None,
) -> tuple[Clicks, Clicks, float]:
    boundary = where.tick(clicks, clock, None if rules.split_by == "end" else end, rules.split_by)
    early, late = split(clicks, boundary, rules.split_by)
    for mask, part in ((early, "train"), (late, name)):
        if not mask.any():
            first, last = clock.format_time(clicks.time.min()), clock.format_time(clicks.time.max())
            raise UserError(
                f"expected events on both sides of a split, got none for {part}: the boundary is "
                f"{clock.format_time(boundary)} and the sessions, {len(clicks.starts):,}, run from {first} to {last}; "
                "choose another split or more data"
            )
    if not (early | late).all():
        kept = clicks.keep(early | late).counts()
        steps.add(Step(f"clicks after the {name} boundary in sessions from before it", clicks.counts(), kept))
    return clicks.keep(early), clicks.keep(late), boundary
