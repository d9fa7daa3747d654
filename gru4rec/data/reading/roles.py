"""Choosing the columns of a log: those that the user named, those of its layout, and those known by name."""

from collections.abc import Mapping

import polars as pl

from gru4rec.data.reading.columns import LogColumns, recognise
from gru4rec.data.reading.layouts import Layout, match_header
from gru4rec.data.reading.log_file import LogFile, missing_column
from gru4rec.data.reading.rows import kinds_of
from inference.shared.errors import UserError

NO_COLUMN = "none"
"""What a user names instead of a column of times if the rows are in order."""
TEXT = (pl.String, pl.Categorical, pl.Enum, pl.Binary)


def find_layout(file: LogFile) -> Layout | None:
    """The public log that a file looks like."""
    return file.text.layout if file.text and file.text.layout else match_header(file.names)


def choose_columns(file: LogFile, given: LogColumns, *, by_user: bool = False, with_event: bool = False) -> LogColumns:
    """The columns of a file.

    Args:
        file: the log.
        given: the columns that are known; the others are recognised by their names. The time may be "none".
        by_user: make sessions from users if there is a column of them.
        with_event: a column tells kinds of events apart.

    Raises:
        UserError: a column is missing, repeated, not recognised, or named for two roles.
    """
    if given.session and given.user:
        raise UserError(
            f"expected given sessions or sessions made from users, got both the session column {given.session!r} and "
            f"the user column {given.user!r}; leave out --session-column or --user-column"
        )
    columns, roles, names = given.named, ["item", "time"], file.paths()
    if with_event:
        roles.append("event")
    else:
        columns.pop("event", None)
    if not given.group_role and not given.named.get("item", "").count("+"):
        session, user = recognise(names, "session"), recognise(names, "user")
        roles.append("user" if user and (by_user or not session) else "session")
    for role in roles:
        name = columns.get(role) or recognise(names, role)
        if name is None:
            raise missing_column(file, role)
        columns[role] = name
    if columns["time"] == NO_COLUMN:
        del columns["time"]
    chosen = LogColumns(**columns)
    check_columns(file, chosen.named)
    return chosen


def check_columns(file: LogFile, columns: Mapping[str, str]) -> dict[str, pl.DataType]:
    """Check that a file has each column once, that none has two roles, and that those of ids can hold ids.

    Args:
        file: the log.
        columns: role → column name or path.

    Returns:
        The type of each role's values.

    Raises:
        UserError: a column is missing, repeated, named for two roles, or its ids are neither numbers nor text.
    """
    for name in columns.values():
        roles = [other for other in columns if columns[other] == name]
        if len(roles) > 1:
            raise UserError(
                f"{file.source.name}: expected different columns for {' and '.join(roles)}, got {name!r} for both; "
                f"name yours with --{roles[0]}-column or --{roles[1]}-column"
            )
    kinds = kinds_of(file, columns)
    for role, kind in kinds.items():
        if role in ("session", "user", "item") and not (kind.is_numeric() or kind in TEXT):
            raise UserError(
                f"{file.source.name}: column {columns[role]!r}: expected numbers or text as ids, got {kind}"
            )
    return kinds
