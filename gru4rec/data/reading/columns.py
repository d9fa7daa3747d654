"""Which column of a log is which: named by the user, given by a layout, or recognised by its name.

Names are compared without case, blanks and punctuation: "Session_ID" is "sessionid". What was recognised is reported.
A name may be a path into nested values: items.item_id, contexts.product.sku.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass

# fmt: off
KNOWN_NAMES: dict[str, tuple[str, ...]] = {
    "session": (
        "sessionid", "session", "sessionidhash", "sessionkey", "sessid", "usersession", "visitid", "visit", "sid",
        "domainsessionid", "gasessionid", "browsersession", "basketid",
    ),
    "user": (
        "userid", "user", "visitorid", "visitor", "customerid", "customer", "clientid", "client", "uid",
        "userpseudoid", "anonymousid", "reviewerid", "memberid", "cookieid", "deviceid", "shopperid", "profileid",
        "accountid",
    ),
    "item": (
        "itemid", "item", "productid", "product", "productskushash", "productskuhash", "productsku", "productcode",
        "sku", "skuid", "articleid", "article", "iid", "aid", "asin", "parentasin", "movieid", "trackid",
        "trackidclean", "songid", "newsid", "videoid", "bookid", "contentid", "goodsid", "stockcode", "listingid",
        "venueid", "locationid", "businessid", "hotelid", "items",
    ),
    "time": (
        "time", "timestamp", "eventtime", "eventtimestamp", "servertimestampepochms", "datetime", "eventdate", "date",
        "ts", "timems", "timestampms", "unixtime", "epoch", "createdat", "clickedat", "viewedat", "occurredat",
        "clicktime", "servertime", "localtime", "collectortstamp", "unixreviewtime", "tdat",
    ),
    "event": (
        "event", "eventtype", "eventname", "productaction", "action", "actiontype", "type", "behavior", "behaviour",
        "behaviortype",
    ),
}
# fmt: on
"""The names that each role is recognised by, the likeliest first."""


@dataclass(frozen=True)
class LogColumns:
    """The columns of a log; None if there is none, or if it is to be recognised.

    Attributes:
        session: session ids.
        user: ids of users, or of anything else whose clicks are cut into sessions.
        item: item ids; "a+b" takes the items of a and then that of b.
        time: time of the click.
        event: kind of event.
        order: place of the click in its session, if the time is too coarse to tell.
        day: the day that `time` counts milliseconds from; the earliest day of a session counts for all of it.
    """

    session: str | None = None
    user: str | None = None
    item: str | None = None
    time: str | None = None
    event: str | None = None
    order: str | None = None
    day: str | None = None

    @property
    def named(self) -> dict[str, str]:
        """Role → column name of those there are."""
        return {role: name for role, name in asdict(self).items() if name}

    @property
    def group_role(self) -> str | None:
        """The role of the column whose clicks belong together; None if each row of the files is a session."""
        return next((role for role in ("session", "user") if role in self.named), None)

    def describe(self) -> str:
        """Which column is which, in words."""
        return ", ".join(f"{role} {name!r}" for role, name in self.named.items())


def recognise(names: Iterable[str], role: str) -> str | None:
    """The first of the names, or paths that end in it, by which a role is recognised; plain names come first."""
    plain = {name: re.sub(r"[^a-z0-9]", "", name.rpartition(".")[2].lower()) for name in names}
    ranked = [(known, name) for known in KNOWN_NAMES[role] for name, found in plain.items() if found == known]
    return min(ranked, key=lambda pair: "." in pair[1], default=("", None))[1]
