"""The flags that name the columns of a click log, the same for every command that reads one."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from inference.shared.columns import Columns

USUAL = Columns()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ColumnFlags:
    """The names of a log's columns; None where no flag is set."""

    session_column: Annotated[
        str | None, Parameter(help=f"column of the session ids [default: {USUAL.session}; prepare, audit: recognised]")
    ] = None
    item_column: Annotated[
        str | None, Parameter(help=f"column of the item ids [default: {USUAL.item}; prepare, audit: recognised]")
    ] = None
    time_column: Annotated[
        str | None, Parameter(help=f"column of the times [default: {USUAL.time}; prepare, audit: recognised]")
    ] = None

    def as_columns(self) -> Columns:
        """The names, with the usual ones where no flag is set."""
        names = (self.session_column, self.item_column, self.time_column)
        return Columns(*(usual if name is None else name for name, usual in zip(names, USUAL.names, strict=True)))
