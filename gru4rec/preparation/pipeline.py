"""From a raw log to training, validation and test clicks.

The steps, each of which reports what it removed: read, make sessions, keep the wanted kinds of events, drop repeats,
filter, split, filter. Item support is counted in the training clicks alone (what the test holds must not decide what is
trained on), unless the rules filter before the split as the official preprocessing of the public sets does. Validation
and test keep the items that training has.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import polars as pl

from gru4rec.data.clicks import Clicks, Counts, Names, grouping_order, split_at_pauses
from gru4rec.data.times import Clock
from gru4rec.preparation.filters import Rule, item_support, known_items, not_repeated, session_length
from gru4rec.preparation.raw_log import RawLog
from gru4rec.preparation.splits import Boundary, SplitBy, split
from inference.shared.errors import UserError


@dataclass(frozen=True)
class Rules:
    """What is done to a log.

    Attributes:
        gap: seconds without a click after which a new session begins; None takes the sessions as they are.
        gap_over_all: pauses are looked for among all events, before the unwanted kinds are dropped.
        keep_repeats: whether an item that is clicked again at once stays.
        min_item_support: clicks that an item needs.
        min_session_length: clicks that a session needs.
        passes: how often both are applied; None for until nothing changes.
        length_first: drop short sessions before the first pass, too.
        filter_before_split: apply both to the whole log; else to the training clicks.
        ties: what orders clicks of one session at the same time: the file, the items' ids as numbers, or the items'
            first appearance.
        test: where the test begins.
        valid: where the validation begins; None for none.
        split_by: see `splits`.
    """

    gap: float | None = None
    gap_over_all: bool = False
    keep_repeats: bool = False
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
        for name, least in (("min_item_support", 1), ("min_session_length", 1), ("passes", 1), ("gap", 0)):
            value = getattr(self, name)
            if value is not None and not least <= value < math.inf:
                raise UserError(f"{name}: expected a number of at least {least}, got {value}")


NOTHING = Counts(0, 0, 0)


@dataclass(frozen=True)
class Step:
    """What one step did.

    Attributes:
        name: for people.
        before, after: how much there was.
    """

    name: str
    before: Counts
    after: Counts

    def line(self) -> str:
        """The step in one line: what it removed and what is left."""
        if not self.before.events:
            return f"{self.name}: {shown(self.after)}"
        pairs = [
            f"{new - old:+,} {name}" if new != old else f"0 {name}"
            for name, old, new in (
                ("events", self.before.events, self.after.events),
                ("sessions", self.before.sessions, self.after.sessions),
                ("items", self.before.items, self.after.items),
            )
        ]
        return f"{self.name}: {', '.join(pairs)}; {shown(self.after)} left"


@dataclass(frozen=True)
class Prepared:
    """A prepared log.

    Attributes:
        parts: clicks of "train", "valid" (where asked for) and "test".
        names: the ids behind their numbers.
        clock: of their times.
        steps: what was done.
        boundaries: the first tick of "valid" and of "test".
    """

    parts: dict[str, Clicks]
    names: Names
    clock: Clock
    steps: tuple[Step, ...]
    boundaries: dict[str, float]


def shown(counts: Counts) -> str:
    """Counts for people."""
    return f"{counts.events:,} events, {counts.sessions:,} sessions, {counts.items:,} items"


def prepare(raw: RawLog, rules: Rules, report: Callable[[Step], None] = lambda step: None) -> Prepared:
    """Prepare a log.

    Args:
        raw: as it was read; its clicks are taken over.
        rules: what to do.
        report: is told of every step.

    Raises:
        UserError: a step or a split leaves nothing.
    """
    steps = _Steps(report)
    clicks, names = _sessions(raw, rules, steps)
    if not rules.keep_repeats:
        clicks = steps.keep("consecutive repeats", clicks, not_repeated, "--keep-repeats")
    if rules.filter_before_split:
        clicks = _filtered(clicks, rules, steps)
    train, test, test_begins = _split(clicks, rules.test, rules, raw.clock, "test", steps)
    del clicks  # like every step's input, so that at most two copies of a large log are in memory
    parts, boundaries = {"train": train, "test": test}, {"test": test_begins}
    if rules.valid is not None:
        early, valid, valid_begins = _split(train, rules.valid, rules, raw.clock, "valid", steps, test_begins)
        parts = {"train": early, "valid": valid, "test": test}
        boundaries = {"valid": valid_begins, "test": test_begins}
        del early, valid
    del train, test
    for name, part in parts.items():
        begins = f" from {raw.clock.shown(boundaries[name])}" if name in boundaries else ""
        steps.add(Step(f"{name}{begins}", NOTHING, part.counts()))
    del part
    rest = {"train": _filtered(parts.pop("train"), rules, steps, "train: ", only_length=rules.filter_before_split)}
    known = rest["train"].support > 0
    for name, part in parts.items():
        part = steps.keep(f"{name}: items not in train", part, known_items(known), "a larger training part")
        rest[name] = _filtered(part, rules, steps, f"{name}: ", only_length=True)
    return Prepared(rest, names, raw.clock, tuple(steps.done), boundaries)


class _Steps:
    """The history of a preparation."""

    def __init__(self, report: Callable[[Step], None]):
        self.done: list[Step] = []
        self._report = report

    def add(self, step: Step) -> None:
        self.done.append(step)
        self._report(step)

    def keep(self, name: str, clicks: Clicks, rule: Rule, remedy: str, *, quiet: bool = False) -> Clicks:
        """Apply a rule that may not remove everything; a quiet one is told of only if it removes anything."""
        kept = clicks.keep(rule(clicks))
        if not quiet or len(kept) < len(clicks):
            self.add(Step(name, clicks.counts(), kept.counts()))
        if not len(kept):
            raise UserError(f"expected events after the step '{name}', which removed all {len(clicks):,}; try {remedy}")
        return kept


def _sessions(raw: RawLog, rules: Rules, steps: _Steps) -> tuple[Clicks, Names]:
    (clicks, wanted), names = raw.hand_over(), raw.names
    n_items = len(names.items) - names.items.null_count()
    steps.add(Step("read", NOTHING, Counts(len(clicks), len(names.sessions), n_items)))
    order = grouping_order(clicks, _tie(clicks, names, rules))
    clicks = clicks.keep(order)
    wanted = None if wanted is None else wanted[order]
    del order
    if wanted is not None and not rules.gap_over_all:
        clicks, wanted = steps.keep("unwanted kinds of events", clicks, _mask(wanted), "other --event-kinds"), None
    if rules.gap is not None:
        before = clicks.counts()
        clicks, old, place = split_at_pauses(clicks, rules.gap * raw.clock.per_second)
        users = pl.DataFrame({"user": names.sessions.cast(pl.String).gather(old), "place": place})
        names = Names(users.select(pl.format("{}-{}", "user", "place")).to_series(), names.items)
        steps.add(Step(f"sessions cut at pauses of more than {rules.gap:g} s", before, clicks.counts()))
    if wanted is not None:
        clicks = steps.keep("unwanted kinds of events", clicks, _mask(wanted), "other --event-kinds")
    return clicks, names


def _mask(mask: np.ndarray) -> Rule:
    return lambda _: mask


def _tie(clicks: Clicks, names: Names, rules: Rules) -> np.ndarray | None:
    if rules.ties == "file":
        return None
    if rules.ties == "appearance":
        return clicks.item
    numbers = names.items.cast(pl.Int64, strict=False)
    tie: np.ndarray = numbers.rank("ordinal").fill_null(0).to_numpy()[clicks.item]
    return tie


def _filtered(clicks: Clicks, rules: Rules, steps: _Steps, part: str = "", *, only_length: bool = False) -> Clicks:
    length, support = rules.min_session_length, rules.min_item_support
    short, rare = f"{part}sessions of fewer than {length} clicks", f"{part}items of fewer than {support} clicks"
    if rules.length_first or only_length:
        clicks = steps.keep(short, clicks, session_length(length), "a lower --min-session-length")
    passes = 0
    while not only_length and passes != rules.passes:
        passes += 1
        before = len(clicks)
        number = "" if rules.passes == 1 else f", pass {passes}"
        quiet = passes > 1
        clicks = steps.keep(rare + number, clicks, item_support(support), "a lower --min-item-support", quiet=quiet)
        clicks = steps.keep(short + number, clicks, session_length(length), "a lower --min-session-length", quiet=quiet)
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
    next_boundary: float | None = None,
) -> tuple[Clicks, Clicks, float]:
    boundary = where.tick(clicks, clock, None if rules.split_by == "end" else next_boundary, rules.split_by)
    early, late = split(clicks, boundary, rules.split_by)
    for mask, part in ((early, "train"), (late, name)):
        if not mask.any():
            first, end = clock.shown(clicks.time.min()), clock.shown(clicks.time.max())
            raise UserError(
                f"expected events on both sides of a split, got none for {part}: the boundary is "
                f"{clock.shown(boundary)} and the sessions, {len(clicks.starts):,}, run from {first} to {end}; choose "
                "another split or more data"
            )
    if not (early | late).all():
        kept = clicks.keep(early | late).counts()
        steps.add(Step(f"clicks after the {name} boundary in sessions from before it", clicks.counts(), kept))
    return clicks.keep(early), clicks.keep(late), boundary
