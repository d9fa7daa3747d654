import bz2
import gzip
import io
import json
import lzma
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import inference.files.text
from inference.files.sessions import FORMATS, read_sessions
from inference.files.table import group_rows, join_adjacent
from inference.shared.columns import Columns
from inference.shared.errors import UserError

TABLE = "SessionId\tItemId\tTime\ns1\t007\t1\ns1\t7\t2\ns2\ta b\t1\n"
FROM_TABLE = [("s1", ("007", "7"), 2), ("s2", ("a b",), 4)]


def read(tmp_path, content, name="sessions", group=False, **options):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    sessions = read_sessions(str(path), join=group_rows if group else join_adjacent, **options)
    return [(session.name, session.items, session.line) for session in sessions]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (TABLE, FROM_TABLE),
        (TABLE.replace("\t", ","), FROM_TABLE),
        (TABLE.replace("\n", "\r\n"), FROM_TABLE),
        ("\ufeff" + TABLE, FROM_TABLE),
        (TABLE.removesuffix("\n"), FROM_TABLE),
        (TABLE.replace("\n", "\n\n", 2), [("s1", ("007", "7"), 3), ("s2", ("a b",), 6)]),
        ("Time,ItemId,Other,SessionId\n1,x,,s1\n", [("s1", ("x",), 2)]),
        ("SessionId,ItemId\ns1,x\ns1,y\n", [("s1", ("x", "y"), 2)]),
        (TABLE.replace("\t", ";"), FROM_TABLE),
        ('"Time"|"ItemId"|"SessionId"\n1|a,b|s1\n', [("s1", ("a,b",), 2)]),
        ('{"session": "s1", "items": ["007", 7]}\n\n{"items": []}', [("s1", ("007", "7"), 1), ("3", (), 3)]),
        ("007  7 a\n\nx\ty,z\n", [("1", ("007", "7", "a"), 1), ("2", (), 2), ("3", ("x", "y,z"), 3)]),
    ],
    ids=[
        *("tsv", "csv", "crlf", "bom", "no-last-break", "blank-lines", "other-order", "no-time"),
        *("semicolons", "bars", "json-lines", "lines"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_format_is_recognised_by_its_content(tmp_path, content, expected, packed):
    raw = gzip.compress(content.encode()) if packed else content.encode()
    assert read(tmp_path, raw) == expected


@pytest.mark.parametrize("name", ["s.tsv", "s.csv", "s.TSV.GZ", "s.csv.gz"])
def test_a_table_is_a_table_whatever_its_suffix_says_of_the_delimiter(tmp_path, name):
    content = gzip.compress(TABLE.encode()) if name.lower().endswith("gz") else TABLE
    assert read(tmp_path, content, name) == FROM_TABLE


def test_standard_input_is_read_and_unpacked(monkeypatch):
    for content in (TABLE.encode(), gzip.compress(TABLE.encode())):
        source = io.TextIOWrapper(io.BufferedReader(io.BytesIO(content)))
        monkeypatch.setattr(sys, "stdin", source)
        assert [session.name for session in read_sessions("-")] == ["s1", "s2"]


def test_a_chosen_format_overrides_what_the_file_looks_like(tmp_path):
    assert read(tmp_path, '{"a": 1}\n', input_format="lines") == [("1", ('{"a":', "1}"), 1)]
    assert read(tmp_path, "a,b\n", "s.csv", input_format="lines") == [("1", ("a,b",), 1)]
    content = "SessionId\tItemId\tsize, colour; shape | make\ns\tx\t\n"
    assert read(tmp_path, content, input_format="tsv") == [("s", ("x",), 2)]
    with pytest.raises(UserError, match="no column 'SessionId'"):
        read(tmp_path, TABLE, input_format="csv")


def test_columns_may_have_other_names(tmp_path):
    content = "visit,product,at\n9,x,2024-01-01T00:00:00\n9,y,2024-01-01T00:00:01\n"
    assert read(tmp_path, content, columns=Columns("visit", "product", "at")) == [("9", ("x", "y"), 2)]


def test_ids_with_quotes_delimiters_line_breaks_and_emoji_survive_a_table(tmp_path):
    content = 'SessionId,ItemId,Time\ns,"a ""b"", c",1\ns,"two\nlines",2\ns,🛒,3\nt, padded ,1\n'
    assert read(tmp_path, content) == [("s", ('a "b", c', "two\nlines", "🛒"), 2), ("t", (" padded ",), 6)]


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "|"])
@pytest.mark.parametrize("name", ["sessions", "sessions.txt", "sessions.dat.gz"])
def test_a_table_of_unfamiliar_columns_is_not_read_as_sessions_of_odd_items(tmp_path, name, delimiter):
    content = f"visit{delimiter}product\n9{delimiter}x\n"
    with pytest.raises(UserError, match=r"line 1: .*name a table's columns with .* or give --input-format lines"):
        read(tmp_path, content, name)
    assert len(read(tmp_path, content, name, input_format="lines")) == 2


