"""Which column of a raw log is which: named by the user, or recognised by its name.

Names are compared without case, blanks and punctuation: "Session_ID" is "sessionid". What was recognised is reported.
"""

import re
from dataclasses import asdict, dataclass

from gru4rec.data.event_files import EventFile, check_columns, missing_column
from inference.shared.errors import UserError

KNOWN_NAMES = {
    "session": ("sessionid", "session", "sessionidhash", "usersession", "visitid", "visit", "sid"),
    "user": ("userid", "user", "visitorid", "visitor", "customerid", "customer", "clientid", "uid"),
    "item": ("itemid", "item", "productid", "product", "productskushash", "productskuhash", "sku", "articleid", "iid"),
    "time": ("time", "timestamp", "eventtime", "servertimestampepochms", "datetime", "eventdate", "date", "ts"),
    "event": ("event", "eventtype", "eventname", "productaction", "action", "type"),
}
"""The names that each role is recognised by, the likeliest first."""


@dataclass(frozen=True)
class RawColumns:
    """The columns of a raw log; None if there is none, or if it is to be recognised.

    Attributes:
        session: session ids.
        user: ids of users, or of anything else whose clicks are cut into sessions.
        item: item ids.
        time: time of the click.
        event: kind of event.
        day: the day that `time` counts milliseconds from; the earliest day of a session counts for all of it.
    """

    session: str | None = None
    user: str | None = None
    item: str | None = None
    time: str | None = None
    event: str | None = None
    day: str | None = None

    @property
    def named(self) -> dict[str, str]:
        """Role → column name of those there are."""
        return {role: name for role, name in asdict(self).items() if name}

    @property
    def group(self) -> str:
        """The column whose clicks belong together: the session's, else the user's."""
        column = self.session or self.user
        assert column is not None
        return column

    def describe(self) -> str:
        """Which column is which, in words."""
        return ", ".join(f"{role} {name!r}" for role, name in self.named.items())


def recognise_columns(file: EventFile, given: RawColumns, *, by_user: bool, with_event: bool) -> RawColumns:
    """The columns of a file.

    Args:
        file: the log.
        given: the columns that the user named; the others are recognised.
        by_user: make sessions from users, unless a session column is given.
        with_event: a column tells kinds of events apart.

    Raises:
        UserError: a column is missing, repeated or not recognised.
    """
    if given.session and given.user:
        raise UserError(
            f"expected given sessions or sessions made from users, got both the session column {given.session!r} and "
            f"the user column {given.user!r}; leave out --session-column or --user-column"
        )
    columns, roles = given.named, ["item", "time"]
    if with_event:
        roles.append("event")
    else:
        columns.pop("event", None)
    if not given.session and not given.user:
        by_user |= _recognise(file, "session") is None and _recognise(file, "user") is not None
        roles.append("user" if by_user else "session")
    for role in roles:
        name = columns.get(role) or _recognise(file, role)
        if name is None:
            raise missing_column(file, role)
        columns[role] = name
    chosen = RawColumns(**columns)
    check_columns(file, chosen.named)
    return chosen


def _recognise(file: EventFile, role: str) -> str | None:
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in file.names]
    return next((file.names[plain.index(known)] for known in KNOWN_NAMES[role] if known in plain), None)
