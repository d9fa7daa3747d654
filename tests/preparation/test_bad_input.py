"""Bad logs: one clear line that names the file and the row, exit code 2, and nothing half-written."""

import gzip
import json
import os
import resource
import subprocess
import sys

import polars as pl
import pyarrow
import pytest
from pyarrow import parquet

from gru4rec.cli import main
from gru4rec.data.reading.log_file import open_log_file
from gru4rec.data.synthetic import synthesize

START = 1_700_000_000
HEADER = "SessionId,ItemId,Time\n"
GOOD = HEADER + "".join(f"{row // 2},{row % 3},{START + row}\n" for row in range(8))
EASY = ("--min-item-support", "1", "--min-session-length", "1", "--keep-repeats", "--no-valid")


def zstandard(data: bytes) -> bytes:
    """The data, packed."""
    return pyarrow.compress(data, codec="zstd", asbytes=True)


def failure(tmp_path, capsys, *arguments: str, log: str | bytes = GOOD, name: str = "log.csv") -> str:
    """Prepare a log, which must fail; gives the one line on stderr."""
    path = tmp_path / name
    if not path.exists():
        path.write_bytes(log if isinstance(log, bytes) else log.encode())
    before = sorted(tmp_path.iterdir())
    assert main(["prepare", str(path), "--out", str(tmp_path / "out"), *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert sorted(tmp_path.iterdir()) == before
    return lines[0]


def with_row(number: int, text: str) -> str:
    """The good log with one row, counted from 1 without the header, replaced."""
    lines = GOOD.splitlines(keepends=True)
    lines[number] = text + "\n"
    return "".join(lines)


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("", "log.csv: expected events, got an empty file"),
        (HEADER, "log.csv: expected events, got none (the file has a header only)"),
        ("\n" + GOOD, "log.csv: expected a header or a JSON object in line 1, got a blank one; remove it"),
        (
            GOOD.replace("ItemId", "Colour"),
            "log.csv: expected one item column, found only 'SessionId', 'Colour', 'Time'",
        ),
        (GOOD.replace("SessionId", "Colour"), "expected one session column, found only 'Colour', 'ItemId', 'Time'"),
        (GOOD.replace("Time", "Time,Time"), "expected one time column 'Time', found 2 in its header"),
        (
            GOOD.replace(",", "#"),
            "found only 'SessionId#ItemId#Time' when it is delimited by '\\t'; name its --delimiter",
        ),
        (with_row(3, f"1,2;{START}"), "row 3: expected a value in column 'Time', got none"),
        (
            with_row(3, f"1,2,{START},9"),
            "log.csv: line 4: expected 3 fields delimited by ',' as in the header, got more",
        ),
        (with_row(4, f"1,,{START}"), "log.csv: row 4: expected a value in column 'ItemId', got none"),
        (with_row(4, f',"2",{START}'), "log.csv: row 4: expected a value in column 'SessionId', got none"),
        (with_row(4, "1,2,"), "log.csv: row 4: expected a value in column 'Time', got none"),
        (with_row(5, "1,2,noon"), "log.csv: row 5: expected a number or a date in column 'Time', got 'noon'"),
        (with_row(5, "1,2,2024-01-01"), "row 5: expected a number or a date in column 'Time', got '2024-01-01'"),
        (with_row(2, "1,2,nan"), "log.csv: row 2: expected a number or a date in column 'Time', got 'nan'"),
        (
            with_row(2, "1,2,-5"),
            "log.csv: row 2: expected seconds since 1970, between 1991 and today like most others, in column",
        ),
        (
            with_row(2, "1,2,0"),
            "row 2: expected seconds since 1970, between 1991 and today like most others, in column 'Time', got '0'",
        ),
        (
            with_row(2, f"1,2,{START}000"),
            "row 2: expected seconds since 1970, between 1991 and today like most others, in column 'Time', got '1",
        ),
        (with_row(2, "1,2," + "9" * 30), "log.csv: row 2: expected seconds since 1970, between 1991"),
        (with_row(2, f'1,"two\nlines",{START}'), "log.csv: row 2: expected an item id on one line in column 'ItemId'"),
        (
            with_row(6, f'1,"2,{START}').replace("3,", '"3,3",'),
            'log.csv: line 7: expected every quote (") to be closed, got an open one; --no-quotes reads',
        ),
        (GOOD.encode().replace(b"\n1,", b"\n\xff,"), "log.csv: line 4: expected UTF-8 text, got other bytes"),
        (
            GOOD.encode("utf-16-le"),
            "log.csv: expected a click log (text, JSON or parquet), got binary data; is it UTF-16?",
        ),
    ],
)
def test_bad_text_is_one_line_with_the_place(tmp_path, capsys, log, message):
    assert message in failure(tmp_path, capsys, *EASY, log=log)


