"""Clicks as they happen, each answered at once.

A line of input is one click, {"session": "…", "item": "…"}, and its answer is one line of output. Clicks that have
arrived together are computed in batches, so a busy stream is fast and a quiet one is answered click by click. The
answers equal those of one click after the other, in the order of the clicks: a session's second click needs the state
after the first, so it is computed in a later batch.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from inference.files.sessions import parse_id, parse_object
from inference.files.text import Line, decode_line, open_input, source_name
from inference.model.recommender import Recommendation, SessionState
from inference.shared.errors import UserError, unknown_item
from inference.shared.vocabulary import Vocabulary
from inference.streaming.states import SessionStates

BYTES_AT_ONCE = 1 << 16
CLICKS_AT_ONCE = 256
LONGEST_LINE = 1 << 20
"""Bytes of the longest line that is accepted as a click."""

EXAMPLE = '{"session": "s1", "item": "i17"}'

Steps = Callable[[Sequence[SessionState], Sequence[str]], list[tuple[SessionState, Recommendation]]]


class Click(NamedTuple):
    """One click: a session's name and the item."""

    session: str
    item: str


def read_clicks(path: str, known: Vocabulary | None = None) -> Iterator[list[Click]]:
    """The clicks of a stream, in lists of those that have arrived together.

    Args:
        path: a file or a pipe, or "-" for standard input; gzip is unpacked.
        known: items outside this vocabulary are an error; None accepts any item.

    Raises:
        UserError: it cannot be read, or a line is no click; the clicks before it have been yielded.
    """
    name = source_name(path)
    number, rest = 0, b""
    with open_input(path) as file:
        while arrived := file.read1(BYTES_AT_ONCE):
            *complete, rest = (rest + arrived).split(b"\n")
            if complete:
                yield from _parse_clicks(complete, number, name, known)
                number += len(complete)
            if len(rest) > LONGEST_LINE:
                raise UserError(
                    f"{name}, line {number + 1}: expected a click, got a line of more than {LONGEST_LINE} bytes"
                )
        if rest:
            yield from _parse_clicks([rest], number, name, known)


def _parse_clicks(lines: list[bytes], before: int, name: str, known: Vocabulary | None) -> Iterator[list[Click]]:
    clicks: list[Click] = []
    try:
        for number, raw in enumerate(lines, start=before + 1):
            line = decode_line(raw, number, name)
            if line.text.strip():
                clicks.append(_parse_click(line, name, known))
    except UserError:
        yield clicks
        raise
    yield clicks


def _parse_click(line: Line, name: str, known: Vocabulary | None) -> Click:
    value = parse_object(line.text, name, line.number, EXAMPLE)
    for key in ("session", "item"):
        if key not in value:
            raise UserError(f'{name}, line {line.number}: expected a click such as {EXAMPLE}, got no "{key}"')
    session, item = (parse_id(value[key], key, name, line.number) for key in ("session", "item"))
    if known is not None and item not in known:
        raise unknown_item(f"{name}, line {line.number}", item)
    return Click(session, item)


def answer_clicks(
    clicks: Sequence[Click], states: SessionStates, steps: Steps, new_state: SessionState
) -> Iterator[list[Recommendation]]:
    """The recommendations after each click, in the order of the clicks, in batches.

    Args:
        clicks: those that have arrived together.
        states: of the sessions; updated.
        steps: `Recommender.steps` with its options.
        new_state: the state of a session before its first click.
    """
    start = 0
    while start < len(clicks):
        names: set[str] = set()
        end = start
        for session, _ in clicks[start : start + CLICKS_AT_ONCE]:
            names.add(session)
            if len(names) > states.capacity:
                break  # no session of these clicks may be forgotten before all of them are answered
            end += 1
        yield from _answer(clicks[start:end], states, steps, new_state)
        start = end


def _answer(
    clicks: Sequence[Click], states: SessionStates, steps: Steps, new_state: SessionState
) -> Iterator[list[Recommendation]]:
    """As `answer_clicks`: first the first click of every session is computed, then the second, and so on."""
    now: dict[str, SessionState] = {}
    n_clicks: Counter[str] = Counter()
    rounds: defaultdict[int, list[int]] = defaultdict(list)
    for place, (session, _) in enumerate(clicks):
        now.setdefault(session, states.take(session, new_state))
        rounds[n_clicks[session]].append(place)
        n_clicks[session] += 1

    results: dict[int, tuple[SessionState, Recommendation]] = {}
    answered = 0
    for places in rounds.values():
        together = [clicks[place] for place in places]
        computed = steps([now[click.session] for click in together], [click.item for click in together])
        results |= zip(places, computed, strict=True)
        now |= {click.session: state for click, (state, _) in zip(together, computed, strict=True)}
        ready = []
        while answered in results:
            state, recommendation = results[answered]
            states.put(clicks[answered].session, state)
            ready.append(recommendation)
            answered += 1
        yield ready
