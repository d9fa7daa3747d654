"""The public logs: a few raw lines in the layout of each download, and the parts that its official rules make of them.

Every log has two items, 1 and 2, with the support they need, so that what is left is decided by the rules at hand.
"""

import datetime
import shutil

import polars as pl
import pytest

from gru4rec.cli import main
from gru4rec.commands.prepare import ReadingFlags, _reading
from gru4rec.data.reading.log_file import open_log_file
from gru4rec.preparation.presets import PRESETS

HOUR, DAY = 3600, 86_400
SUPPORT = ("--min-item-support", "2")


def parts_of(tmp_path, preset: str, *texts: str, flags: tuple[str, ...] = SUPPORT) -> dict[str, list[tuple]]:
    """Prepare raw files with a preset; the rows of every part."""
    files = []
    for number, text in enumerate(texts):
        files.append(tmp_path / f"raw-{number}.csv")
        files[-1].write_text(text)
    out = tmp_path / "out"
    assert main(["prepare", *map(str, files), "--preset", preset, "--out", str(out), *flags]) == 0
    return {file.stem: pl.read_parquet(file).rows() for file in out.glob("*.parquet")}


def moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def test_rsc15_tests_on_sessions_that_end_in_the_last_day(tmp_path):
    # The last click is on 5 September, 12:00, so the boundary is 4 September, 12:00. Session 2 begins before it and
    # ends after it: test. Session 3, of one click, goes first, and its item 9 with it. Repeats stay.
    clicks = """1,2014-09-01T10:00:00.000Z,1,0
1,2014-09-01T10:01:00.500Z,1,0
1,2014-09-01T10:02:00.000Z,2,0
3,2014-09-02T10:00:00.000Z,9,0
2,2014-09-04T11:59:00.000Z,2,S
2,2014-09-04T12:00:00.000Z,1,S
4,2014-09-05T11:00:00.000Z,1,0
4,2014-09-05T12:00:00.000Z,2,0
"""
    parts = parts_of(tmp_path, "rsc15", clicks, flags=(*SUPPORT, "--no-valid"))
    assert parts["train"] == [
        ("1", "1", moment("2014-09-01T10:00:00+00:00")),
        ("1", "1", moment("2014-09-01T10:01:00.500+00:00")),
        ("1", "2", moment("2014-09-01T10:02:00+00:00")),
    ]
    assert [row[:2] for row in parts["test"]] == [("2", "2"), ("2", "1"), ("4", "1"), ("4", "2")]


def test_rsc15_validation_ends_in_the_last_day_of_what_is_left_for_training(tmp_path):
    # A session a day, from 10:00 to 10:30. The last click is on the 6th, so the test holds what ends from the 5th,
    # 10:30, on; then the last click is on the 4th, and the validation holds what ends from the 3rd, 10:30, on.
    clicks = "".join(
        f"{day},2014-09-{day:02d}T10:{minute}:00.000Z,{item},0\n"
        for day in range(1, 7)
        for minute, item in (("00", 1), ("30", 2))
    )
    parts = parts_of(tmp_path, "rsc15", clicks)
    sessions = {name: sorted({row[0] for row in rows}) for name, rows in parts.items()}
    assert sessions == {"train": ["1", "2"], "valid": ["3", "4"], "test": ["5", "6"]}


def test_yoochoose_cuts_sessions_and_orders_clicks_of_one_second_by_item(tmp_path):
    # Boundary: 4 September, 12:00. Session 2 loses its last click, session 3 is left with one and goes. In session 1
    # both clicks fall into the same second, so item 1 comes first; its repeat right after it goes.
    clicks = """1,2014-09-01T10:00:00.100Z,2,0
1,2014-09-01T10:00:00.900Z,1,0
1,2014-09-01T10:00:05.000Z,2,0
2,2014-09-04T11:58:00.000Z,1,0
2,2014-09-04T11:59:00.000Z,2,0
2,2014-09-04T12:00:00.000Z,1,0
3,2014-09-04T11:59:00.000Z,1,0
3,2014-09-04T12:30:00.000Z,2,0
"""
    test = "4,2014-09-05T11:00:00.000Z,1,0\n4,2014-09-05T12:00:00.000Z,2,0\n"
    parts = parts_of(tmp_path, "yoochoose", clicks, test, flags=(*SUPPORT, "--no-valid"))
    first = int(moment("2014-09-01T10:00:00+00:00").timestamp())
    assert parts["train"][:2] == [("1", "1", first), ("1", "2", first)]  # whole seconds; the later 2 was a repeat
    assert [row[:2] for row in parts["train"][2:]] == [("2", "1"), ("2", "2")]
    assert [row[:2] for row in parts["test"]] == [("4", "1"), ("4", "2")]