def test_a_time_column_that_was_named_must_be_there(tmp_path):
    content = "SessionId,ItemId,timestamp\ns,x,2\ns,y,1\n"
    for found in (content, written_parquet(tmp_path / "written", SessionId=["s"], ItemId=["x"], timestamp=[1])):
        with pytest.raises(UserError, match=r"no column 'Timestamp'; its columns are .*'timestamp'.*--time-column"):
            read(tmp_path, found, columns=Columns(time="Timestamp"), group=True)


def test_a_column_that_may_hold_times_is_not_passed_over_in_silence(tmp_path):
    remarks = []
    content = "SessionId,ItemId,timestamp\ns,x,2\ns,y,1\n"
    assert read(tmp_path, content, remark=remarks.append) == [("s", ("x", "y"), 2)]
    content = written_parquet(tmp_path / "written", SessionId=["s"], ItemId=["x"], timestamp=[1])
    assert read(tmp_path, content, remark=remarks.append) == [("s", ("x",), 1)]
    assert len(remarks) == 2
    for remark in remarks:
        assert "no column 'Time'" in remark
        assert "'timestamp' is their time, name it with --time-column" in remark
    for content in (TABLE, "SessionId,ItemId\ns,x\n", "x y\n"):
        read(tmp_path, content, remark=pytest.fail)


@pytest.mark.parametrize("times", [(1, 2), (1.5, "2"), ("1e3", 2000), ("2024-01-01", "2024-01-01 00:00:01"), (5, 5)])
def test_times_are_numbers_or_dates(tmp_path, times):
    content = "SessionId,ItemId,Time\n" + "".join(f"s,i{place},{time}\n" for place, time in enumerate(times))
    assert read(tmp_path, content) == [("s", ("i0", "i1"), 2)]


def test_dates_are_compared_across_time_zones(tmp_path):
    content = "SessionId,ItemId,Time\ns,a,2024-01-01T12:00:00+02:00\ns,b,2024-01-01T11:00:00Z\n"
    assert read(tmp_path, content) == [("s", ("a", "b"), 2)]


