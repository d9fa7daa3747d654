"""Which column of a raw log is which: named by the user, or recognised by its name.

Names are compared without case, blanks and punctuation, so that "Session_ID" is "sessionid". What was recognised is
reported, never silent.
"""

import re
from dataclasses import dataclass, fields

from gru4rec.data.event_files import EventFile
from inference.shared.errors import UserError

KNOWN_NAMES = {
    "session": ("sessionid", "session", "sessionidhash", "usersession", "visitid", "visit", "sid"),
    "user": ("userid", "user", "visitorid", "visitor", "customerid", "customer", "clientid", "uid"),
    "item": ("itemid", "item", "productid", "product", "productskushash", "productskuhash", "sku", "articleid", "iid"),
    "time": ("time", "timestamp", "eventtime", "servertimestampepochms", "datetime", "eventdate", "date", "ts"),
    "event": ("event", "eventtype", "eventname", "productaction", "action", "type"),
}
"""The names that each role is recognised by, the likelier first."""


@dataclass(frozen=True)
class RawColumns:
    """The columns of a raw log; None where there is none, or where it is to be recognised.

    Attributes:
        session: session ids.
        user: ids of users, or of anything else whose clicks are cut into sessions.
        item: item ids.
        time: when.
        event: what kind of event it was.
        day: the day that `time` counts milliseconds from; the earliest one of a session holds for all of it.
    """

    session: str | None = None
    user: str | None = None
    item: str | None = None
    time: str | None = None
    event: str | None = None
    day: str | None = None

    @property
    def group(self) -> str:
        """The column whose clicks belong together: the session's, or else the user's."""
        column = self.session or self.user
        assert column is not None
        return column

    def described(self) -> str:
        """Which column is which, for people."""
        return ", ".join(
            f"{item.name} {getattr(self, item.name)!r}" for item in fields(self) if getattr(self, item.name)
        )


def recognised_columns(file: EventFile, given: RawColumns, *, by_user: bool, with_event: bool) -> RawColumns:
    """The columns of a file.

    Args:
        file: the log.
        given: what the user said; the rest is recognised.
        by_user: sessions are to be made from users, unless a session column is given.
        with_event: events are to be told apart by a column.

    Raises:
        UserError: a column is missing, named twice, or not to be recognised.
    """
    session, user = given.session, given.user
    if session is not None and user is not None:
        raise UserError(
            f"expected sessions that are given or made from users, got both the session column {session!r} and the "
            f"user column {user!r}; leave out --session-column or --user-column"
        )
    if session is None and user is None:
        session = None if by_user else _recognised(file, "session")
        user = _recognised(file, "user") if session is None else None
        if session is None and user is None:
            role, other = ("user", "") if by_user else ("session", " (or one of users with --user-column)")
            raise _missing(file, role, f"name yours with --{role}-column{other}")
    chosen = RawColumns(
        session=session,
        user=user,
        item=given.item or _required(file, "item"),
        time=given.time or _required(file, "time"),
        event=(given.event or _required(file, "event")) if with_event else None,
        day=given.day,
    )
    check_columns(file, chosen)
    return chosen


def check_columns(file: EventFile, columns: RawColumns) -> None:
    """Refuse a file that lacks one of the columns or names it twice, and a column that is to be two things at once.

    Raises:
        UserError: it does.
    """
    for item in fields(columns):
        name = getattr(columns, item.name)
        if name is None:
            continue
        if file.names.count(name) > 1:
            raise UserError(
                f"{file.path}: expected one {item.name} column {name!r}, found {file.names.count(name)} in its header"
            )
        if name not in file.names:
            raise _missing(file, item.name, f"expected {name!r}; name yours with --{item.name}-column")
        others = [other.name for other in fields(columns) if getattr(columns, other.name) == name]
        if len(others) > 1:
            raise UserError(
                f"{file.path}: expected different columns for {' and '.join(others)}, got {name!r} for both; name "
                f"yours with --{others[0]}-column or --{others[1]}-column"
            )


def _recognised(file: EventFile, role: str) -> str | None:
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in file.names]
    for known in KNOWN_NAMES[role]:
        if known in plain:
            return file.names[plain.index(known)]
    return None


def _required(file: EventFile, role: str) -> str:
    name = _recognised(file, role)
    if name is None:
        raise _missing(file, role, f"name yours with --{role}-column")
    return name


def _missing(file: EventFile, role: str, remedy: str) -> UserError:
    shown = ", ".join(map(repr, file.names[:12]))
    hint = ""
    if file.kind == "text" and len(file.names) == 1:
        hint = f" when it is delimited by {file.delimiter!r}; name its --delimiter if it is another"
    return UserError(f"{file.path}: expected {_article(role)} {role} column, found only {shown}{hint}; {remedy}")


def _article(word: str) -> str:
    return "an" if word[0] in "aeio" else "a"
