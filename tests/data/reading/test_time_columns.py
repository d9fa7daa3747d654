"""Every notation of time that people use is read as what it says, or the message names the flag that reads it."""

import datetime
import re

import polars as pl
import pytest

from gru4rec.cli import main
from gru4rec.data.reading.time_columns import AmbiguousTimesError, infer_time_column, suggest_format
from gru4rec.data.times import infer_clock, infer_time_unit
from inference.shared.errors import UserError

MOMENT = datetime.datetime(2023, 11, 14, 22, 32, 30)
EASY = ("--min-item-support", "1", "--min-session-length", "1", "--keep-repeats", "--no-valid")


def read(texts: list[str], **options) -> list[datetime.datetime]:
    """The times as datetimes in UTC, without their zone."""
    series = pl.Series("Time", texts)
    column = infer_time_column(series, "column 'Time'", **options)
    ticks = column.read(series)
    clock = infer_clock(ticks.drop_nulls().to_numpy(), column.dtype)
    return [None if tick is None else datetime.datetime.fromisoformat(clock.format_time(tick)) for tick in ticks]


@pytest.mark.parametrize(
    "text",
    [
        "11/14/2023 10:32:30 PM",
        "11/14/2023 22:32:30",
        "14.11.2023 22:32:30",
        "14/11/2023 22:32:30",
        "2023/11/14 22:32:30",
        "2023-11-14 22:32:30+00",
        "2023-11-14 22:32:30+00:00",
        "2023-11-15 00:32:30+0200",
        "2023-11-14T22:32:30Z",
        "2023-11-14 22:32:30 UTC",
        "20231114T223230Z",
        "20231114223230",
        "2023-11-14 22:32:30,123",
        "2023-11-14 22:32:30.123456",
        "Tue, 14 Nov 2023 22:32:30 GMT",
        "Tue, 14 Nov 2023 22:32:30 +0000",
        "14/Nov/2023:22:32:30 +0000",
        "1700001150",
        "1700001150.25",
        "1.70000115e9",
        "1700001150123",
        "1700001150123456",
        "1700001150123456789",
    ],
)
def test_every_notation_is_read_as_what_it_says(text):
    assert read([text]) == [MOMENT]


@pytest.mark.parametrize("text", ["20231114", "2023-11-14", "11/14/2023", "Nov 14, 2023", "11 14, 2023", "14 Nov 2023"])
def test_a_day_is_its_midnight(text):
    assert read([text]) == [MOMENT.replace(hour=0, minute=0, second=0)]


def test_a_column_may_be_written_in_several_ways():
    days = ["2023-11-14", "2023-11-15"]
    assert read([*days, "2023-11-16 01:02:03"])[-1] == datetime.datetime(2023, 11, 16, 1, 2, 3)
    assert read(["2023-11-14 22:32:30", "2023-11-14 22:32:30.5"]) == [MOMENT, MOMENT]
    assert read(["2023-11-14T22:32:30Z", "2023-11-14T23:32:30+01:00"]) == [MOMENT, MOMENT]


def test_times_with_and_without_a_zone_need_the_zone_of_the_others():
    texts = ["2023-11-14T22:32:30Z", "2023-11-14T23:32:30"]
    with pytest.raises(UserError, match=r"some times name a zone and others do not; .* --time-zone"):
        read(texts)
    assert read(texts, zone="Europe/Berlin") == [MOMENT, MOMENT]


def test_the_whole_column_decides_what_is_the_day():
    many = [f"{day:02d}/02/2023 10:00" for day in range(1, 13)]
    with pytest.raises(AmbiguousTimesError, match=r"'01/02/2023 10:00' may be in '%m/%d/%Y %H:%M' or '%d/%m/%Y %H:%M'"):
        read(many)
    assert read([*many, "13/02/2023 10:00"])[0] == datetime.datetime(2023, 2, 1, 10)
    assert read([*many, "02/13/2023 10:00"])[0] == datetime.datetime(2023, 1, 2, 10)


def log_of(folder, times: list[str]):
    """A log with these times, a session each."""
    path = folder / "log.tsv"
    path.write_text("SessionId\tItemId\tTime\n" + "".join(f"s{n}\ti\t{time}\n" for n, time in enumerate(times)))
    return str(path)


