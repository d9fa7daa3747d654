"""Recommendations written for people (table) and for programs (jsonl, csv).

* table: a heading and the ranked items of each session. The bar shows e^(score − best score): for a model trained with
  cross-entropy, the item's probability relative to the best one.
* jsonl: {"session": …, "recommendations": [{"item": …, "score": …}, …], "unknown": […]}, one line a session. A session
  without a known item is ranked from the zero state and has "from_zero_state": true as well.
* csv: session, rank, item, score, known_clicks; the last is 0 for a session ranked from the zero state. A session with
  nothing left to recommend has one row with empty rank, item and score.

Scores have nine digits, enough to restore every float32.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from json.encoder import encode_basestring as quote_json
from typing import Any, TextIO

from inference.files.table import Session
from inference.model.recommender import Recommendation

Writer = Callable[[Session, Recommendation], object]

BAR_WIDTH = 20
CLICKS_SHOWN = 5


def create_writer(output_format: str, file: TextIO) -> Writer:
    """A function that writes the recommendations of a session to a file.

    Args:
        output_format: "table", "jsonl" or "csv".
        file: an open text file; a header is written at once.
    """
    if output_format == "table":
        return _create_table_writer(file)
    if output_format == "jsonl":
        return lambda session, recommendation: file.write(format_json(session.name, recommendation))
    file.write("session,rank,item,score,known_clicks\n")
    return lambda session, recommendation: file.writelines(_format_csv(session, recommendation))


def write_similar(output_format: str, file: TextIO, item: str, similar: Sequence[tuple[str, float]]) -> None:
    """Write the items most similar to one item, best first, with their cosines.

    Args:
        output_format: "table"; "jsonl", one line {"item": …, "similar": [{"item": …, "score": …}, …]}; or "csv", with
            the columns item, rank, similar, score.
        file: an open text file.
        item: the item that was asked for.
        similar: ids and cosines.
    """
    if output_format == "jsonl":
        file.write(f'{{"item": {quote_json(item)}, "similar": [{_format_items(similar)}]}}\n')
    elif output_format == "csv":
        file.write("item,rank,similar,score\n")
        file.writelines(
            f"{quote_csv(item)},{rank},{quote_csv(other)},{score:.9g}\n"
            for rank, (other, score) in enumerate(similar, start=1)
        )
    else:
        from rich.console import Console
        from rich.text import Text

        console = Console(file=file, highlight=False)
        console.print(Text.assemble(("Items like ", "bold"), (escape(item), "bold cyan")))
        console.print(_ranking_table(similar, "cosine", lambda score: max(0.0, score)))


def format_json(name: str, recommendation: Recommendation) -> str:
    """One session's recommendation as a line of JSON, line break included.

    >>> format_json("s1", Recommendation(items=("a",), scores=(0.5,), unknown=(), n_known=2))
    '{"session": "s1", "recommendations": [{"item": "a", "score": 0.5}], "unknown": []}\\n'
    """
    items = _format_items(zip(recommendation.items, recommendation.scores, strict=True))
    unknown = ", ".join(map(quote_json, recommendation.unknown))
    flag = "" if recommendation.n_known else ', "from_zero_state": true'
    return f'{{"session": {quote_json(name)}, "recommendations": [{items}], "unknown": [{unknown}]{flag}}}\n'


def _format_items(ranked: Iterable[tuple[str, float]]) -> str:
    return ", ".join(f'{{"item": {quote_json(item)}, "score": {score:.9g}}}' for item, score in ranked)


def quote_csv(text: str) -> str:
    """A field of a CSV file (RFC 4180), quoted if necessary; Python's writer does not quote a lone \\r.

    >>> print(quote_csv("plain"), quote_csv('5" nail'), quote_csv("a,b"))
    plain "5"" nail" "a,b"
    """
    if '"' in text or "," in text or "\n" in text or "\r" in text:
        return '"' + text.replace('"', '""') + '"'
    return text


def _format_csv(session: Session, recommendation: Recommendation) -> Iterator[str]:
    name, known = quote_csv(session.name), recommendation.n_known
    if not recommendation.items:
        yield f"{name},,,,{known}\n"
    ranked = zip(recommendation.items, recommendation.scores, strict=True)
    for rank, (item, score) in enumerate(ranked, start=1):
        yield f"{name},{rank},{quote_csv(item)},{score:.9g},{known}\n"


def _create_table_writer(file: TextIO) -> Writer:
    from rich.console import Console  # here, so that the other formats start without it
    from rich.text import Text

    console = Console(file=file, highlight=False)

    def write(session: Session, recommendation: Recommendation) -> None:
        heading = Text.assemble(("Session ", "bold"), (escape(session.name), "bold cyan"), "  ", _clicks(session))
        if recommendation.unknown:
            unknown = ", ".join(map(escape, recommendation.unknown[:CLICKS_SHOWN]))
            more = ", …" if len(recommendation.unknown) > CLICKS_SHOWN else ""
            heading.append(f"\n{len(recommendation.unknown)} not known to the model: {unknown}{more}", "yellow")
        if not recommendation.n_known:
            heading.append("\nno known click: ranked as for a session that has not begun", "yellow")
        console.print(heading)
        if not recommendation.items:
            console.print("  nothing left to recommend\n")
            return
        best = recommendation.scores[0]
        ranked = list(zip(recommendation.items, recommendation.scores, strict=True))
        console.print(_ranking_table(ranked, "against the best", lambda score: math.exp(score - best)))
        console.print()

    return write


def _ranking_table(ranked: Sequence[tuple[str, float]], bar_title: str, share: Callable[[float], float]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="dim")
    table.add_column("", justify="right", style="dim", min_width=3)
    table.add_column("item", min_width=16, overflow="fold")
    table.add_column("score", justify="right", min_width=9)
    table.add_column(bar_title, width=BAR_WIDTH, style="green", no_wrap=True)
    for rank, (item, score) in enumerate(ranked, start=1):
        table.add_row(str(rank), Text(escape(item)), f"{score:.4f}", "█" * max(1, round(BAR_WIDTH * share(score))))
    return table


def _clicks(session: Session) -> str:
    count = f"{len(session.items)} click{'' if len(session.items) == 1 else 's'}"
    if not session.items:
        return count
    shown = " → ".join(map(escape, session.items[-CLICKS_SHOWN:]))
    return f"{count}: {'… → ' if len(session.items) > CLICKS_SHOWN else ''}{shown}"


def escape(text: str) -> str:
    """Escape control characters, so that an id cannot control a terminal.

    >>> escape("a\\x1b[2J")
    'a\\\\x1b[2J'
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
