"""The lines of a text file, plain or packed with gzip or zstd."""

import polars as pl

from gru4rec.data.reading.sources import Source
from inference.shared.errors import UserError

SAMPLE_LINES = 200
NO_SEPARATOR = "\x01"  # occurs in no text: the whole line is one column


def scan_lines(source: Source, rows: int | None = None) -> pl.LazyFrame:
    """The lines, the first `rows` or all of them, in one column "line"; bytes that are no UTF-8 become U+FFFD."""
    frame = pl.scan_csv(
        source.path,
        has_header=False,
        separator=NO_SEPARATOR,
        quote_char=None,
        schema={"line": pl.String},
        encoding="utf8-lossy",
        empty_string_is_null=False,
        n_rows=rows,
    )
    return frame.select(pl.col("line").fill_null("").str.strip_suffix("\r"))


def first_lines(source: Source) -> list[str]:
    """The first lines of a file, without a byte-order mark.

    Raises:
        UserError: the file is empty, or no text with line breaks.
    """
    lines = scan_lines(source, SAMPLE_LINES).collect()["line"].to_list()
    if not lines or lines == [""]:
        raise pl.exceptions.NoDataError("no line")
    first = lines[0]
    if len(lines) == 1 and "\r" in first:
        raise UserError(f"{source.name}: expected lines that end in \\n, got \\r; save the file with Unix line ends")
    return [first.removeprefix("\ufeff"), *lines[1:]]
