"""Reading and encoding click logs."""

import datetime
import gzip
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from gru4rec.data.events import encode, hold_out_last, read_events
from inference.shared.columns import Columns
from inference.shared.errors import UserError
from inference.shared.vocabulary import Vocabulary
from tests.support.small_logs import frame_of, log_of

LINES = "SessionId\tItemId\tTime\n7\t007\t3\n7\t7\t1\n5\t007\t2\n"


def write(tmp_path, text, name="log.tsv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def sessions_of(log):
    offsets = log.sessions.offsets
    return [log.vocabulary.terms(log.sessions.items[begin:end]) for begin, end in pairwise(offsets)]


def test_ids_stay_as_written_and_clicks_are_ordered_by_time(tmp_path):
    log = encode(read_events(write(tmp_path, LINES)))
    assert log.vocabulary.terms() == ["007", "7"]
    assert sessions_of(log) == [["7", "007"], ["007"]]  # session 7 began first


def test_csv_gzip_and_parquet_say_the_same_as_tsv(tmp_path):
    expected = read_events(write(tmp_path, LINES))
    comma = write(tmp_path, LINES.replace("\t", ","), "log.csv")
    packed = tmp_path / "log.tsv.gz"
    packed.write_bytes(gzip.compress(LINES.encode()))
    table = tmp_path / "log.parquet"
    pl.read_csv(comma, schema_overrides={"ItemId": pl.String}).write_parquet(table)
    for path in (comma, packed, table):
        assert read_events(path).equals(expected)


def test_equal_times_keep_the_files_order(tmp_path):
    log = encode(read_events(write(tmp_path, "SessionId\tItemId\tTime\nb\tz\t1\nb\ty\t1\na\tx\t1\nb\tw\t1\n")))
    assert sessions_of(log) == [["z", "y", "w"], ["x"]]


def test_renamed_columns_and_dates(tmp_path):
    path = write(tmp_path, "who,what,when\n1,a,2024-01-02T00:00:00\n1,b,2024-01-01T00:00:00\n", "log.csv")
    log = encode(read_events(path, Columns("who", "what", "when")))
    assert sessions_of(log) == [["b", "a"]]
    table = tmp_path / "dates.parquet"
    moments = [datetime.datetime(2024, 1, 2), datetime.datetime(2024, 1, 1)]
    pl.DataFrame({"SessionId": [1, 1], "ItemId": ["a", "b"], "Time": moments}).write_parquet(table)
    assert sessions_of(encode(read_events(table))) == [["b", "a"]]


@pytest.mark.parametrize(
    "text",
    ["2014-04-07 10:51:09 UTC", "2014-04-07T10:51:09.000Z", "2014-04-07T12:51:09+02:00", "2014-04-07 10:51:09"],
)
def test_dates_are_read_as_prepare_reads_them(tmp_path, text):
    read = read_events(write(tmp_path, f"SessionId\tItemId\tTime\n1\ta\t{text}\n"))
    assert read["time"].to_list() == [1_396_867_869_000_000]


def test_dates_that_may_mean_two_days_are_not_guessed(tmp_path):
    message = "'04/07/2014 10:51' may be in '%m/%d/%Y %H:%M' or '%d/%m/%Y %H:%M'; choose one with --time-format"
    with pytest.raises(UserError, match=message):
        read_events(write(tmp_path, "SessionId\tItemId\tTime\n1\ta\t04/07/2014 10:51\n"))


def test_float_times_order_clicks(tmp_path):
    log = encode(read_events(write(tmp_path, "SessionId\tItemId\tTime\n1\ta\t1.5\n1\tb\t1.25\n")))
    assert sessions_of(log) == [["b", "a"]]


def test_unknown_items_are_skipped_and_the_session_continues(tmp_path):
    events = read_events(write(tmp_path, "SessionId\tItemId\tTime\n1\ta\t1\n1\tNEW\t2\n1\tb\t3\n2\tNEW\t4\n"))
    log = encode(events, Vocabulary(["a", "b"]))
    assert sessions_of(log) == [["a", "b"]]


def test_a_folder_gives_the_requested_part(tmp_path):
    frame_of([[1, 2]]).write_parquet(tmp_path / "test.parquet")
    assert read_events(tmp_path, part="test").height == 2
    with pytest.raises(UserError, match=r"found none at .*train\.parquet"):
        read_events(tmp_path, part="train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected events, got an empty file"),
        ("SessionId\tItemId\tTime\n", "expected events, got none"),
        ("SessionId\tTime\n1\t2\n", "expected one item column 'ItemId', found only 'SessionId', 'Time'"),
        ("SessionId\tItemId\tTime\tTime\n1\t2\t3\t4\n", "expected one time column 'Time', found 2 in its header"),
        ("SessionId\tItemId\tTime\n1\t2\tnoon\n", "row 1: expected a number or a date in column 'Time', got 'noon'"),
        (
            "SessionId\tItemId\tTime\n1\t2\t1\n1\t2\tNaN\n",
            "row 2: expected a number or a date in column 'Time', got 'NaN'",
        ),
        ("SessionId\tItemId\tTime\n1\t2\t1\n1\t\t2\n", "row 2: expected a value in column 'ItemId'"),
        ("SessionId\tItemId\tTime\n1\t2\t\n", "row 1: expected a value in column 'Time'"),
        ("SessionId\tItemId\tTime\n1\t2\t3\t4\n", "log.tsv: line 2: expected 3 fields delimited by"),
    ],
)
def test_bad_text_is_one_clear_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        read_events(write(tmp_path, text))
    assert "\n" not in str(error.value)
    assert "log.tsv" in str(error.value)