def test_diginetica_counts_milliseconds_from_the_first_day_of_the_session(tmp_path):
    # Session 1 runs over midnight: its second click bears the next day but counts from the first one.
    clicks = """sessionId;userId;itemId;timeframe;eventdate
1;NA;2;7000;2016-05-02
1;NA;1;5000;2016-05-01
2;NA;1;100;2016-05-20
2;NA;2;100;2016-05-20
2;NA;1;50;2016-05-20
"""
    parts = parts_of(tmp_path, "diginetica", clicks, flags=(*SUPPORT, "--no-valid"))
    day = int(moment("2016-05-01T00:00:00+00:00").timestamp()) * 1000
    assert parts["train"] == [("1", "1", day + 5000), ("1", "2", day + 7000)]
    later = day + 19 * DAY * 1000
    assert parts["test"] == [("2", "1", later + 50), ("2", "2", later + 100)]  # 1 at 50, 1 again at 100, then 2


def test_diginetica_takes_days_that_are_dates_already(tmp_path):
    rows = [(1, 1, 5000, "2016-05-01"), (1, 2, 7000, "2016-05-01"), (2, 1, 50, "2016-05-20"), (2, 2, 100, "2016-05-20")]
    frame = pl.DataFrame(rows, schema=["sessionId", "itemId", "timeframe", "eventdate"], orient="row")
    out, flags = tmp_path / "out", (*SUPPORT, "--no-valid")
    for kind in (pl.Date, pl.Datetime("ms"), pl.Datetime("ns")):
        frame.with_columns(pl.col("eventdate").str.to_date().cast(kind)).write_parquet(tmp_path / "views.parquet")
        command = ["prepare", str(tmp_path / "views.parquet"), "--preset", "diginetica", "--out", str(out), *flags]
        assert main(command) == 0
        day = int(moment("2016-05-01T00:00:00+00:00").timestamp()) * 1000
        assert pl.read_parquet(out / "train.parquet").rows() == [(1, 1, day + 5000), (1, 2, day + 7000)]
        shutil.rmtree(out)


def test_retailrocket_looks_for_pauses_among_all_events_and_keeps_views(tmp_path):
    begin = 1440000000  # 19 August 2015; the test begins on 11 September, 3:00
    late = int(moment("2015-09-12T00:00:00+00:00").timestamp())
    events = [
        (begin, 7, "view", 1),
        (begin + 3000, 7, "addtocart", 1),
        (begin + 6000, 7, "view", 2),  # 50 minutes after the cart, 100 after the view: one session
        (begin + 6000 + HOUR + 1, 7, "view", 1),
        (begin + 6000 + HOUR + 2, 7, "view", 2),
        (late, 7, "view", 2),
        (late + 1, 7, "view", 1),
    ]
    text = "timestamp,visitorid,event,itemid,transactionid\n" + "".join(
        f"{second * 1000},{visitor},{event},{item},\n" for second, visitor, event, item in reversed(events)
    )
    parts = parts_of(tmp_path, "retailrocket", text, flags=(*SUPPORT, "--no-valid"))
    assert parts["train"] == [
        ("7-1", "1", begin * 1000),
        ("7-1", "2", (begin + 6000) * 1000),
        ("7-2", "1", (begin + 6000 + HOUR + 1) * 1000),
        ("7-2", "2", (begin + 6000 + HOUR + 2) * 1000),
    ]
    assert [row[:2] for row in parts["test"]] == [("7-3", "2"), ("7-3", "1")]