@pytest.mark.parametrize(("name", "pack"), [("log.csv.gz", gzip.compress), ("log.csv.zst", zstandard)])
def test_packed_file_that_is_cut_off_is_one_line(tmp_path, capsys, name, pack):
    packed = pack("".join([HEADER, *(f"{row},{row * 7919 % 10007},{START + row}\n" for row in range(50_000))]).encode())
    line = failure(tmp_path, capsys, *EASY, log=packed[: len(packed) // 2], name=name)
    assert f"{name}: expected tab- or comma-separated text, got an error" in line
    assert line.endswith("is it packed and cut off?")


def test_quoted_line_break_in_a_column_that_is_not_read_changes_nothing(tmp_path):
    parts = []
    for name, title in (("plain", "a title"), ("broken", '"a ""title""\nof two, lines"')):
        log = "".join(f"{row // 2},{title},{row % 3},{START + row}\n" for row in range(8))
        (tmp_path / f"{name}.csv").write_text("SessionId,Title,ItemId,Time\n" + log)
        assert main(["prepare", str(tmp_path / f"{name}.csv"), "--out", str(tmp_path / name), *EASY]) == 0
        parts.append([pl.read_parquet(tmp_path / name / f"{part}.parquet").rows() for part in ("train", "test")])
    assert parts[0] == parts[1]
    assert len(parts[0][0]) + len(parts[0][1]) == 8


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"ItemId": None}, "row 2: expected a value in column 'ItemId', got none"),
        ({"ItemId": [1, 2]}, "row 2: expected text or a number as id in column 'ItemId', got '[1,"),
        ({"SessionId": {"id": 1}}, "expected one session column, found only 'SessionId', 'ItemId', 'Time'"),
        ({"Time": "noon"}, "row 2: expected a number or a date in column 'Time', got 'noon'"),
        ("oops", "line 2: expected one JSON object"),
    ],
)
def test_bad_json_is_one_line_with_the_place(tmp_path, capsys, row, message):
    rows = [{"SessionId": number, "ItemId": f"i{number}", "Time": START + number} for number in range(4)]
    lines = [json.dumps(row) for row in rows]
    lines[1] = row if isinstance(row, str) else json.dumps(rows[1] | row)
    assert message in failure(tmp_path, capsys, *EASY, log="\n".join(lines) + "\n", name="log.jsonl")


def test_bad_parquet_is_one_line_with_the_place(tmp_path, capsys):
    good = pl.DataFrame({"SessionId": [1, 1, 2], "ItemId": ["a", "b", "a"], "Time": [START, START, START + 9]})
    for name, change, message in [
        ("null", pl.Series("ItemId", ["a", None, "b"]), "row 2: expected a value in column 'ItemId', got none"),
        ("empty", pl.Series("ItemId", ["a", "b", ""]), "row 3: expected a value in column 'ItemId', got none"),
        ("nan", pl.Series("Time", [1.0, 2.0, float("nan")]), "row 3: expected a number or a date in column 'Time'"),
        ("bool", pl.Series("Time", [True, False, True]), "column 'Time': expected numbers or dates as times, got Bool"),
        (
            "float",
            pl.Series("ItemId", [1.0, 1.5, 2.5]),
            "row 2: expected a number or text as id in column 'ItemId', got 1.5",
        ),
    ]:
        good.with_columns(change).write_parquet(tmp_path / f"{name}.parquet")
        assert message in failure(tmp_path, capsys, *EASY, name=f"{name}.parquet"), name
    assert "expected a parquet file" in failure(tmp_path, capsys, log=b"PAR1 and nothing else", name="cut.parquet")
    twice = pyarrow.table([pyarrow.array([1]), pyarrow.array([2])], names=["Time", "Time"])
    parquet.write_table(twice, tmp_path / "twice.parquet")
    assert "'Time' has more than one occurrence" in failure(tmp_path, capsys, name="twice.parquet")


