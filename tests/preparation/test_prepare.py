"""Preparing logs, from the command line to the files: small logs whose result is worked out by hand."""

import datetime
import gzip
import json

import numpy as np
import polars as pl
import pytest

from gru4rec.cli import main
from gru4rec.data.clicks import Clicks, grouping_order, renumber, split_at_pauses
from gru4rec.data.events import encode, read_events
from gru4rec.preparation.filters import has_length, has_support, is_no_repeat
from gru4rec.preparation.splits import Boundary, split
from tests.support.paths import ROOT

PUBLIC_LOGS = ROOT.parent / "shared" / "data"
FIRST_TEST_START = {
    "yoochoose100k": 1396858962,
    "30music10": 1421232156,
    "retailrocket": 642915,
    "diginetica": 906140,
}

# Sessions 1 … 4 begin at 100, 200, 300 and 400 seconds.
LOG = """SessionId,ItemId,Time
1,a,1700000100
1,b,1700000101
2,a,1700000200
2,c,1700000202
2,b,1700000201
3,a,1700000300
3,b,1700000301
4,b,1700000400
4,d,1700000401
4,a,1700000402
"""
NO_FILTERS = ("--min-item-support", "1", "--min-session-length", "1", "--keep-repeats")


def clicks_of(sessions: list[list[int]], times: list[list[int]] | None = None) -> Clicks:
    """Clicks of sessions given as lists of item numbers; by default a click a second, without pauses."""
    lengths = [len(session) for session in sessions]
    items = np.array([item for session in sessions for item in session], dtype=np.int32)
    ticks = np.arange(len(items)) if times is None else np.array([tick for session in times for tick in session])
    return Clicks(np.repeat(np.arange(len(sessions), dtype=np.int32), lengths), items, ticks.astype(np.int64))


def sessions_of(clicks: Clicks) -> list[list[int]]:
    return [part.tolist() for part in np.split(clicks.item, clicks.starts[1:])]


def written(tmp_path, text: str, name: str = "log.csv") -> str:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return str(tmp_path / name)


def prepared(tmp_path, *arguments: str, log: str = LOG) -> dict[str, list[tuple]]:
    """Prepare a log, and read every part back as rows."""
    out = tmp_path / "out"
    assert main(["prepare", written(tmp_path, log), "--out", str(out), *arguments]) == 0
    return {file.stem: pl.read_parquet(file).rows() for file in out.glob("*.parquet")}


def contents(folder) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_parts_of_a_small_log_are_those_worked_out_by_hand(tmp_path):
    parts = prepared(tmp_path, "--split-at", "1700000400", "--no-valid", "--min-item-support", "2")
    # c has one click in training and goes; d is not in training; session 2 was not in time order
    assert parts["train"] == [
        ("1", "a", 1700000100),
        ("1", "b", 1700000101),
        ("2", "a", 1700000200),
        ("2", "b", 1700000201),
        ("3", "a", 1700000300),
        ("3", "b", 1700000301),
    ]
    assert parts["test"] == [("4", "b", 1700000400), ("4", "a", 1700000402)]


def test_every_step_says_what_it_removed(tmp_path, capsys):
    prepared(tmp_path, "--split-at", "1700000400", "--no-valid", "--min-item-support", "2", "--passes", "1")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:6] == [
        "columns: session 'SessionId', item 'ItemId', time 'Time'",
        "times: seconds since 1970 (recognised), 2023-11-14 22:15:00 … 2023-11-14 22:20:02",
        "rows: 10 read, 0 dropped, 0 blank",
        "read: 10 events, 4 sessions, 4 items",
        "consecutive repeats: 0 events, 0 sessions, 0 items; 10 events, 4 sessions, 4 items left",
        "train: 7 events, 3 sessions, 3 items",
    ]
    assert (
        "train: items of fewer than 2 clicks: -1 events, 0 sessions, -1 items; 6 events, 3 sessions, 2 items left"
        in lines
    )
    assert "test: items not in train: -1 events, 0 sessions, -1 items; 2 events, 1 sessions, 2 items left" in lines
    stats = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert stats["parts"]["train"]["events"] == 6
    assert stats["parts"]["test"]["last_time"] == 1700000402
    assert stats["boundaries"] == {"test": 1700000400}
    assert stats["steps"][-1]["after"] == {"events": 2, "sessions": 1, "items": 2}


