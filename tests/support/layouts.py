"""One made-up log in the layouts of public logs and event trackers, file by file.

Every layout says the same 40 sessions as far as it can; `SESSIONS` are their items as numbers, in the order of time.
Where a layout has users only, a user has one session; other kinds of events than clicks are on item 99.
"""

import datetime
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

START = 1_400_000_000  # 13 May 2014
N_SESSIONS = 40


def _make_sessions() -> list[list[tuple[int, int]]]:
    """Items and seconds of the clicks of each session; no item twice in a row."""
    generator = np.random.default_rng(3)
    sessions, second = [], START
    for _ in range(N_SESSIONS):
        second += 90_000
        items = generator.permutation(9)[: generator.integers(2, 6)] + 1
        sessions.append([(int(item), second + 60 * place) for place, item in enumerate(items)])
    return sessions


CLICKS = _make_sessions()
SESSIONS = [[item for item, _ in clicks] for clicks in CLICKS]
ROWS = [
    (session, item, second, place)
    for session, clicks in enumerate(CLICKS)
    for place, (item, second) in enumerate(clicks)
]


def moment(second: int) -> datetime.datetime:
    """A second as a date and time in UTC."""
    return datetime.datetime.fromtimestamp(second, datetime.UTC)


def _json_lines(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _table(header: str, rows: Iterator[str]) -> str:
    return "\n".join([*([header] if header else []), *rows]) + "\n"


def yoochoose() -> str:
    return _table("", (f"{s + 1},{moment(t):%Y-%m-%dT%H:%M:%S}.123Z,{2145365 * 100 + i},0" for s, i, t, _ in ROWS))


def diginetica() -> str:
    rows = (f"{s + 1};NA;{i};{1000 * p};{moment(t):%Y-%m-%d}" for s, i, t, p in sorted(ROWS, key=lambda row: row[1]))
    return _table("sessionId;userId;itemId;timeframe;eventdate", rows)


def retailrocket() -> str:
    rows = [f"{t}000,{s + 257},view,{i}," for s, i, t, _ in ROWS] + [f"{START + 90_000}001,257,addtocart,99,"]
    return _table("timestamp,visitorid,event,itemid,transactionid", rows)


def otto() -> str:
    return _json_lines(
        {"session": s, "events": [{"aid": i, "ts": t * 1000, "type": "clicks"} for i, t in clicks]}
        for s, clicks in enumerate(CLICKS)
    )


def otto_table() -> pl.DataFrame:
    return pl.DataFrame([(s, i, t, 0) for s, i, t, _ in ROWS], schema=["session", "aid", "ts", "type"], orient="row")


def lastfm() -> str:
    guid = "00000000-0000-4000-8000-0000000000"
    rows = [
        f'user_{s:06d}\t{moment(t):%Y-%m-%dT%H:%M:%SZ}\t{guid}99\tThe "Who\t{guid}{i:02d}\tSong {i}'
        for s, i, t, _ in reversed(ROWS)
    ]
    return _table("", [*rows, f"user_000000\t2014-05-20T00:00:00Z\t{guid}99\tNobody\t\tSilence"])


def thirty_music() -> str:
    rows = []
    for s, clicks in enumerate(CLICKS):
        objects = [{"type": "track", "id": i, "playstart": t - clicks[0][1]} for i, t in clicks]
        content = f"{json.dumps({'numtracks': len(clicks)})} {json.dumps({'subjects': [], 'objects': objects})}"
        rows.append(f"event.session\t{s}\t{clicks[0][1]}\t{content}")
    return _table("", rows)


def tmall() -> str:
    rows = [f"{s},{i},1,2,3,{moment(t):%m%d},0" for s, i, t, _ in ROWS] + ["0,99,1,2,3,0514,2"]
    return _table("user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type", rows)


def trivago() -> str:
    rows = [f'U,s{s},{t},{p + 1},clickout item,{i},AU,"Sydney, NSW",mobile,,1|2,9|9' for s, i, t, p in ROWS]
    other = f'U,s0,{START + 90_001},9,search for destination,"Sydney, NSW",AU,"Sydney, NSW",mobile,,,'
    names = "user_id,session_id,timestamp,step,action_type,reference,platform,city,device,filters,impressions,prices"
    return _table(names, [*rows, other])


def movielens_1m() -> str:
    return _table("", (f"{s + 1}::{i}::5::{t}" for s, i, t, _ in ROWS))


def movielens_100k() -> str:
    return _table("", (f"{s + 1}\t{i}\t3\t{t}" for s, i, t, _ in ROWS))


def movielens_csv() -> str:
    return _table("userId,movieId,rating,timestamp", (f"{s + 1},{i},3.5,{t}" for s, i, t, _ in ROWS))


def amazon_2023() -> str:
    return _json_lines(
        {
            "rating": 5.0,
            "text": 'a "b"',
            "asin": "B0",
            "parent_asin": f"B{i}",
            "user_id": f"A{s}",
            "timestamp": t * 1000,
        }
        for s, i, t, _ in ROWS
    )


def amazon_2014() -> str:
    return _json_lines({"reviewerID": f"A{s}", "asin": f"B{i}", "unixReviewTime": t} for s, i, t, _ in ROWS)


def amazon_ratings() -> str:
    return _table("", (f"A{s:013d},{i:010d},5.0,{t}" for s, i, t, _ in ROWS))


def amazon_ratings_2018() -> str:
    return _table("", (f"{i:010d},A{s:013d},5.0,{t}" for s, i, t, _ in ROWS))


def ga4() -> str:
    def event(s, i, t, name):
        return {
            "event_timestamp": f"{t}000000",
            "event_name": name,
            "user_pseudo_id": f"1.{s}",
            "items": [{"item_id": f"SKU{i}"}],
        }

    rows = [event(s, i, t, "view_item") for s, i, t, _ in ROWS]
    return _json_lines([*rows, event(0, 99, START + 90_001, "add_to_cart")])


def snowplow() -> str:
    return _json_lines(
        {
            "collector_tstamp": f"{moment(t + 3600 * (i % 2)):%Y-%m-%dT%H:%M:%S}.5{'+01:00' if i % 2 else 'Z'}",
            "domain_sessionid": f"c-{s}",
            "contexts": {"product": {"sku": f"SKU-{i}"}},
        }
        for s, i, t, _ in ROWS
    )


def segment() -> str:
    return _json_lines(
        {
            "anonymousId": f"a-{s}",
            "event": "Product Viewed",
            "properties": {"product_id": f"p{i}"},
            "timestamp": f"{moment(t):%Y-%m-%dT%H:%M:%S.000Z}",
        }
        for s, i, t, _ in ROWS
    )


def coveo() -> str:
    rows = [f"{s:064x},event_product,detail,{i:064x},{t}000,0" for s, i, t, _ in ROWS]
    rows.append(f"{0:064x},pageview,,,{START + 90_001}000,0")
    names = "session_id_hash,event_type,product_action,product_sku_hash,server_timestamp_epoch_ms,hashed_url"
    return _table(names, rows)


def hm() -> str:
    rows = (f"{moment(t):%Y-%m-%d},{s:064x},0{663713000 + i},0.05,2" for s, i, t, _ in ROWS)
    return _table("t_dat,customer_id,article_id,price,sales_channel_id", rows)


def spotify() -> str:
    rows = (f"0_{s:04x},{p + 1},5,t_{i},{moment(t):%Y-%m-%d}" for s, i, t, p in sorted(ROWS, key=lambda row: row[1]))
    return _table("session_id,session_position,session_length,track_id_clean,date", rows)


def yambda() -> pl.DataFrame:
    return pl.DataFrame(
        [(s, t - START, i) for s, i, t, _ in ROWS], schema=["uid", "timestamp", "item_id"], orient="row"
    )


def yambda_sequential() -> pl.DataFrame:
    rows = [
        {"uid": s, "timestamp": [t - START for _, t in clicks], "item_id": [i for i, _ in clicks]}
        for s, clicks in enumerate(CLICKS)
    ]
    return pl.DataFrame(rows)


def rees46() -> str:
    rows = [f"{moment(t):%Y-%m-%d %H:%M:%S} UTC,view,{i},1,,b,3.5,{s // 2},0000-{s}" for s, i, t, _ in ROWS]
    rows.append("2014-05-14 18:00:00 UTC,cart,99,1,,b,3.5,0,0000-0")
    names = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session"
    return _table(names, rows)


def taobao() -> str:
    return _table("", [*(f"{s + 1},{i},4,pv,{t}" for s, i, t, _ in ROWS), f"1,99,4,buy,{START + 90_001}"])


def mind() -> str:
    rows = []
    for s, clicks in enumerate(CLICKS):
        history = " ".join(f"N{i}" for i, _ in clicks)
        rows.append(f"{s + 1}\tU{s}\t{moment(clicks[0][1]):%m/%d/%Y %I:%M:%S %p}\t{history}\tN1-1 N2-0")
    return _table("", rows)


def dressipi() -> str:
    return _table("session_id,item_id,date", (f"{s},{i},{moment(t):%Y-%m-%d %H:%M:%S}.25" for s, i, t, _ in ROWS))


def amazon_m2() -> str:
    rows = []
    for items in SESSIONS:
        previous = " ".join(f"'B{item}'" for item in items[:-1])
        rows.append(f'"[{previous}]",B{items[-1]},DE')
    return _table("prev_items,next_item,locale", rows)


def gowalla() -> str:
    rows = (f"{s}\t{moment(t):%Y-%m-%dT%H:%M:%SZ}\t30.25\t-97.75\t{i}" for s, i, t, _ in reversed(ROWS))
    return _table("", rows)


def recbole() -> str:
    rows = (f"{s}\t{i}\t5.0\t{t}.0" for s, i, t, _ in ROWS)
    return _table("user_id:token\titem_id:token\trating:float\ttimestamp:float", rows)


def sasrec() -> str:
    return _table("", (f"{s} {i}" for s, i, _, _ in ROWS))


LAYOUTS = {
    "yoochoose-clicks.dat": yoochoose,
    "train-item-views.csv": diginetica,
    "events.csv": retailrocket,
    "otto-recsys-train.jsonl": otto,
    "otto-train.parquet": otto_table,
    "userid-timestamp-artid-artname-traid-traname.tsv": lastfm,
    "sessions.idomaar": thirty_music,
    "user_log_format1.csv": tmall,
    "trivago-train.csv": trivago,
    "ratings.dat": movielens_1m,
    "u.data": movielens_100k,
    "ratings.csv": movielens_csv,
    "All_Beauty.jsonl.gz": amazon_2023,
    "reviews_Beauty_5.json.gz": amazon_2014,
    "ratings_Beauty.csv": amazon_ratings,
    "Beauty.csv": amazon_ratings_2018,
    "ga4.jsonl": ga4,
    "snowplow.jsonl": snowplow,
    "segment.jsonl": segment,
    "browsing_train.csv": coveo,
    "transactions_train.csv": hm,
    "spotify.csv": spotify,
    "yambda.parquet": yambda,
    "yambda-sequential.parquet": yambda_sequential,
    "2019-Oct.csv": rees46,
    "UserBehavior.csv": taobao,
    "behaviors.tsv": mind,
    "train_sessions.csv": dressipi,
    "amazon-m2.csv": amazon_m2,
    "loc-gowalla_totalCheckins.txt": gowalla,
    "ml.inter": recbole,
    "train.txt": sasrec,
}
"""The name of a download → what makes a file of its layout."""


def write_layout(folder: Path, name: str) -> Path:
    """Write the file of a layout."""
    content, path = LAYOUTS[name](), folder / name
    if isinstance(content, pl.DataFrame):
        content.write_parquet(path)
    else:
        path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    return path