def test_a_day_far_down_the_file_decides_too(tmp_path):
    times = [f"{1 + number % 12:02d}/02/2023 10:00" for number in range(3000)] + ["27/02/2023 10:00"]
    command = ["prepare", log_of(tmp_path, times), "--out", str(tmp_path / "out"), *EASY]
    assert main(command) == 0
    last = pl.read_parquet(tmp_path / "out" / "test.parquet")["Time"].max()
    assert last == datetime.datetime(2023, 2, 27, 10)


def test_another_notation_far_down_the_file_is_read_too(tmp_path, capsys):
    times = [f"2023-11-14 22:32:{number % 60:02d}" for number in range(3000)] + ["2023-11-16T10:00"]
    assert main(["prepare", log_of(tmp_path, times), "--out", str(tmp_path / "out"), *EASY]) == 0
    assert "2023-11-14 22:32:00 … 2023-11-16 10:00:00" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("times", "flags"),
    [
        (["14.11.2023 22h32", "15.11.2023 22h32"], None),
        (["01/02/2023 10:00", "02/02/2023 10:00"], None),
        (["4700000000", "4700000001"], ["--time-format", "s"]),
        (["638355000000000000", "638355000000000001"], ["--time-format", "order"]),
        (["300000000", "300000001"], ["--time-format", "s"]),
        (["1700000000", "1700000001", "4700000000"], ["--drop-invalid"]),
        (["1700000000", "1700000001", ""], ["--drop-invalid"]),
        (["2023-11-14 10:00:00", "2023-11-14 11:00:00", "2118-11-14 10:00:00"], ["--drop-invalid"]),
    ],
)
def test_what_is_not_assumed_is_refused_and_the_named_flag_reads_it(tmp_path, capsys, times, flags):
    command = ["prepare", log_of(tmp_path, times), "--out", str(tmp_path / "out"), *EASY]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    if flags is None:  # the pattern is in the message
        flags = ["--time-format", re.findall("'(%[^']*)'", error)[0]]
        assert "--time-format" in error
    else:
        assert flags[0] in error
    assert main([*command, *flags]) == 0


def test_numbers_are_a_time_between_1991_and_today_or_an_order():
    assert [infer_time_unit(tick) for tick in (5, 99_999_999)] == ["order", "order"]
    assert infer_time_unit(3e8) is None  # 1979
    assert infer_time_unit(4.7e9) is None  # 2118 in seconds
    with pytest.raises(UserError, match="expected times between 1991 and today, got numbers such as 4700000000"):
        read(["4700000000"])


def test_a_suggested_pattern_reads_the_value():
    for text in ("14.11.2023 22h32", "2023|11|14", "14th 11 2023"):
        pattern = re.findall("--time-format '(.*)'", suggest_format(text))[0]
        assert read([text], time_format=pattern)[0].date() == MOMENT.date()
    assert suggest_format("noon") == ""


def test_days_of_a_year_are_read_on_demand():
    assert read(["1111", "1112"], time_format="%m%d") == [
        datetime.datetime(2000, 11, 11),
        datetime.datetime(2000, 11, 12),
    ]


def test_a_zone_of_a_column_is_the_zone_of_what_is_printed_and_split(tmp_path, capsys):
    times = pl.Series("Time", [MOMENT.replace(day=day, hour=0, minute=30) for day in (13, 14, 15, 16)])
    times = times.dt.replace_time_zone("Europe/Berlin")
    pl.DataFrame({"SessionId": ["a", "b", "c", "d"], "ItemId": ["i"] * 4}).with_columns(times).write_parquet(
        tmp_path / "log.parquet"
    )
    command = ["prepare", str(tmp_path / "log.parquet"), "--out", str(tmp_path / "out"), *EASY]
    assert main([*command, "--split-at", "2023-11-15"]) == 0
    assert "times: dates and times, Europe/Berlin, 2023-11-13 00:30:30 … 2023-11-16 00:30:30" in capsys.readouterr().out
    assert pl.read_parquet(tmp_path / "out" / "test.parquet").height == 2