def test_validation_is_split_off_the_training_part_as_the_test_is_off_the_log(tmp_path):
    parts = prepared(tmp_path, "--test-fraction", "0.25", *NO_FILTERS)
    assert {row[0] for row in parts["test"]} == {"4"}
    assert {row[0] for row in parts["valid"]} == {"3"}  # a quarter of three sessions, rounded
    assert {row[0] for row in parts["train"]} == {"1", "2"}


def test_days_are_counted_back_from_the_last_click(tmp_path):
    day = 86_400
    log = "session_id\titem_id\tts\n" + "".join(f"{n}\tx\t{1_700_000_000 + n * day}\n" for n in range(10))
    parts = prepared(tmp_path, "--test-days", "2", "--valid-days", "3", *NO_FILTERS, log=log)
    assert [row[0] for row in parts["test"]] == ["7", "8", "9"]  # the boundary itself belongs to the test
    assert [row[0] for row in parts["valid"]] == ["4", "5", "6"]
    assert [row[0] for row in parts["train"]] == ["0", "1", "2", "3"]


def test_sessions_are_made_from_users_at_pauses_longer_than_the_gap(tmp_path, capsys):
    log = "user,item,time\n" + "".join(
        f"{user},{item},{1_700_000_000 + second}\n"
        for user, item, second in [("u", "a", 0), ("v", "a", 5), ("u", "b", 10), ("v", "c", 6), ("u", "c", 21)]
    )
    parts = prepared(tmp_path, "--session-gap", "10", "--split-at", "1700000021", "--no-valid", *NO_FILTERS, log=log)
    rows = [row[:2] for row in parts["train"]]
    assert rows == [("u-1", "a"), ("u-1", "b"), ("v-1", "a"), ("v-1", "c")]  # a pause of exactly 10 s is none
    assert [row[:2] for row in parts["test"]] == [("u-2", "c")]
    out = capsys.readouterr().out
    assert "columns: user 'user', item 'item', time 'time'" in out
    assert "sessions cut at pauses of more than 10 s: 0 events, +1 sessions, 0 items; 5 events, 3 sessions" in out


def test_only_wanted_kinds_of_events_stay_and_repeats_go(tmp_path):
    log = "session,item,time,event\n" + "".join(
        f"{session},{item},{1_700_000_000 + second},{event}\n"
        for second, (session, item, event) in enumerate(
            [
                (1, "a", "view"),
                (1, "b", "cart"),
                (1, "a", "view"),
                (1, "c", "click"),
                (2, "a", "view"),
                (2, "c", "view"),
            ]
        )
    )
    flags = ["--event-kinds", "view,click", "--split-at", "1700000004", "--no-valid", "--min-item-support", "1"]
    parts = prepared(tmp_path, *flags, log=log)
    assert [row[1] for row in parts["train"]] == ["a", "c"]  # without the cart, the second a is a repeat
    assert [row[1] for row in parts["test"]] == ["a", "c"]