def test_missing_file_and_broken_parquet_are_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="expected an event file, found none at"):
        read_events(tmp_path / "absent.tsv")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(UserError, match="expected a parquet file"):
        read_events(tmp_path / "broken.parquet")


def test_bad_parquet_columns_are_one_clear_line(tmp_path):
    path = tmp_path / "log.parquet"
    pl.DataFrame({"SessionId": [1, 1], "ItemId": [1, 2], "Time": [1.0, float("nan")]}).write_parquet(path)
    with pytest.raises(UserError, match="row 2: expected a number or a date in column 'Time'"):
        read_events(path)
    pl.DataFrame({"SessionId": [1, 1], "ItemId": [1.5, 2.5], "Time": [1, 2]}).write_parquet(path)
    with pytest.raises(UserError, match=r"row 1: expected a number or text as id in column 'ItemId', got 1\.5"):
        read_events(path)
    pl.DataFrame({"SessionId": [1, 1], "ItemId": [1, 2], "Time": [[1], [2]]}).write_parquet(path)
    with pytest.raises(UserError, match="column 'Time': expected numbers or dates as times"):
        read_events(path)
    pl.DataFrame({"SessionId": [1, None], "ItemId": [1, 2], "Time": [1, 2]}).write_parquet(path)
    with pytest.raises(UserError, match="row 2: expected a value in column 'SessionId'"):
        read_events(path)


def test_one_column_for_two_things_is_one_clear_line(tmp_path):
    path = write(tmp_path, LINES)
    with pytest.raises(UserError, match="expected different columns for session and time, got 'Time' for both"):
        read_events(path, Columns(session="Time"))


def test_times_of_any_kind_of_integer_order_clicks(tmp_path):
    """Nanoseconds do not fit into a float64, in which the first two of these would be equal."""
    path = tmp_path / "log.parquet"
    begin = 1_700_000_000 * 10**9
    for kind, times in ((pl.UInt64, [begin + 1, begin, begin + 2]), (pl.Int128, [5 << 70, 3 << 70, 7 << 70])):
        frame = pl.DataFrame({"SessionId": [1, 1, 1], "ItemId": ["a", "b", "c"], "Time": pl.Series(times, dtype=kind)})
        frame.write_parquet(path)
        assert sessions_of(encode(read_events(path))) == [["b", "a", "c"]]


def test_last_sessions_are_held_out_without_items_unseen_before():
    log = log_of([[0, 2], [2, 0], [0, 2, 0], [1, 2, 0], [3, 1]])
    train, held_out = hold_out_last(log, share=0.4)
    assert train.vocabulary.terms() == ["item-000000", "item-000002"]
    np.testing.assert_array_equal(train.sessions.items, [0, 1, 1, 0, 0, 1, 0])
    np.testing.assert_array_equal(held_out.items, [1, 0])  # 1 and 3 are new, so the last session is gone
    np.testing.assert_array_equal(held_out.offsets, [0, 2])
    np.testing.assert_array_equal(train.support, [4, 3])


def test_one_session_cannot_be_split():
    with pytest.raises(UserError, match="at least two sessions"):
        hold_out_last(log_of([[0, 1]]))
