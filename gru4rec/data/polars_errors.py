"""Errors of polars while it reads and writes files."""

from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl

from inference.shared.errors import one_line

READING_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
"""What polars raises for files that it cannot read; some damaged parquet files make it panic."""


@contextmanager
def writing_errors() -> Iterator[None]:
    """Raise the errors of polars while it writes, for instance to a full disk, as an `OSError`."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise OSError(one_line(error).rpartition("IO error: ")[2]) from None