@pytest.mark.parametrize("form", ["tsv", "csv.gz", "jsonl", "jsonl.gz", "parquet", "semicolon", "csv.zst"])
def test_every_form_of_file_gives_the_same_parts(tmp_path, form):
    expected = prepared(tmp_path, "--split-at", "1700000400", *NO_FILTERS)
    frame = pl.read_csv(tmp_path / "log.csv", infer_schema=False)
    path = tmp_path / f"other.{'csv' if form == 'semicolon' else form}"
    if form == "parquet":
        frame.with_columns(pl.col("Time").cast(pl.Int64)).write_parquet(path)
    elif form.startswith("jsonl"):
        text = "".join(json.dumps(dict(row, Time=int(row["Time"]))) + "\n" for row in frame.iter_rows(named=True))
        path.write_bytes(gzip.compress(text.encode()) if form.endswith("gz") else text.encode())
    elif form == "csv.gz":
        path.write_bytes(gzip.compress(LOG.encode()))
    elif form == "csv.zst":
        frame.write_csv(path, compression="zstd")
    else:
        path.write_text(LOG.replace(",", "\t" if form == "tsv" else ";"))
    out = tmp_path / "again"
    assert main(["prepare", str(path), "--out", str(out), "--split-at", "1700000400", *NO_FILTERS]) == 0
    assert {file.stem: pl.read_parquet(file).rows() for file in out.glob("*.parquet")} == expected


def test_files_and_patterns_are_read_one_after_the_other(tmp_path):
    header, *lines = LOG.splitlines(keepends=True)
    whole = prepared(tmp_path, "--split-at", "1700000400", *NO_FILTERS)
    for number in range(3):
        written(tmp_path, header + "".join(lines[4 * number : 4 * number + 4]), f"part-{number}.csv")
    for named, files in (("pattern", ["part-*.csv"]), ("list", ["part-0.csv", "part-1.csv", "part-2.csv"])):
        out = tmp_path / named
        command = ["prepare", *(str(tmp_path / file) for file in files), "--out", str(out)]
        assert main([*command, "--split-at", "1700000400", *NO_FILTERS]) == 0
        assert {file.stem: pl.read_parquet(file).rows() for file in out.glob("*.parquet")} == whole


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (pl.Series([7, 8, 9], dtype=pl.Int32), "plain numbers that order the events (recognised)"),
        (pl.Series([1.7e9, 1.7e9 + 0.5, 1.7e9 + 1]), "seconds since 1970 (recognised)"),
        (pl.Series([1_700_000_000_001, 1_700_000_000_002, 1_700_000_000_003]), "milliseconds since 1970 (recognised)"),
        (pl.Series([datetime.date(2024, 1, day) for day in (1, 2, 3)]), "dates"),
        (
            pl.Series([datetime.datetime(2024, 1, day, 5) for day in (1, 2, 3)]).cast(
                pl.Datetime("ms", "Europe/Berlin")
            ),
            "dates and times, Europe/Berlin",
        ),
    ],
)
def test_ids_and_times_keep_their_type_and_values(tmp_path, capsys, values, shown):
    frame = pl.DataFrame({"SessionId": [5, 5, 2**40], "ItemId": pl.Series([1, 2, 1], dtype=pl.UInt16), "Time": values})
    frame.write_parquet(tmp_path / "log.parquet")
    command = ["prepare", str(tmp_path / "log.parquet"), "--out", str(tmp_path / "out"), "--no-valid", *NO_FILTERS]
    assert main(command) == 0
    assert pl.read_parquet(tmp_path / "out" / "train.parquet").equals(frame[:2])
    assert pl.read_parquet(tmp_path / "out" / "test.parquet").equals(frame[2:])
    assert f"times: {shown}, " in capsys.readouterr().out


def test_ids_with_leading_zeros_stay_as_written(tmp_path):
    log = LOG.replace("1,a", "01,007").replace("1,b", "01,7").replace("2,a", "2,007").replace("4,b", "4,007")
    parts = prepared(tmp_path, "--split-at", "1700000400", "--no-valid", *NO_FILTERS, log=log)
    assert parts["train"][:2] == [("01", "007", 1700000100), ("01", "7", 1700000101)]