def test_the_file_of_several_that_is_wrong_is_the_one_that_is_named(tmp_path, capsys):
    (tmp_path / "first.csv").write_text(GOOD)
    first = str(tmp_path / "first.csv")
    for name, log, message in [
        ("value", with_row(3, "1,2,noon"), "value.csv: row 3: expected a number or a date in column 'Time'"),
        ("ragged", with_row(3, "1,2,3,4"), "ragged.csv: line 4: expected 3 fields"),
        (
            "column",
            GOOD.replace("ItemId", "Thing"),
            "column.csv: expected one item column 'ItemId', found only 'SessionId', 'Thing'",
        ),
    ]:
        (tmp_path / f"{name}.csv").write_text(log)
        assert main(["prepare", first, str(tmp_path / f"{name}.csv"), "--out", str(tmp_path / "out"), *EASY]) == 2
        assert message in capsys.readouterr().err
    assert main(["prepare", first, first, "--out", str(tmp_path / "out")]) == 2
    assert "expected different event files" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--session-column", "SessionId", "--user-column", "ItemId"],
            "got both the session column 'SessionId' and the user column 'ItemId'; leave out --session-column or",
        ),
        (
            ["--item-column", "Thing"],
            "expected one item column 'Thing', found only 'SessionId', 'ItemId', 'Time'; name yours with --item-column",
        ),
        (
            ["--item-column", "SessionId"],
            "expected different columns for session and item, got 'SessionId' for both; name yours with",
        ),
        (["--event-kinds", "view"], "expected one event column, found only"),
        (["--event-kinds", ","], "event_kinds: expected kinds such as view,click, got ','; leave it out for all"),
        (["--user-column", "SessionId", "--session-gap", "inf"], "gap: expected a number of at least 0, got inf"),
        (["--delimiter", "tab"], "found only 'SessionId,ItemId,Time' when it is delimited by '\\t'"),
        (["--delimiter", "::"], "found only 'SessionId,ItemId,Time' when it is delimited by '::'"),
        (["--time-format", "stardate"], "unknown time format 'stardate'; expected one of auto, s, ms"),
        (["--time-format", "%d.%m.%Y"], "row 1: expected a time %d.%m.%Y in column 'Time', got '1700000000'"),
        (["--time-zone", "Mars/Olympus"], "unknown time zone 'Mars/Olympus'"),
        (["--test-days", "1"], "got none for train: the boundary is 2023-11-13 22:13:27 and the sessions, 4, run from"),
        (["--split-at", "5"], "got none for train: the boundary is 1970-01-01 00:00:05"),
        (["--split-at", "2099-01-01"], "got none for test: the boundary is 2099-01-01"),
        (["--split-at", "9" * 400], "got none for test: the boundary is inf"),
        (["--split-at", "9" * 5000], "got none for test: the boundary is inf"),
        (["--split-at", "soon"], "expected a number or a time such as 2024-01-31T12:00:00, got 'soon'"),
        (["--test-days", "0"], "expected a split by more than 0 days, got 0"),
        (["--test-fraction", "1"], "expected a fraction between 0 and 1 to split off, got 1"),
        (["--test-days", "1", "--split-at", "5"], "expected one way to split, by days, by fraction or at a time"),
        (["--valid-days", "1"], "expected either --no-valid or a validation split, got both"),
        (["--passes", "often"], 'Invalid value for --passes: unable to convert "often" into int|Literal[stable]'),
        (["--passes", "0"], "passes: expected a number of at least 1, got 0"),
        (["--min-item-support", "0"], "min_item_support: expected a number of at least 1, got 0"),
        (
            ["--min-item-support", "9"],
            "events after the step 'train: items of fewer than 9 clicks, pass 1', which removed all 4; try a lower "
            "--min-item-support",
        ),
        (
            ["--min-session-length", "9", "--min-item-support", "1"],
            "after the step 'train: sessions of fewer than 9 clicks, pass 1', which removed all",
        ),
    ],
)
def test_an_impossible_option_is_one_line(tmp_path, capsys, flags, message):
    kept = [] if flags[0] in EASY else EASY
    assert message in failure(tmp_path, capsys, *kept, *flags)


def test_one_session_alone_cannot_be_split(tmp_path, capsys):
    log = HEADER + f"1,a,{START}\n1,b,{START + 1}\n"
    assert "got none for train: the boundary is 2023-11-14 22:13:20 and the sessions, 1," in failure(
        tmp_path, capsys, *EASY, log=log
    )


