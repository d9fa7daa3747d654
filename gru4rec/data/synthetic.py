"""Realistic click logs of any size, for trials and tests.

Items belong to topics and have a Zipf-like popularity within them. A visitor arrives with one topic in mind. Most
clicks follow the previous item (to its neighbours within the topic, near ones more often than far ones), some jump
anywhere in the topic, and sometimes the intent drifts to another topic. So the order of clicks says most about the next
one, the topic of the session something, popularity a little. Session lengths are geometric with a long tail; sessions
overlap in time.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from inference.shared.errors import UserError

CLICKS_PER_SESSION = 5.0
FOLLOW, JUMP = 0.7, 0.25  # otherwise the intent drifts
NEIGHBOURHOOD = 4.0  # mean distance of the next click, in items of the topic


@dataclass(frozen=True)
class _Topics:
    """Topic t has the items first[t] … first[t] + size[t] - 1, the most popular first."""

    first: np.ndarray
    size: np.ndarray


def synthesize(events: int, items: int, seed: int = 0) -> pl.DataFrame:
    """A click log with the columns SessionId, ItemId (text) and Time (seconds).

    Args:
        events: clicks; a few more if the last session is longer.
        items: size of the catalogue, at least 10.
        seed: of all random choices.

    Raises:
        UserError: a number is too small.
    """
    if seed < 0:
        raise UserError(f"seed: expected at least 0, got {seed}")
    if events < 10 or items < 10:
        raise UserError(f"expected at least 10 events and 10 items, got {events} and {items}")
    generator = np.random.default_rng(seed)
    topics = _topics(items)
    lengths = _draw_lengths(events, generator)
    numbers = _draw_clicks(lengths, topics, generator)
    names = generator.permutation(items)  # ids must not reveal popularity
    width = len(str(items - 1))
    labels = np.array([f"item-{name:0{width}d}" for name in names])

    begins = np.sort(generator.integers(0, 86_400 * 30, size=len(lengths)))
    pauses = 1 + generator.exponential(40.0, size=lengths.sum()).astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    elapsed = np.cumsum(pauses) - np.repeat(np.cumsum(pauses)[starts], lengths)
    session = np.repeat(np.arange(len(lengths)), lengths)
    frame = pl.DataFrame(
        {
            "SessionId": session,
            "ItemId": labels[numbers],
            "Time": 1_700_000_000 + np.repeat(begins, lengths) + elapsed,
        }
    )
    return frame.with_columns(pl.format("visit-{}", "SessionId").alias("SessionId")).sort("Time", maintain_order=True)


def _topics(items: int) -> _Topics:
    n_topics = max(1, round(np.sqrt(items) / 2))
    weight = 1.0 / np.sqrt(np.arange(1, n_topics + 1))
    bounds = np.round(np.cumsum(weight) / weight.sum() * (items - n_topics)).astype(np.int64)
    size = np.diff(bounds, prepend=0) + 1
    return _Topics(np.cumsum(size) - size, size)


def _draw_lengths(events: int, generator: np.random.Generator) -> np.ndarray:
    tail = generator.geometric(1 / (CLICKS_PER_SESSION - 1), size=events)
    lengths = 1 + np.where(generator.random(events) < 0.02, 5 * tail, tail)
    n_sessions = int(np.searchsorted(np.cumsum(lengths), events)) + 1
    return lengths[:n_sessions].astype(np.int64)


def _draw_clicks(lengths: np.ndarray, topics: _Topics, generator: np.random.Generator) -> np.ndarray:
    """Item numbers of all clicks, int64 [clicks]; the k-th clicks of all sessions are drawn together."""
    starts = np.cumsum(lengths) - lengths
    clicks = np.empty(lengths.sum(), dtype=np.int64)
    topic = _draw_topics(len(lengths), topics, generator)
    place = _draw_places(topics.size[topic], generator)
    for click in range(int(lengths.max())):
        live = np.flatnonzero(lengths > click)
        if click:
            choice = generator.random(len(live))
            size = topics.size[topic[live]]
            step = generator.geometric(1 / NEIGHBOURHOOD, size=len(live))
            following = (place[live] + step) % size
            place[live] = np.where(choice < FOLLOW, following, _draw_places(size, generator))
            drifts = live[choice >= FOLLOW + JUMP]
            topic[drifts] = _draw_topics(len(drifts), topics, generator)
            place[drifts] = _draw_places(topics.size[topic[drifts]], generator)
        clicks[starts[live] + click] = topics.first[topic[live]] + place[live]
    return clicks


def _draw_topics(count: int, topics: _Topics, generator: np.random.Generator) -> np.ndarray:
    chance = np.cumsum(np.sqrt(topics.size))
    return np.searchsorted(chance / chance[-1], generator.random(count), side="right").astype(np.int64)


def _draw_places(size: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A place in each topic, approximately ∝ 1 / (place + 1): the inverse of the logarithmic distribution function."""
    places: np.ndarray = np.minimum((size + 1.0) ** generator.random(len(size)) - 1, size - 1).astype(np.int64)
    return places
