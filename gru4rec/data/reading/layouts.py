"""Public click logs as they are downloaded, recognised by their shape.

A log matches a layout if its header has the layout's names, or, without a header, if every cell of its first rows fits
the layout's patterns. A layout says which column is which and how the times are written; it filters nothing but kinds
of events. The official rules of a log (filters, split) are those of a preset.
"""

import re
from dataclasses import dataclass

from gru4rec.data.reading.columns import LogColumns

WHOLE, DECIMAL, SECONDS = r"-?\d+", r"-?\d+(\.\d+)?", r"\d{9,10}"
ZULU = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"
GUID = r"([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?"
ANYTHING = r".*"


@dataclass(frozen=True)
class Layout:
    """The layout of a public log.

    Attributes:
        title: its name.
        columns: which column is which.
        header: names that its header or its objects have.
        cells: without a header, what each cell of a row looks like.
        names: without a header, the names of the columns.
        event_kinds: kinds of events to keep; empty for all.
        time_format: of its times.
        item_separator: between the items of one cell, "" if a cell holds one.
        without_item: some of its rows have no item; they are dropped.
        about: what a user should know of this reading.
    """

    title: str
    columns: LogColumns
    header: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    event_kinds: tuple[str, ...] = ()
    time_format: str = "auto"
    item_separator: str = ""
    without_item: bool = False
    about: str = ""


