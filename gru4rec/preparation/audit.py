"""What is wrong with a log, and what would make figures measured on it worthless.

Every check looks at the clicks as numbers and reports what it found in one sentence. A finding is "invalid" only if an
evaluation would not measure what it claims to: test clicks in the training, training clicks from the test's future,
(almost) nothing to rank, a test made of robots. Everything else is a warning or a note.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gru4rec.data.clicks import Clicks
from gru4rec.data.times import DAY, Clock
from gru4rec.preparation.filters import is_duplicate
from gru4rec.preparation.order_test import popularity_recall, shuffle, transition_recall

Severity = Literal["invalid", "warning", "note"]

ROBOT_CLICKS, ROBOT_SECONDS = 20, 1.0  # this many clicks, less than this far apart on average
ENDLESS_CLICKS, ENDLESS_DAYS = 1000, 1.0
LARGEST_SAMPLE = 5_000_000  # clicks in which transitions are counted


@dataclass(frozen=True)
class Finding:
    """One sentence about a log: it makes an evaluation invalid, is worth a look, or is worth knowing."""

    severity: Severity
    text: str


@dataclass(frozen=True)
class Part:
    """A file of a log.

    Attributes:
        name: "train" or "test".
        clicks: grouped; all parts share item and session numbers.
        backwards: rows that are earlier than the row of their session before them.
    """

    name: str
    clicks: Clicks
    backwards: int


@dataclass(frozen=True)
class Order:
    """How much the order of clicks says: Recall@20 of the successors of the last click, and of popular items.

    Attributes:
        transitions: of the log as it is.
        without_order: of the same log with the clicks of every session shuffled.
        popularity: of the 20 most clicked items.
        pairs: number of predicted clicks.
    """

    transitions: float
    without_order: float
    popularity: float
    pairs: int


def audit(train: Part, test: Part | None, clock: Clock, order: Order | None) -> list[Finding]:
    """All findings, the worst first.

    Args:
        train: the log.
        test: what a model will be evaluated on.
        clock: of both.
        order: from `order_information`.
    """
    findings = []
    for part in (train, test):
        if part is not None:
            findings += [*_duplicates(part), *_robots(part, clock), *_clock_jumps(part, clock), *_lengths(part)]
    findings += [*_popularity(train), _order(order) if order else _no_order(train, test)]
    if test is not None:
        findings += [*_leaks(train, test, clock), *_unknown(train, test)]
    severities = ("invalid", "warning", "note")
    return sorted(findings, key=lambda finding: severities.index(finding.severity))


def order_information(train: Clicks, test: Clicks | None, seed: int = 0) -> Order | None:
    """Predict each next click from the last one.

    Args:
        train: a log.
        test: to predict; None holds out the latest tenth of the sessions.
        seed: of the shuffling.

    Returns:
        None if there is nothing to predict.
    """
    if test is None:
        begins = train.time[train.starts]
        late = np.repeat(begins >= np.sort(begins)[len(begins) - max(1, len(begins) // 10)], train.lengths)
        train, test = train.keep(~late), train.keep(late)
    if len(train) > LARGEST_SAMPLE:  # the latest sessions are enough
        train = train.keep(train.session >= train.session[len(train) - LARGEST_SAMPLE])
    n_pairs = len(test) - len(test.starts)
    if not n_pairs or len(train) == len(train.starts):
        return None
    generator = np.random.default_rng(seed)
    return Order(
        transition_recall(train, test),
        transition_recall(shuffle(train, generator), shuffle(test, generator)),
        popularity_recall(train, test),
        n_pairs,
    )


def _duplicates(part: Part) -> Iterator[Finding]:
    again = is_duplicate(part.clicks)
    if again.any():
        share = again.mean()
        yield Finding(
            "warning" if share > 0.01 else "note",
            f"{part.name}: {again.sum():,} clicks ({share:.1%}) are duplicates: same session, item and time; prepare "
            "--drop-duplicates drops them",
        )


def _robots(part: Part, clock: Clock) -> Iterator[Finding]:
    clicks = part.clicks
    starts, lengths = clicks.starts, clicks.lengths
    long = lengths >= ENDLESS_CLICKS
    suspicious, endless = long, long
    if clock.unit not in ("order", "day"):
        seconds = (clicks.time[starts + lengths - 1] - clicks.time[starts]) / clock.per_second
        fast = (lengths >= ROBOT_CLICKS) & (seconds < ROBOT_SECONDS * (lengths - 1))
        suspicious, endless = long | fast, long | (seconds >= ENDLESS_DAYS * DAY)
        if fast.any():
            yield Finding(
                "warning",
                f"{part.name}: {fast.sum():,} sessions of {ROBOT_CLICKS} clicks or more click faster than once in "
                f"{ROBOT_SECONDS:g} s, which no person does ({lengths[fast].sum() / len(clicks):.1%} of the clicks)",
            )
    if endless.any():
        yield Finding(
            "warning",
            f"{part.name}: {endless.sum():,} sessions have {ENDLESS_CLICKS:,} clicks or more or last a day or longer; "
            f"the longest has {lengths.max():,} clicks ({lengths[endless].sum() / len(clicks):.1%} of all clicks); "
            "prepare --max-session-length drops long ones, --session-gap cuts them at pauses",
        )
    share = lengths[suspicious].sum() / len(clicks)
    if part.name == "test" and share > 0.1:
        yield Finding(
            "invalid",
            f"test: {share:.0%} of its clicks are from robots or endless sessions, which decide the figures",
        )


def _clock_jumps(part: Part, clock: Clock) -> Iterator[Finding]:
    clicks = part.clicks
    if part.backwards:
        yield Finding(
            "note" if part.backwards < 0.01 * len(clicks) else "warning",
            f"{part.name}: {part.backwards:,} rows are earlier than the row of their session before them; they are "
            "sorted by time",
        )
    same = clicks.session[1:] == clicks.session[:-1]
    pause = np.diff(clicks.time)
    tied = (pause[same] == 0).mean() if same.any() else 0.0
    if tied > 0.2:
        yield Finding(
            "warning",
            f"{part.name}: {tied:.0%} of consecutive clicks have the same time; the file decides their order",
        )
    if clock.unit == "order":
        yield Finding("note", f"{part.name}: the times are plain numbers; pauses, robots and jumps cannot be judged")
        return
    day = DAY * clock.per_second
    long = (pause[same] > day).sum()
    if long:
        yield Finding(
            "warning",
            f"{part.name}: {long:,} pauses within a session are longer than a day; "
            "prepare --session-gap 3600 cuts sessions there",
        )
    times = np.sort(clicks.time)
    gaps = np.diff(times)
    if len(gaps) and gaps.max() > max(day, 0.05 * float(times[-1] - times[0])):
        at = int(gaps.argmax())
        begin, end = clock.format_time(times[at].item()), clock.format_time(times[at + 1].item())
        yield Finding("warning", f"{part.name}: no clicks between {begin} and {end}: the clock jumped, or data is lost")


def _lengths(part: Part) -> Iterator[Finding]:
    lengths = part.clicks.lengths
    single = (lengths == 1).mean()
    if single > 0.3:
        yield Finding(
            "warning" if part.name == "test" else "note",
            f"{part.name}: {single:.0%} of the sessions have a single click: nothing to learn or to measure",
        )


def _popularity(train: Part) -> Iterator[Finding]:
    support = np.sort(train.clicks.support[train.clicks.support > 0])[::-1]
    top = max(1, len(support) // 100)
    share = support[:top].sum() / support.sum()
    yield Finding("note", f"train: the most popular 1% of the items ({top:,}) gets {share:.0%} of the clicks")
    if support[0] > 0.2 * support.sum() and len(support) > 5:
        yield Finding(
            "warning",
            f"train: one item has {support[0] / support.sum():.0%} of all clicks; is it a product? prepare "
            "--max-item-share 0.2 drops it",
        )


def _no_order(train: Part, test: Part | None) -> Finding:
    if not any(part and part.clicks.lengths.max() > 1 for part in (train, test)):
        return Finding("warning", "no session has two clicks, so there is no next click to learn or to predict")
    where = "before the latest tenth of the sessions and in it" if test is None else "in train and in test"
    return Finding(
        "warning", f"cannot measure whether order carries information: this takes sessions of two clicks both {where}"
    )


def _order(order: Order) -> Finding:
    error = 2 * np.sqrt(0.5 / order.pairs)  # two standard errors of the difference, at most
    recalls = (
        f"the 20 likeliest successors of the last click hold the next one in {order.transitions:.1%}, after shuffling "
        f"each session in {order.without_order:.1%}; the 20 most popular items in {order.popularity:.1%}"
    )
    if order.transitions <= order.without_order + error:
        return Finding("warning", f"order carries no information: {recalls}")
    return Finding("note", f"order carries information: {recalls}")


def _leaks(train: Part, test: Part, clock: Clock) -> Iterator[Finding]:
    both = np.intersect1d(train.clicks.session, test.clicks.session)
    if len(both):
        shared = _count_shared(train.clicks, test.clicks, both)
        if shared:
            share = shared / len(test.clicks)
            yield Finding("invalid", f"{shared:,} clicks of the test ({share:.1%}) are also in the training file")
        yield Finding(
            "warning",
            f"{len(both):,} of {len(test.clicks.starts):,} test sessions have an id that is also in the training file",
        )
    begins = test.clicks.time.min()
    later = int((train.clicks.time >= begins).sum())
    if later:
        share = later / len(train.clicks)
        far = share > 0.05
        why = "this is no split by time" if far else "their sessions cross it; --split-by cut cuts them"
        yield Finding(
            "invalid" if far else "warning",
            f"{later:,} training clicks ({share:.1%}) are from after the first click of the test, "
            f"{clock.format_time(begins.item())}: {why}",
        )


def _count_shared(train: Clicks, test: Clicks, sessions: np.ndarray) -> int:
    """How many clicks of the test are in the training, with the same session, item and time."""
    kept = [part.keep(np.isin(part.session, sessions)) for part in (train, test)]
    rows = np.concatenate([np.rec.fromarrays([part.session, part.item, part.time]) for part in kept])
    which = np.repeat([0, 1], [len(kept[0]), len(kept[1])])
    _, group = np.unique(rows, return_inverse=True)
    in_train = np.bincount(group[which == 0], minlength=group.max() + 1) > 0
    return int(in_train[group[which == 1]].sum())


def _unknown(train: Part, test: Part) -> Iterator[Finding]:
    is_known = np.isin(test.clicks.item, train.clicks.item)
    unknown_items = len(np.unique(test.clicks.item[~is_known]))
    share = 1 - is_known.mean()
    if unknown_items:
        yield Finding(
            "invalid" if share > 0.5 else "warning" if share > 0.1 else "note",
            f"test: {unknown_items:,} items with {share:.1%} of its clicks are not in training and never recommended",
        )
    ranked = test.clicks.keep(is_known)
    pairs = len(ranked) - len(ranked.starts)
    if not pairs:
        yield Finding("invalid", "test: no session has two items that training knows, so there is nothing to evaluate")
    elif pairs < 1000:
        yield Finding(
            "warning",
            f"test: {pairs:,} clicks to rank; Recall is known to ± {2 * np.sqrt(0.25 / pairs):.1%} at best",
        )