def test_an_empty_folder_is_filled_and_any_other_is_left_alone(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    prepared(tmp_path, "--split-at", "1700000400", "--no-valid", *NO_FILTERS)
    before = contents(tmp_path / "out")
    assert main(["prepare", str(tmp_path / "log.csv"), "--out", str(tmp_path / "out")]) == 2
    assert "it exists already" in capsys.readouterr().err
    assert contents(tmp_path / "out") == before


def test_the_same_log_gives_the_same_bytes(tmp_path):
    written(tmp_path, LOG)
    for out in ("first", "second"):
        assert main(["prepare", str(tmp_path / "log.csv"), "--out", str(tmp_path / out), *NO_FILTERS]) == 0
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_prepared_training_file_is_one_that_training_reads(tmp_path):
    prepared(tmp_path, "--split-at", "1700000400", "--no-valid", "--min-item-support", "2")
    log = encode(read_events(tmp_path / "out"))
    assert log.vocabulary.terms() == ["a", "b"]
    np.testing.assert_array_equal(log.sessions.items, [0, 1, 0, 1, 0, 1])


def test_a_session_of_a_million_clicks_is_just_a_long_one(tmp_path):
    n = 1_000_000
    frame = pl.DataFrame(
        {
            "SessionId": pl.concat([pl.repeat("bot", n, eager=True), pl.Series(["a", "a", "b", "b"])]),
            "ItemId": pl.int_range(n + 4, eager=True) % 7,
            "Time": 1_700_000_000 + pl.int_range(n + 4, eager=True),
        }
    )
    frame.write_parquet(tmp_path / "log.parquet")
    flags = ["--test-fraction", "0.4", "--no-valid"]
    assert main(["prepare", str(tmp_path / "log.parquet"), "--out", str(tmp_path / "out"), *flags]) == 0
    assert pl.read_parquet(tmp_path / "out" / "train.parquet")["SessionId"].value_counts()["count"].max() == n


@pytest.mark.parametrize("name", FIRST_TEST_START)
def test_public_logs_are_split_event_for_event_as_published(tmp_path, name):
    folder = PUBLIC_LOGS / name
    if not folder.is_dir():
        pytest.skip(f"the public log {name} is not on this machine")
    out = tmp_path / "out"
    filters = ["--min-item-support", "5", "--min-session-length", "2", "--passes", "1", "--keep-repeats", "--no-valid"]
    command = ["prepare", str(folder / "full.parquet"), "--split-at", str(FIRST_TEST_START[name]), *filters]
    assert main([*command, "--out", str(out)]) == 0
    for part in ("train", "test"):
        assert pl.read_parquet(out / f"{part}.parquet").equals(pl.read_parquet(folder / f"{part}.parquet")), part
    assert not (out / "valid.parquet").exists()


# The steps by themselves.


def test_codes_are_renumbered_in_the_order_of_their_first_appearance():
    numbers, places = renumber(np.array([9, 2, 9, 5, 2], dtype=np.uint32))
    np.testing.assert_array_equal(numbers, [0, 1, 0, 2, 1])
    np.testing.assert_array_equal(places, [0, 1, 3])


@pytest.mark.parametrize(
    ("session", "time", "expected"),
    [
        ([0, 0, 1], [1, 2, 0], [0, 1, 2]),  # in order already
        ([0, 1, 0, 1], [1, 1, 2, 3], [0, 2, 1, 3]),  # times in order, sessions interleaved
        ([0, 1, 0, 0], [5, 1, 2, 2], [2, 3, 0, 1]),  # equal times keep their order
    ],
)
def test_clicks_are_grouped_by_session_and_sorted_by_time(session, time, expected):
    clicks = Clicks(np.array(session, dtype=np.int32), np.arange(len(session), dtype=np.int32), np.array(time))
    np.testing.assert_array_equal(clicks.keep(grouping_order(clicks)).item, expected)


def test_ties_can_be_broken_by_another_number():
    clicks = Clicks(np.zeros(3, dtype=np.int32), np.arange(3, dtype=np.int32), np.array([5, 5, 4]))
    np.testing.assert_array_equal(grouping_order(clicks, np.array([1, 0, 2])), [2, 1, 0])


def test_pauses_cut_users_into_numbered_sessions():
    users = clicks_of([[0, 1, 2, 3], [4, 5]], [[0, 10, 21, 50], [0, 1]])
    clicks, user, place = split_at_pauses(users, 10)
    np.testing.assert_array_equal(clicks.session, [0, 0, 1, 2, 3, 3])
    np.testing.assert_array_equal(user, [0, 0, 0, 1])
    np.testing.assert_array_equal(place, [1, 2, 3, 1])


def test_repeats_are_judged_within_a_session_only():
    clicks = clicks_of([[1, 1, 1, 2, 1], [1, 2]])
    assert sessions_of(clicks.keep(is_no_repeat(clicks))) == [[1, 2, 1], [1, 2]]


def test_support_and_length_keep_what_has_enough():
    clicks = clicks_of([[0, 1], [0, 2, 0], [1]])
    assert sessions_of(clicks.keep(has_support(clicks, 2))) == [[0, 1], [0, 0], [1]]
    assert sessions_of(clicks.keep(has_length(clicks, 2))) == [[0, 1], [0, 2, 0]]


def test_passes_repeat_until_nothing_changes(tmp_path):
    # One pass drops c (1 click), then session 3 (only b left), which leaves b with a single click: the second pass
    # drops it, and with it session 2; then a has its two clicks in session 1 and all is stable.
    log = "SessionId,ItemId,Time\n" + "".join(
        f"{session},{item},{1_700_000_000 + second}\n"
        for second, (session, item) in enumerate(
            [(1, "a"), (1, "d"), (1, "a"), (1, "d"), (2, "b"), (2, "a"), (3, "c"), (3, "b"), (9, "a"), (9, "d")]
        )
    )
    flags = ["--split-at", "1700000008", "--no-valid", "--min-item-support", "2", "--keep-repeats"]
    (tmp_path / "once").mkdir()
    once = prepared(tmp_path / "once", *flags, "--passes", "1", log=log)
    assert [row[:2] for row in once["train"]] == [
        ("1", "a"),
        ("1", "d"),
        ("1", "a"),
        ("1", "d"),
        ("2", "b"),
        ("2", "a"),
    ]
    stable = prepared(tmp_path, *flags, log=log)
    assert [row[:2] for row in stable["train"]] == [("1", "a"), ("1", "d"), ("1", "a"), ("1", "d")]


def test_filter_before_the_split_counts_the_test_too(tmp_path):
    flags = ["--split-at", "1700000400", "--no-valid", "--min-item-support", "4", "--min-session-length", "1"]
    parts = prepared(tmp_path, *flags, "--filter-before-split")
    assert {row[1] for row in parts["train"]} == {"a", "b"}  # four clicks each, of which three are in training


@pytest.mark.parametrize(
    ("by", "early", "late"),
    [
        ("start", [[0, 1], [2, 3, 4]], [[5, 6]]),
        ("end", [[0, 1]], [[2, 3, 4], [5, 6]]),
        ("cut", [[0, 1], [2, 3]], [[5, 6]]),
    ],
)
def test_a_session_across_the_boundary_goes_where_the_rule_says(by, early, late):
    clicks = clicks_of([[0, 1], [2, 3, 4], [5, 6]], [[1, 2], [8, 9, 10], [10, 11]])
    masks = split(clicks, 10, by)
    assert [sessions_of(clicks.keep(mask)) for mask in masks] == [early, late]


def test_a_fraction_takes_the_latest_sessions_and_at_least_one():
    clicks = clicks_of([[0], [1], [2], [3]], [[40], [10], [30], [20]])
    assert Boundary(fraction=0.5).tick(clicks, None) == 30
    assert Boundary(fraction=0.01).tick(clicks, None) == 40


@pytest.mark.parametrize("by", ["start", "end", "cut"])
def test_a_fraction_is_of_the_sessions_that_the_rule_puts_behind_the_boundary(by):
    clicks = clicks_of([[session, session] for session in range(8)], [[start, 100 - start] for start in range(8)])
    _, late = split(clicks, Boundary(fraction=0.25).tick(clicks, None, by=by), by)
    assert len(sessions_of(clicks.keep(late))) == 2