def test_rees46_makes_sessions_of_views_alone_and_validates_on_the_day_before(tmp_path):
    header = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
    october = [
        ("2019-10-01 00:00:00", "view", 1),
        ("2019-10-01 00:50:00", "cart", 1),
        ("2019-10-01 01:40:00", "view", 2),
    ]
    october += [("2019-10-01 01:40:00", "view", 1)]
    november = [("2019-11-29 05:00:00", "view", 2), ("2019-11-29 05:00:01", "view", 1)]
    november += [("2019-11-30 05:00:00", "view", 1), ("2019-11-30 05:00:01", "view", 2)]
    texts = [
        header + "".join(f"{time} UTC,{kind},{item},0,,brand,1.0,5,abc\n" for time, kind, item in rows)
        for rows in (october, november)
    ]
    parts = parts_of(tmp_path, "rees46", *texts)
    # 100 minutes between the views are a pause, whatever lies between; item 1 appeared first, so it wins the tie; the
    # single click before the pause is gone
    at = moment("2019-10-01T01:40:00+00:00")
    assert parts["train"] == [("5-2", "1", at), ("5-2", "2", at)]
    assert [row[:2] for row in parts["valid"]] == [("5-3", "2"), ("5-3", "1")]
    assert [row[:2] for row in parts["test"]] == [("5-4", "1"), ("5-4", "2")]


def test_coveo_cuts_given_sessions_at_pauses_and_keeps_details(tmp_path):
    begin = 1_550_000_000_000
    header = "session_id_hash,event_type,product_action,product_skus_hash,server_timestamp_epoch_ms,hashed_url\n"
    rows = [
        ("s", "event_product", "detail", "b", 0),
        ("s", "pageview", "", "", 1000),  # no product, which is no mistake
        ("s", "event_product", "detail", "a", 2000),
        ("s", "event_product", "add", "a", 3000),
        ("s", "event_product", "detail", "a", 3000 + HOUR * 1000 + 1),
        ("s", "event_product", "detail", "b", 3000 + HOUR * 1000 + 1),  # b was seen first
        ("t", "event_product", "detail", "a", 2 * DAY * 1000),
        ("t", "event_product", "detail", "b", 2 * DAY * 1000 + 1),
    ]
    text = header + "".join(f"{s},{kind},{action},{item},{begin + time},url\n" for s, kind, action, item, time in rows)
    parts = parts_of(tmp_path, "coveo", text, flags=(*SUPPORT, "--no-valid"))
    assert [row[:2] for row in parts["train"]] == [("s-1", "b"), ("s-1", "a"), ("s-2", "b"), ("s-2", "a")]
    assert parts["test"] == [("t-1", "a", begin + 2 * DAY * 1000), ("t-1", "b", begin + 2 * DAY * 1000 + 1)]


@pytest.mark.parametrize("preset", ["rsc15", "yoochoose", "diginetica", "retailrocket", "rees46", "coveo"])
def test_a_file_of_another_layout_is_refused_in_one_line(tmp_path, capsys, preset):
    (tmp_path / "log.csv").write_text("a,b\n1,2\n")
    assert main(["prepare", str(tmp_path / "log.csv"), "--preset", preset, "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "log.csv: expected " in lines[0]


def test_unknown_preset_lists_those_there_are(tmp_path, capsys):
    (tmp_path / "log.csv").write_text("a,b\n1,2\n")
    assert main(["prepare", str(tmp_path / "log.csv"), "--preset", "movies", "--out", str(tmp_path / "out")]) == 2
    assert "rsc15" in capsys.readouterr().err


def test_flags_win_over_a_preset(tmp_path):
    # The last click is on the 5th, 10:00:02, two days before it is the 3rd, 10:00:02: session 3 is cut to one click.
    # The latest half of three sessions is two of them, 2 and 3, but 3 is too short by then.
    clicks = "".join(f"{day},2014-09-{day:02d}T10:00:0{item}.000Z,{item},0\n" for day in range(1, 6) for item in (1, 2))
    parts = parts_of(tmp_path, "yoochoose", clicks, flags=(*SUPPORT, "--test-days", "2", "--valid-fraction", "0.5"))
    sessions = {name: sorted({row[0] for row in rows}) for name, rows in parts.items()}
    assert sessions == {"train": ["1"], "valid": ["2"], "test": ["4", "5"]}


@pytest.mark.parametrize(
    ("preset", "flags", "session", "user"),
    [
        ("diginetica", {"user_column": "userId"}, None, "userId"),
        ("retailrocket", {"session_column": "userId"}, "userId", None),
        ("diginetica", {}, "sessionId", None),
    ],
)
def test_a_column_of_users_or_sessions_that_is_named_wins_over_the_presets(tmp_path, preset, flags, session, user):
    path = tmp_path / "log.csv"
    path.write_text("sessionId;userId;visitorid;itemId;itemid;timeframe;timestamp;eventdate;event\n")
    reading = _reading(open_log_file(path), ReadingFlags(**flags), PRESETS[preset].layout, by_user=False)
    assert (reading.columns.session, reading.columns.user) == (session, user)