LAYOUTS: dict[str, Layout] = {
    "yoochoose": Layout(
        "Yoochoose (RSC15)",
        LogColumns(session="SessionId", item="ItemId", time="Time"),
        cells=(WHOLE, ZULU, WHOLE, r"\w+"),
        names=("SessionId", "Time", "ItemId", "Category"),
        time_format="iso",
    ),
    "diginetica": Layout(
        "Diginetica",
        LogColumns(session="sessionId", item="itemId", time="eventdate", order="timeframe"),
        header=("sessionId", "userId", "itemId", "timeframe", "eventdate"),
        about="order inside a session by timeframe",
    ),
    "retailrocket": Layout(
        "RetailRocket",
        LogColumns(user="visitorid", item="itemid", time="timestamp", event="event"),
        header=("timestamp", "visitorid", "event", "itemid", "transactionid"),
        event_kinds=("view",),
        time_format="ms",
    ),
    "otto": Layout(
        "OTTO",
        LogColumns(session="session", item="events.aid", time="events.ts"),
        header=("session", "events"),
        about="a session per line",
    ),
    "otto-table": Layout(
        "OTTO (a row per event)",
        LogColumns(session="session", item="aid", time="ts"),
        header=("session", "aid", "ts", "type"),
    ),
    "lastfm-1k": Layout(
        "LastFM-1K",
        LogColumns(user="user", item="track", time="time"),
        cells=(r"user_\d+", ZULU, GUID, ANYTHING, GUID, ANYTHING),
        names=("user", "time", "artist", "artist name", "track", "track name"),
        time_format="iso",
        without_item=True,
        about="items are tracks; --item-column artist takes artists",
    ),
    "30music": Layout(
        "30Music",
        LogColumns(session="session", item="content.objects.id", time="time"),
        cells=(r"event\.session", WHOLE, WHOLE, r"\{.*\}"),
        names=("kind", "session", "time", "content"),
        about="a session per line",
    ),
    "tmall": Layout(
        "Tmall (IJCAI-15)",
        LogColumns(user="user_id", item="item_id", time="time_stamp", event="action_type"),
        header=("user_id", "item_id", "cat_id", "seller_id", "brand_id", "time_stamp", "action_type"),
        event_kinds=("0",),
        time_format="%m%d",
        about="times are days; kind 0 is a click",
    ),
    "taobao": Layout(
        "Taobao",
        LogColumns(user="user", item="item", time="time", event="behaviour"),
        cells=(WHOLE, WHOLE, WHOLE, "pv|buy|cart|fav", SECONDS),
        names=("user", "item", "category", "behaviour", "time"),
        event_kinds=("pv",),
    ),
    "trivago": Layout(
        "Trivago 2019",
        LogColumns(session="session_id", item="reference", time="timestamp", event="action_type", order="step"),
        header=("session_id", "timestamp", "step", "action_type", "reference", "impressions"),
        event_kinds=(
            "clickout item",
            "interaction item image",
            "interaction item info",
            "interaction item deals",
            "interaction item rating",
            "search for item",
        ),
    ),
    "movielens-table": Layout(
        "MovieLens",
        LogColumns(user="userId", item="movieId", time="timestamp"),
        header=("userId", "movieId", "rating", "timestamp"),
    ),
    "movielens": Layout(
        "MovieLens",
        LogColumns(user="user", item="movie", time="time"),
        cells=(WHOLE, WHOLE, r"[1-5](\.[05])?", SECONDS),
        names=("user", "movie", "rating", "time"),
    ),
    "amazon-2023": Layout(
        "Amazon Reviews 2023",
        LogColumns(user="user_id", item="parent_asin", time="timestamp"),
        header=("user_id", "asin", "parent_asin", "timestamp", "rating"),
    ),
    "amazon": Layout(
        "Amazon reviews",
        LogColumns(user="reviewerID", item="asin", time="unixReviewTime"),
        header=("reviewerID", "asin", "unixReviewTime"),
        about="times are days",
    ),
    "amazon-ratings": Layout(
        "Amazon ratings",
        LogColumns(user="user", item="item", time="time"),
        cells=(r"[A-Z0-9]{11,}", r"[A-Z0-9]{10}", DECIMAL, SECONDS),
        names=("user", "item", "rating", "time"),
        about="times are days",
    ),
    "amazon-ratings-2018": Layout(
        "Amazon ratings 2018",
        LogColumns(user="user", item="item", time="time"),
        cells=(r"[A-Z0-9]{10}", r"[A-Z0-9]{11,}", DECIMAL, SECONDS),
        names=("item", "user", "rating", "time"),
        about="times are days",
    ),
    "coveo": Layout(
        "Coveo",
        LogColumns(
            session="session_id_hash",
            item="product_skus_hash",
            time="server_timestamp_epoch_ms",
            event="product_action",
        ),
        header=("session_id_hash", "event_type", "product_action", "product_skus_hash", "server_timestamp_epoch_ms"),
        event_kinds=("detail",),
        time_format="ms",
    ),
    "coveo-2021": Layout(
        "Coveo (SIGIR 2021)",
        LogColumns(
            session="session_id_hash",
            item="product_sku_hash",
            time="server_timestamp_epoch_ms",
            event="product_action",
        ),
        header=("session_id_hash", "event_type", "product_action", "product_sku_hash", "server_timestamp_epoch_ms"),
        event_kinds=("detail",),
        time_format="ms",
    ),
    "hm": Layout(
        "H&M",
        LogColumns(user="customer_id", item="article_id", time="t_dat"),
        header=("t_dat", "customer_id", "article_id"),
        about="times are days",
    ),
    "spotify": Layout(
        "Spotify sequential skips",
        LogColumns(session="session_id", item="track_id_clean", time="date", order="session_position"),
        header=("session_id", "session_position", "track_id_clean", "date"),
        about="order inside a session by session_position",
    ),
    "yambda": Layout(
        "Yambda",
        LogColumns(user="uid", item="item_id", time="timestamp"),
        header=("uid", "timestamp", "item_id"),
        time_format="s",
        about="times are seconds since the log began",
    ),
    "rees46": Layout(
        "REES46",
        LogColumns(session="user_session", item="product_id", time="event_time", event="event_type"),
        header=("event_time", "event_type", "product_id", "user_id", "user_session"),
        event_kinds=("view",),
        time_format="iso",
    ),
    "dressipi": Layout(
        "Dressipi (RecSys 2022)",
        LogColumns(session="session_id", item="item_id", time="date"),
        header=("session_id", "item_id", "date"),
    ),
    "amazon-m2": Layout(
        "Amazon-M2 (KDD Cup 2023)",
        LogColumns(item="prev_items+next_item"),
        header=("prev_items", "next_item", "locale"),
        about="a session per line, without times",
    ),
    "mind": Layout(
        "MIND",
        LogColumns(session="impression", item="history", time="time"),
        cells=(WHOLE, r"U\d+", r"\d+/\d+/\d{4} \d+:\d\d:\d\d [AP]M", r"(N\d+ ?)*", r"(N\d+(-[01])? ?)*"),
        names=("impression", "user", "time", "history", "candidates"),
        time_format="%m/%d/%Y %I:%M:%S %p",
        item_separator=" ",
        about="a session is the reading history of an impression",
    ),
    "gowalla": Layout(
        "Gowalla",
        LogColumns(user="user", item="location", time="time"),
        cells=(WHOLE, ZULU, DECIMAL, DECIMAL, r"\w+"),
        names=("user", "time", "latitude", "longitude", "location"),
        time_format="iso",
    ),
    "sasrec": Layout(
        "SASRec's text",
        LogColumns(session="user", item="item"),
        cells=(WHOLE, WHOLE),
        names=("user", "item"),
        about="a user is one session, in the order of the rows",
    ),
    "ga4": Layout(
        "Google Analytics 4",
        LogColumns(user="user_pseudo_id", item="items.item_id", time="event_timestamp", event="event_name"),
        header=("event_timestamp", "event_name", "user_pseudo_id", "items"),
        event_kinds=("view_item",),
    ),
    "snowplow": Layout(
        "Snowplow",
        LogColumns(session="domain_sessionid", item="contexts.product.sku", time="collector_tstamp"),
        header=("collector_tstamp", "domain_sessionid", "contexts"),
        without_item=True,
    ),
    "segment": Layout(
        "Segment",
        LogColumns(user="anonymousId", item="properties.product_id", time="timestamp", event="event"),
        header=("anonymousId", "event", "properties", "timestamp"),
        event_kinds=("Product Viewed",),
    ),
}


def match_header(names: tuple[str, ...]) -> Layout | None:
    """The layout whose names a header has; of several the one with the most."""
    fitting = [layout for layout in LAYOUTS.values() if layout.header and set(layout.header) <= set(names)]
    return max(fitting, key=lambda layout: len(layout.header), default=None)


def match_cells(rows: list[list[str]]) -> Layout | None:
    """The layout whose patterns the cells of a file without a header fit."""
    for layout in LAYOUTS.values():
        patterns = [re.compile(pattern) for pattern in layout.cells]
        if patterns and all(_fits(row, patterns) for row in rows):
            return layout
    return None


def _fits(row: list[str], patterns: list[re.Pattern[str]]) -> bool:
    return len(row) == len(patterns) and all(
        pattern.fullmatch(cell) for pattern, cell in zip(patterns, row, strict=True)
    )
