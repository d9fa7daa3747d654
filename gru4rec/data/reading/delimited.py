"""Delimited text: which separator, whether there is a header, and what its quotes mean.

A header is a first line without a number or a date in it. A file without one is read if it has the shape of a public
log, or if the user names its columns. Quotes enclose values as in RFC 4180 if every line, or every group of lines that
a quoted value spans, is well-formed that way; if lines only fit together when quotes are ordinary characters, they are.
"""

import csv
import re
from contextlib import suppress
from dataclasses import dataclass

import polars as pl

from gru4rec.data.reading.layouts import Layout, match_cells
from gru4rec.data.reading.lines import scan_lines
from gru4rec.data.reading.sources import GZIP, ZSTANDARD, Source
from inference.shared.errors import UserError

SEPARATORS = ("\t", "::", ";", ",", "|")
BLOCK_BYTES = 1 << 22
BLANKS = ""  # runs of blanks
EXCEL_SEPARATOR = re.compile(r"sep=(.)", re.IGNORECASE)
TYPED_NAME = re.compile(r"(.+):(token|float)(_seq)?")  # RecBole's name:type
NUMBER = r"[+-]?\d+([.,]\d+)?(e[+-]?\d+)?"
DATE = r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?"
VALUE = re.compile(f"{NUMBER}|{DATE}", re.IGNORECASE)
SECONDS = re.compile(r"\d{9,10}(\d{3}|\d{6}|\d{9})?(\.\d+)?|" + DATE)


@dataclass(frozen=True)
class Delimited:
    """How a text file is written.

    Attributes:
        names: of its columns, including repeated ones.
        separator: of its values; "" for runs of blanks.
        skipped: lines before the first row, which are a header, a comment or Excel's sep=;.
        has_quotes: there are quotes in it.
        quoted: they enclose values.
        layout: of the public log whose shape it has, if it has no header.
    """

    names: tuple[str, ...]
    separator: str
    skipped: int
    has_quotes: bool
    quoted: bool
    layout: Layout | None = None

    @property
    def unique_names(self) -> list[str]:
        """The names, repeated ones with their place."""
        names = self.names
        return [name if name not in names[:place] else f"{name} ({place + 1})" for place, name in enumerate(names)]


def recognise(
    source: Source, lines: list[str], names: tuple[str, ...] = (), separator: str | None = None, *, quotes: bool = True
) -> Delimited:
    """How a text file is written.

    Args:
        source: the file.
        lines: its first lines.
        names: of its first columns, if it has no header.
        separator: of its values, "" for runs of blanks; None recognises it.
        quotes: quotes may enclose values.

    Raises:
        UserError: there are fewer columns than names, no header and no shape that is known, or quotes that fit nothing.
    """
    skipped = 0
    if excel := EXCEL_SEPARATOR.fullmatch(lines[0].strip()):
        separator, skipped = separator or excel[1], 1
    while skipped < len(lines) and lines[skipped].startswith("#"):
        skipped += 1
    lines = lines[skipped:]
    if not lines or not lines[0].strip():
        raise UserError(
            f"{source.name}: expected a header or a JSON object in line {skipped + 1}, got a blank one; remove it"
        )
    if separator is None:
        separator = find_separator(lines)
    rows = split_lines(lines, separator, quotes=quotes)
    has_header = not any(VALUE.fullmatch(cell) for cell in rows[0])
    layout = None
    if names:
        if len(rows[0]) < len(names):
            raise UserError(
                f"{source.name}: expected at least {len(names)} columns ({', '.join(names)}), got {len(rows[0])} in "
                "the first line"
            )
        names += tuple(f"column {number}" for number in range(len(names) + 1, len(rows[0]) + 1))
    elif has_header:
        names = tuple(TYPED_NAME.sub(r"\1", name) for name in rows[0])
    elif layout := match_cells(rows):
        names = layout.names
    else:
        raise UserError(
            f"{source.name}: the first line looks like data, not like a header: {lines[0]!r:.80}; name its columns "
            f"by position, such as --columns {suggest_names(rows)}"
        )
    skipped += has_header
    has_quotes = quotes and find_quotes(source)
    quoted = has_quotes and find_quoting(source, skipped, len(names), separator)
    return Delimited(names, separator, skipped, has_quotes, quoted, layout)


def find_separator(lines: list[str]) -> str:
    """The separator that all lines have equally often, or else the most frequent one of the first line."""
    plain = [re.sub('"[^"]*"', "", line) for line in lines if line.strip()]
    counts = {separator: plain[0].count(separator) for separator in SEPARATORS}
    steady = {
        separator: count
        for separator, count in counts.items()
        if count and all(line.count(separator) == count for line in plain)
    }
    best = max(steady or counts, key=lambda separator: counts[separator])
    return best if counts[best] else BLANKS if re.search(r"\S\s+\S", plain[0]) else SEPARATORS[0]