def test_days_of_plain_numbers_are_refused(tmp_path, capsys):
    log = HEADER + "".join(f"{row},a,{row}\n" for row in range(8))
    line = failure(tmp_path, capsys, *EASY, "--test-days", "1", log=log)
    assert "expected times with a unit to measure durations in, got plain numbers" in line


def test_a_kind_of_event_that_does_not_occur_is_named_with_those_that_do(tmp_path, capsys):
    log = HEADER.replace("Time", "Time,event") + f"1,a,{START},buy\n1,b,{START},buy\n2,b,{START},look\n"
    line = failure(tmp_path, capsys, *EASY, "--event-kinds", "view", log=log)
    assert "expected events of the kind view in column 'event', found only 'buy', 'look'" in line
    assert "the event filter removed everything" in line


def test_milliseconds_that_are_taken_for_seconds_are_warned_of(tmp_path, capsys):
    (tmp_path / "log.csv").write_text(GOOD.replace(f"{START // 1000}", f"{START // 1000}000"))
    command = ["prepare", str(tmp_path / "log.csv"), "--out", str(tmp_path / "out"), *EASY]
    assert main([*command, "--time-format", "s"]) == 0
    error = capsys.readouterr().err
    assert error.startswith("warning: the times are read as s, as asked")
    assert error.endswith("they look like ms: --time-format ms\n")
    assert "warnings" in json.loads((tmp_path / "out" / "stats.json").read_text())


def test_wrong_destination_is_refused_before_any_work(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for out, message in [("file", "it exists already"), ("no/folder", "the folder"), (".", "it exists already")]:
        assert main(["prepare", "no-such-log.csv", "--out", str(tmp_path / out)]) == 2
        assert message in capsys.readouterr().err
    assert main(["prepare", "--out", str(tmp_path / "out")]) == 2
    assert "expected at least one event file" in capsys.readouterr().err
    assert main(["prepare", str(tmp_path / "*.csv"), "--out", str(tmp_path / "out")]) == 2
    assert "expected an event file, found none at" in capsys.readouterr().err


def test_a_pipe_is_read_to_its_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cp", "/dev/stdin", str(tmp_path / "pipe")], stdin=subprocess.PIPE) as writer:
        writer.stdin.write(GOOD.encode())
        writer.stdin.close()
        assert main(["audit", str(tmp_path / "pipe")]) == 0


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    """Files may not grow beyond 2,000 bytes, which a process meets as it would a full disk."""
    synthesize(2000, 50).write_parquet(tmp_path / "log.parquet")
    command = [
        sys.executable,
        "-m",
        "gru4rec.cli",
        "prepare",
        str(tmp_path / "log.parquet"),
        "--out",
        str(tmp_path / "out"),
    ]
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [f"error: cannot write {tmp_path / 'out'}: File too large (os error 27)"]
    assert [path.name for path in tmp_path.iterdir()] == ["log.parquet"]


def test_names_of_columns_may_be_quoted_and_hold_the_delimiter(tmp_path, capsys):
    path = tmp_path / "log.csv"
    lines = GOOD.splitlines()
    path.write_text("\n".join(['"x;,;y", "SessionId" ,ItemId,Time', *(f"7,{line}" for line in lines[1:])]))
    assert open_log_file(path).names == ("x;,;y", "SessionId", "ItemId", "Time")
    assert main(["audit", str(path)]) == 0
    assert main(["prepare", str(path), "--out", str(tmp_path / "out"), *EASY]) == 0


def test_a_header_that_polars_refuses_is_one_line(tmp_path, capsys, monkeypatch):
    def refused(frame):
        raise pl.exceptions.SchemaError("no such header")

    monkeypatch.setattr(pl.LazyFrame, "collect_schema", refused)
    assert "log.csv: expected tab- or comma-separated text, got an error: no such header" in failure(tmp_path, capsys)


def test_where_polars_panics_the_last_line_is_ours(tmp_path, capfd):
    times = pl.Series([START * 1000, 2**62]).cast(pl.Datetime("ms"))  # a moment that no calendar holds
    pl.DataFrame({"SessionId": ["a", "a"], "ItemId": ["x", "y"], "Time": times}).write_parquet(tmp_path / "log.parquet")
    assert main(["prepare", str(tmp_path / "log.parquet"), "--out", str(tmp_path / "out")]) == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    assert "row 2: expected" in line