def test_times_beyond_the_precision_of_floats_are_compared_exactly(tmp_path):
    content = f"SessionId,ItemId,Time\ns,a,{2**60 + 1}\ns,b,{2**60}\n"
    with pytest.raises(UserError, match=r"line 3.*back in time"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("SessionId,ItemId,Time\n", "holds no session"),
        ("SessionId,Time\ns,1\n", "no column 'ItemId'"),
        ("Session,ItemId,Time\ns,a,1\n", "no column 'SessionId'"),
        ("SessionId,ItemId,ItemId\ns,a,1\n", "more than one column 'ItemId'"),
        ("SessionId,ItemId,Time\ns,a,1\ns,b\n", "line 3: expected 3 fields"),
        ("SessionId,ItemId,Time\ns,a,1\ns,,2\n", "line 3: expected an id in column 'ItemId'"),
        ("SessionId,ItemId,Time\n,a,1\n", "line 2: expected an id in column 'SessionId'"),
        ("SessionId,ItemId,Time\ns,a,soon\n", "line 2: expected a time in column 'Time'.*'soon'"),
        ("SessionId,ItemId,Time\ns,a,31.12.2024 10:00\n", "line 2: expected a time.*; convert the column, or remove"),
        ("SessionId,ItemId,Time\ns,a,\n", "line 2: expected a time"),
        ("SessionId,ItemId,Time\ns,a,NaN\n", "line 2: expected a time"),
        ("SessionId,ItemId,Time\ns,a,inf\n", "line 2: expected a time"),
        ("SessionId,ItemId,Time\ns,a,2\ns,b,1\n", "line 3: session 's' goes back in time, from 2 to 1"),
        ("SessionId,ItemId,Time\ns,a,2\ns,b,2024-01-01\n", "line 3: expected a time of the kind of 2"),
        ("SessionId,ItemId,Time\ns,a,1\nt,a,1\ns,b,2\n", "line 4: session 's' continues after other sessions.*--group"),
        ('SessionId,ItemId,Time\ns,"a,1\n', "not a valid table row"),
        ('SessionId,ItemId,Time\ns,"a"b,1\n', "line 2: not a valid table row"),
        ('{"session": "s"}\n', 'line 1: expected "items"'),
        ('{"session": "s", "item": "a"}\n', 'line 1: expected "items".*or a table.*for single clicks.*--stream'),
        ('{"items": "abc"}\n', 'line 1: expected "items" with a list of item ids, got "abc"'),
        ('{"items": ["a", 1.5]}\n', "line 1: expected the item id as text, got 1.5"),
        ('{"items": ["a", null]}\n', "line 1: expected the item id as text, got nothing"),
        ('{"items": [true]}\n', "line 1: expected the item id as text, got true"),
        ('{"session": [], "items": []}\n', "line 1: expected the session id as text"),
        ('{"items": []}\n{"items": \n', "line 2: expected a JSON object"),
        ('{"items": []}\n[]\n', r'line 2: expected a JSON object such as {"session": .*"items": .*}, got \[\]'),
        ("SessionId ItemId Time\ns a 1\n", "line 1: expected tabs, commas, semicolons or bars .*, got blanks in"),
        ("at   ItemId\n1    a\n", "line 1: expected tabs, commas, semicolons or bars .*, got blanks in"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 99, "expected text, packed with gzip or not, got zstd in"),
        (b"PK\3\4" + b"x" * 99, "got a zip archive or a spreadsheet in"),
        (bz2.compress(TABLE.encode()), "got bzip2 in"),
        (lzma.compress(TABLE.encode()), "got xz in"),
        ('{"items": ["\\ud800"]}\n', "line 1: expected Unicode text"),
        ('{"items": ' + "[" * 100_000 + "\n", "line 1: expected a JSON object"),
        ('{"items": [' + "9" * 10_000 + "]}\n", "line 1: expected a JSON object"),
        (b"a b\nc \xff\n", "line 2: expected UTF-8 text, got the byte 0xff at position 3"),
        (TABLE.encode("utf-16"), "line 1: expected UTF-8 text"),
        (b"a b\nc \x00\n", "line 2: expected text, got a zero byte"),
        (gzip.compress(TABLE.encode(), mtime=0)[:-5], "damaged or truncated gzip"),
        (gzip.compress(TABLE.encode(), mtime=0)[:20] + b"\xff" * 30, "damaged or truncated gzip"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_place(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        list(read_sessions(str(tmp_path / "nothing.tsv")))
    with pytest.raises(UserError, match=r"folder .*; name a file$"):
        list(read_sessions(str(tmp_path)))
    for name in ("valid.parquet", "test.parquet", "train.parquet"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"folder .*; name a file in it, such as .*test\.parquet"):
        list(read_sessions(str(tmp_path)))


def test_an_endless_line_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(inference.files.text, "LONGEST_LINE", 100)
    assert len(read(tmp_path, "a " * 49 + "\n" + "b")) == 2
    with pytest.raises(UserError, match="line 2"):
        read(tmp_path, "a\n" + "a " * 500)


def test_grouping_sorts_the_rows_of_each_session_by_time_and_keeps_ties_in_order(tmp_path):
    content = "SessionId,ItemId,Time\ns,c,3\nt,x,9\ns,a,1\nt,y,9\ns,b,2\nt,w,8\n"
    grouped = read(tmp_path, content, group=True)
    assert grouped == [("s", ("a", "b", "c"), 2), ("t", ("w", "x", "y"), 3)]


def test_grouping_rows_without_a_time_keeps_their_order(tmp_path):
    assert read(tmp_path, "SessionId,ItemId\ns,b\nt,x\ns,a\n", group=True) == [("s", ("b", "a"), 2), ("t", ("x",), 3)]


def test_grouping_refuses_numbers_beside_dates(tmp_path):
    with pytest.raises(UserError, match="both numbers and dates"):
        read(tmp_path, "SessionId,ItemId,Time\ns,a,1\nt,b,2024-01-01\n", group=True)


def test_a_session_may_have_a_million_clicks(tmp_path):
    ((_, items, _),) = read(tmp_path, json.dumps({"session": "bot", "items": ["i"] * 1_000_000}))
    assert len(items) == 1_000_000


@pytest.mark.parametrize("n_before", [2, 10])
def test_a_session_is_known_again_however_many_came_between(tmp_path, monkeypatch, n_before):
    monkeypatch.setattr("inference.files.table._Names.LARGE", 4)
    names = [f"s{place}" for place in range(n_before)]
    rows = "".join(f"{name},x,1\n" for name in names)
    assert len(read(tmp_path, "SessionId,ItemId,Time\n" + rows)) == n_before
    for name in names[:-1]:
        with pytest.raises(UserError, match=f"line {n_before + 2}: session '{name}' continues"):
            read(tmp_path, "SessionId,ItemId,Time\n" + rows + f"{name},x,2\n")


def written_parquet(path, row_group_size=None, **columns):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path, row_group_size=row_group_size)
    return path.read_bytes()


def test_parquet_is_read_like_a_table(tmp_path):
    import datetime

    for session, item, time in (
        (["s", "s", "t"], ["007", "7", "a"], [1, 2, 1]),
        ([1, 1, 2], [7, 8, 9], [1.5, 2.5, 0.5]),
        (["s", "s", "t"], ["7", "8", "9"], [datetime.datetime(2024, 1, day) for day in (1, 2, 1)]),
        (["s", "s", "t"], ["7", "8", "9"], [datetime.date(2024, 1, day) for day in (1, 2, 1)]),
        (["s", "s", "t"], ["7", "8", "9"], ["2024-01-01", "2024-01-01 00:00:01", "2024-01-01"]),
        (["s", "s", "t"], ["7", "8", "9"], ["9", "10", "1"]),
    ):
        content = written_parquet(tmp_path / "written", SessionId=session, ItemId=item, Time=time)
        expected = [(str(session[0]), (str(item[0]), str(item[1])), 1), (str(session[2]), (str(item[2]),), 3)]
        assert read(tmp_path, content) == read(tmp_path, content, group=True) == expected
        assert read(tmp_path, gzip.compress(content, mtime=0)) == expected


@pytest.mark.parametrize("kind", ["large_string", "string_view", "categories of text", "categories of numbers"])
def test_ids_in_parquet_may_be_of_every_kind_of_text_and_categories(tmp_path, kind):
    pyarrow = pytest.importorskip("pyarrow")
    ids = pyarrow.array([3, 7, 3] if kind == "categories of numbers" else ["3", "7", "3"])
    ids = ids.dictionary_encode() if kind.startswith("categories") else ids.cast(getattr(pyarrow, kind)())
    content = written_parquet(tmp_path / "written", SessionId=ids, ItemId=ids, Time=[1, 2, 3])
    assert read(tmp_path, content, group=True) == [("3", ("3", "3"), 1), ("7", ("7",), 2)]


@pytest.mark.slow
def test_how_much_of_a_parquet_file_has_been_read_can_be_watched(tmp_path):
    path, watched = tmp_path / "sessions.parquet", []
    n_rows = 200_000
    ids = [f"s{row}" for row in range(n_rows)]
    written_parquet(path, row_group_size=n_rows // 10, SessionId=ids, ItemId=ids, Time=list(range(n_rows)))
    sessions = read_sessions(str(path), on_open=watched.append)
    shares = [watched[0].tell() / path.stat().st_size for session in sessions if session.line % (n_rows // 4) == 0]
    assert shares == sorted(shares)
    assert 0.2 < shares[0] < 0.7


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"SessionId": ["s"], "Time": [1]}, "no column 'ItemId'"),
        (
            {"SessionId": ["s"], "ItemId": [1.5], "Time": [1]},
            "expected ids as text or whole numbers in column 'ItemId', got the type double",
        ),
        ({"SessionId": ["s"], "ItemId": ["x"], "Time": [True]}, "expected times as numbers or dates in column 'Time'"),
        ({"SessionId": ["s"], "ItemId": ["x"], "Time": ["soon"]}, "line 1: expected a time in column 'Time'.*'soon'"),
        ({"SessionId": ["s", None], "ItemId": ["x", "y"], "Time": [1, 2]}, "line 2: expected a session and an item"),
        ({"SessionId": ["s", "s"], "ItemId": ["x", "y"], "Time": [1, None]}, "line 2: expected a time, got nothing"),
        (
            {"SessionId": ["s", "s"], "ItemId": ["x", "y"], "Time": [1, float("nan")]},
            "line 2: expected a time, got nan",
        ),
        ({"SessionId": ["s", "s"], "ItemId": ["x", "y"], "Time": [2, 1]}, "line 2: session 's' goes back in time"),
    ],
)
def test_a_mistake_in_parquet_is_one_line_that_names_the_place(tmp_path, columns, message):
    content = written_parquet(tmp_path / "written", **columns)
    with pytest.raises(UserError, match=message):
        read(tmp_path, content)


def test_text_in_parquet_that_is_not_utf8_is_one_error(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    text = pyarrow.Array.from_buffers(pyarrow.string(), 1, pyarrow.array([b"\xff"]).buffers())
    content = written_parquet(tmp_path / "written", SessionId=["s"], ItemId=text, Time=[1])
    with pytest.raises(UserError, match="expected ids and times as UTF-8 text, got other bytes"):
        read(tmp_path, content)


def test_a_column_that_occurs_twice_in_parquet_is_said_to_occur_twice(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table([["s"], ["x"], ["y"]], names=["SessionId", "ItemId", "ItemId"])
    parquet.write_table(table, tmp_path / "sessions.parquet")
    with pytest.raises(UserError, match="more than one column 'ItemId'"):
        list(read_sessions(str(tmp_path / "sessions.parquet")))


def test_damaged_parquet_is_one_error(tmp_path):
    content = written_parquet(tmp_path / "written", SessionId=["s"] * 99, ItemId=["x"] * 99, Time=list(range(99)))
    packed = gzip.compress(content, mtime=0)
    for damaged in [content[:size] for size in range(4, len(content), 50)] + [packed[:-9], packed[:-200]]:
        with pytest.raises(UserError) as caught:
            read(tmp_path, damaged)
        assert "\n" not in str(caught.value)


def test_parquet_without_pyarrow_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="needs pyarrow; install it"):
        read(tmp_path, b"PAR1" + b"\0" * 50)


def test_a_file_that_is_only_called_parquet_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"called \.parquet"):
        read(tmp_path, TABLE, "s.parquet")


FUZZED = st.one_of(
    st.binary(max_size=200),
    st.text(alphabet='SessionId,Item\t\n\r"{}[]: 0123.🛒\ufeff\x00', max_size=200).map(str.encode),
    st.text(alphabet="ab1,\t\"\n\r -.:'", max_size=100).map(lambda text: b"SessionId,ItemId,Time\n" + text.encode()),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=FUZZED, input_format=st.sampled_from([None, *FORMATS]), group=st.booleans(), packed=st.booleans())
def test_any_bytes_are_sessions_or_one_error(tmp_path, content, input_format, group, packed):
    raw = gzip.compress(content, mtime=0) if packed else content
    try:
        sessions = read(tmp_path, raw, input_format=input_format, group=group)
    except UserError:
        return
    for name, items, line in sessions:
        "".join((name, *items)).encode()
        assert line >= 1


ITEM = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=5)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(ITEM, st.lists(ITEM, min_size=1, max_size=4)), min_size=1, max_size=4, unique_by=lambda x: x[0])
)
def test_sessions_written_as_csv_tsv_or_json_lines_are_read_back(tmp_path, sessions):
    import csv

    expected = [(name, tuple(items)) for name, items in sessions]
    for delimiter in ",\t":
        text = io.StringIO()
        table = csv.writer(text, delimiter=delimiter)
        table.writerow(["SessionId", "ItemId", "Time"])
        table.writerows([name, item, time] for name, items in sessions for time, item in enumerate(items))
        assert [session[:2] for session in read(tmp_path, text.getvalue())] == expected
    lines = "\n".join(json.dumps({"session": name, "items": items}) for name, items in sessions)
    assert [session[:2] for session in read(tmp_path, lines)] == expected