def split_lines(lines: list[str], separator: str, *, quotes: bool = True) -> list[list[str]]:
    """The cells of lines, without blanks around them; empty lines are skipped."""
    rows = [line.split(separator or None) for line in lines]
    if len(separator) == 1 and quotes:
        with suppress(csv.Error):  # what it refuses, such as a very long value, is not quoted
            rows = list(csv.reader(lines, delimiter=separator))
    return [[cell.strip().strip('"').strip() for cell in row] for row in rows if row]


def suggest_names(rows: list[list[str]]) -> str:
    """The likeliest roles of columns without names: a time, and before it sessions and items."""
    columns = list(zip(*(row for row in rows if len(row) == len(rows[0])), strict=True))
    roles = ["_"] * len(columns)
    times = [at for at, cells in enumerate(columns) if all(SECONDS.fullmatch(cell) for cell in cells)]
    others = [at for at in range(len(columns)) if at not in times[:1]]
    if times:
        roles[times[0]] = "time"
    if others:
        roles[others[0]] = "session"
        items = max(others[1:], key=lambda at: len(set(columns[at])), default=None)
        if items is not None:
            roles[items] = "item"
    return ",".join(roles)


def find_quotes(source: Source) -> bool:
    """Whether a file has any quotes; most have none, and are read faster then."""
    with open(source.path, "rb") as file:
        if not file.read(len(ZSTANDARD)).startswith((GZIP, ZSTANDARD)):
            file.seek(0)
            return any(b'"' in block for block in iter(lambda: file.read(BLOCK_BYTES), b""))
    quotes = pl.col("line").str.contains('"', literal=True).any()
    return bool(scan_lines(source).select(quotes).collect(engine="streaming").item())


def find_quoting(source: Source, skipped: int, n_columns: int, separator: str) -> bool:
    """Whether quotes enclose values; else they are ordinary characters.

    Raises:
        UserError: neither reading fits the file; with the line.
    """
    if len(separator) != 1:
        return False
    line = pl.col("line")
    quotes = line.str.count_matches('"', literal=True)
    lines = scan_lines(source).with_row_index("number", 1).slice(skipped)
    with_quotes = lines.filter(quotes > 0)
    plain = re.escape(separator)
    value = f'(?:"(?:[^"]|"")*"|[^"{plain}]*)'
    row = f"^\\s*{value}(?:{plain}{value})*\\s*$"
    marked = with_quotes.select("number", odd=~line.str.contains(row), cells=line.str.count_matches(plain) + 1)
    found = marked.select(
        first=pl.col("number").filter("odd").first(), literal=(pl.col("cells") == n_columns).all()
    ).collect(engine="streaming")
    first, literal = found.row(0)
    if first is None:
        return True
    if literal:
        return False
    opened = (quotes.cum_sum() - quotes) % 2 == 1  # the line begins inside of quotes
    spanning = (
        lines.with_columns(group=(~opened).cum_sum(), odd=~line.str.contains(row))
        .filter(pl.col("odd").any().over("group") | (opened.any().over("group")))
        .group_by("group", maintain_order=True)
        .agg(pl.col("number").first(), line.str.join("\n"))
    )
    outside = line.str.replace_all('"(?:[^"]|"")*"', "")
    fits = line.str.contains(row) & (outside.str.count_matches(plain) + 1 == n_columns)
    wrong = spanning.filter(~fits).select(pl.col("number").first()).collect().item()
    if wrong is None:
        return True
    raise UserError(
        f'{source.name}: line {wrong}: expected every quote (") to be closed, got an open one; --no-quotes reads '
        "quotes as ordinary characters"
    )


def scan(source: Source, text: Delimited) -> pl.LazyFrame:
    """All columns as text, without blanks around the values."""
    names = text.unique_names
    if len(text.separator) == 1:
        frame = pl.scan_csv(
            source.path,
            has_header=False,
            skip_lines=text.skipped,
            separator=text.separator,
            quote_char='"' if text.quoted else None,
            schema=dict.fromkeys(names, pl.String),
            missing_columns="insert",
        )
    else:
        line = pl.col("line").str.strip_chars()
        if text.separator == BLANKS:
            line = line.str.replace_all(r"\s+", " ")
        cells = line.str.split(text.separator or " ")
        columns = [cells.list.get(at, null_on_oob=True).alias(name) for at, name in enumerate(names)]
        frame = scan_lines(source).slice(text.skipped).select(columns)
    stripped = pl.all().str.strip_chars()
    return frame.select(stripped.str.replace(r'^"(.*)"$', "${1}") if text.has_quotes else stripped)
