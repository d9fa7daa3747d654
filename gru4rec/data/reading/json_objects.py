"""JSON files: an object per line, an array of objects, or objects that span lines.

Every value becomes text, as it is written in the file, whatever depth it has.
"""

import json
from dataclasses import replace

import polars as pl

from gru4rec.data.reading.lines import scan_lines
from gru4rec.data.reading.sources import Source, TemporaryFile
from inference.shared.errors import UserError

ROWS_FOR_NAMES = 1000
BETWEEN_OBJECTS = " \t\r\n,[]"


def as_json_lines(source: Source, first: str) -> Source:
    """A file with an object per line; anything else is written again that way into a temporary file.

    Args:
        source: plain or packed with gzip or zstd.
        first: its first line.

    Raises:
        UserError: it is neither an array of objects nor objects one after the other.
    """
    try:
        if isinstance(json.loads(first), dict):
            return source
    except ValueError:
        pass
    text = "\n".join(scan_lines(source).collect()["line"]).removeprefix("\ufeff")
    decoder, temporary, place = json.JSONDecoder(), TemporaryFile(), 0
    with open(temporary.path, "w", encoding="utf-8") as file:
        while place := _next_object(text, place):
            try:
                value, place = decoder.raw_decode(text, place - 1)
            except ValueError as error:
                at = text.count("\n", 0, error.pos) + 1 if isinstance(error, json.JSONDecodeError) else 1
                raise UserError(f"{source.name}: line {at}: expected JSON objects, got an error: {error}") from None
            if not isinstance(value, dict):
                raise UserError(f"{source.name}: expected JSON objects, one per click or session, got {value!r:.60}")
            file.write(json.dumps(value) + "\n")
    return replace(source, path=temporary.path, temporary=temporary)


def _next_object(text: str, place: int) -> int:
    """One more than the place of the next value, 0 at the end."""
    while place < len(text) and text[place] in BETWEEN_OBJECTS:
        place += 1
    return place + 1 if place < len(text) else 0


def scan_json_lines(source: Source) -> pl.LazyFrame:
    """All values of the objects as text, in their nesting."""
    inferred = pl.scan_ndjson(source.path, infer_schema_length=ROWS_FOR_NAMES).collect_schema()
    return pl.scan_ndjson(source.path, schema={name: as_text(kind) for name, kind in inferred.items()})


def as_text(kind: pl.DataType) -> pl.DataType:
    """A type with text in place of every number, boolean and null."""
    if isinstance(kind, pl.List):
        return pl.List(as_text(kind.inner))  # type: ignore[arg-type]
    if isinstance(kind, pl.Struct):
        return pl.Struct({field.name: as_text(field.dtype) for field in kind.fields})  # type: ignore[arg-type]
    return pl.String()
