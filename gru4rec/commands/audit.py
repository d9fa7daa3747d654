"""`gru4rec audit`: a profile of a log and of its test, and what is wrong with them."""

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from gru4rec.commands.column_flags import ColumnFlags
from gru4rec.data.clicks import Clicks, grouping_order
from gru4rec.data.reading.columns import LogColumns
from gru4rec.data.reading.log import read_log
from gru4rec.data.reading.log_file import open_log_file
from gru4rec.data.reading.log_rows import Reading
from gru4rec.data.reading.roles import choose_columns
from gru4rec.data.times import Clock
from gru4rec.preparation.audit import Part, order_information
from gru4rec.preparation.audit import audit as audit_log
from inference.shared.errors import UserError

INVALID = 4
"""Exit code of --strict if an evaluation would be invalid."""


def audit(
    file: Annotated[Path, Parameter(name="file")],
    /,
    *,
    test: Path | None = None,
    strict: bool = False,
    columns: ColumnFlags = ColumnFlags(),
    time_format: str = "auto",
) -> int:
    """Find what is wrong with a click log, and with an evaluation on its test.

    Example: gru4rec audit prepared --strict

    Args:
        file: click log (text, JSON, parquet), or prepared folder, whose training and test are compared
        test: click log that a model trained on the first one will be evaluated on
        strict: exit with 4 if something makes such an evaluation invalid
        time_format: s, ms, us, ns, order, iso or a pattern, if it is not recognised
    """
    if file.is_dir():
        test = file / "test.parquet" if test is None else test
        file = file / "train.parquet"
    files = [open_log_file(path) for path in (file, test) if path is not None]
    given = LogColumns(session=columns.session_column, item=columns.item_column, time=columns.time_column)
    recognised = choose_columns(files[0], given)
    raw = read_log(files, Reading(recognised, time_format=time_format))
    first = len(raw.clicks) if test is None else files[0].frame.select(pl.len()).collect(engine="streaming").item()
    train = _part("train", raw.clicks.keep(slice(0, first)))
    tested = None if test is None else _part("test", raw.clicks.keep(slice(first, None)))
    parts = [part for part in (train, tested) if part is not None]
    if len(parts) > 1 and not all(len(part.clicks) for part in parts):
        raise UserError(f"expected events in both files, got none in {file if first == 0 else test}")
    findings = audit_log(train, tested, raw.clock, order_information(train.clicks, tested.clicks if tested else None))
    console = Console()
    with console.capture() as profile:  # a console itself would exit if the reader of a pipe has gone
        console.print(_profile(parts, raw.clock))
    print(f"columns: {recognised.describe()}\ntimes: {raw.clock.describe()}\n\n{profile.get()}", end="")
    for finding in findings:
        print(f"{finding.severity}: {finding.text}")
    invalid = sum(finding.severity == "invalid" for finding in findings)
    print(f"{invalid} findings make an evaluation invalid" if invalid else "nothing makes an evaluation invalid")
    return INVALID if strict and invalid else 0


def _part(name: str, clicks: Clicks) -> Part:
    """A part from its clicks in the order of the file."""
    by_session = np.argsort(clicks.session, kind="stable")
    session, time = clicks.session[by_session], clicks.time[by_session]
    backwards = int(((session[1:] == session[:-1]) & (time[1:] < time[:-1])).sum())
    return Part(name, clicks.keep(grouping_order(clicks)), backwards)


def _profile(parts: list[Part], clock: Clock) -> Table:
    table = Table("", *(part.name for part in parts), title="Profile", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for name in dataclasses.asdict(parts[0].clicks.counts()):
        table.add_row(name, *(f"{getattr(part.clicks.counts(), name):,}" for part in parts))
    for row, statistic in (("first click", np.min), ("last click", np.max)):
        table.add_row(row, *(clock.format_time(statistic(part.clicks.time).item()) for part in parts))
    lengths = [part.clicks.lengths for part in parts]
    table.add_row("clicks per session: mean", *(f"{length.mean():.2f}" for length in lengths))
    for share in (50, 90, 99, 100):
        label = {50: "median", 100: "longest"}.get(share, f"{share} %")
        table.add_row(f"clicks per session: {label}", *(f"{np.percentile(length, share):,.0f}" for length in lengths))
    supports = [part.clicks.support[part.clicks.support > 0] for part in parts]
    table.add_row("clicks per item: median", *(f"{np.median(support):,.0f}" for support in supports))
    table.add_row("clicks per item: most", *(f"{support.max():,}" for support in supports))
    return table
