"""How times are recognised, read and formatted."""

import datetime
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from gru4rec.cli import main
from gru4rec.data.reading.time_columns import infer_time_column
from gru4rec.data.times import Clock, infer_clock, infer_time_unit, last_second
from inference.shared.errors import UserError

NOON = datetime.datetime(2024, 5, 6, 12, 0, 0)
NOON_UTC = NOON.replace(tzinfo=datetime.UTC)


def prepared_times(tmp_path, texts: list[str], *flags: str) -> pl.Series:
    """The training times of a log whose first sessions have these times."""
    rows = [(f"s{number}", "a", text) for number, text in enumerate([*texts, texts[-1]])]
    pl.DataFrame(rows, schema=["session", "item", "time"], orient="row").write_csv(tmp_path / "log.csv")
    filters = ["--min-item-support", "1", "--min-session-length", "1", "--no-valid"]
    command = ["prepare", str(tmp_path / "log.csv"), "--out", str(tmp_path / "out"), *filters, *flags]
    assert main([*command, "--test-fraction", "0.1"]) == 0
    return pl.concat([pl.read_parquet(tmp_path / "out" / f"{name}.parquet") for name in ("train", "test")])["Time"]


@pytest.mark.parametrize(
    ("text", "flags", "expected"),
    [
        ("2024-05-06T12:00:00Z", (), NOON_UTC),
        ("2024-05-06 12:00:00 UTC", (), NOON_UTC),
        ("2024-05-06T14:00:00+02:00", (), NOON_UTC),
        ("2024-05-06T12:00:00.000", (), NOON),
        ("2024-05-06 12:00", (), NOON),
        ("2024-05-06 14:00:00", ("--time-zone", "Europe/Berlin"), NOON_UTC),
        ("2024-05-06 12:00:00", ("--time-zone", "UTC"), NOON_UTC),
        ("06.05.2024 12h00", ("--time-format", "%d.%m.%Y %Hh%M"), NOON),
        ("1714996800", (), 1714996800),
        ("1714996800.25", (), 1714996800.25),
        ("0012", ("--time-format", "order"), 12),
    ],
)
def test_text_is_read_as_what_it_says(tmp_path, text, flags, expected):
    earlier = text
    for late, early in (("2024-05-06", "2024-05-05"), ("06.05.", "05.05."), ("17149968", "17149967"), ("0012", "0011")):
        earlier = earlier.replace(late, early)
    assert prepared_times(tmp_path, [earlier, text], *flags)[-1] == expected


def test_days_alone_are_midnights(tmp_path):
    times = prepared_times(tmp_path, ["2024-05-05", "2024-05-06"])
    assert times.to_list()[:2] == [datetime.datetime(2024, 5, 5), datetime.datetime(2024, 5, 6)]


def test_whole_numbers_at_first_do_not_forbid_fractions_later(tmp_path):
    texts = [str(1_700_000_000 + number) for number in range(1500)] + ["1700009999.5"]
    times = prepared_times(tmp_path, texts)
    assert times.dtype == pl.Float64
    assert times[-1] == 1700009999.5


def test_units_are_recognised_by_the_magnitude_of_most_times():
    assert [infer_time_unit(value) for value in (5, 1.7e9, 1.7e12, 1.7e15, 1.7e18)] == ["order", "s", "ms", "us", "ns"]
    mostly = np.array([0, 1_700_000_000_000, 1_700_000_000_001])
    clock = infer_clock(mostly, pl.Int64())
    assert (clock.unit, clock.per_second) == ("ms", 1000)
    assert clock.plausible_range[0] == 662_688_000_000  # 1991
    assert clock.plausible_range[1] == pytest.approx(last_second() * 1000)
    assert Clock("ms", pl.Int64()).plausible_range == (0, np.inf)  # a unit that was given is believed


def test_a_moment_is_found_in_every_unit():
    for unit, tick in (("s", 1714996800), ("ms", 1714996800_000), ("us", 1714996800_000_000)):
        clock = Clock(unit, pl.Int64())
        assert clock.parse_time("2024-05-06T12:00:00") == tick
        assert clock.parse_time("2024-05-06T14:00:00+02:00") == tick
        assert clock.parse_time(str(tick)) == tick
        assert clock.format_time(tick) == "2024-05-06 12:00:00"
        in_berlin = Clock(unit, pl.Int64(), zone="Europe/Berlin")
        assert in_berlin.format_time(tick) == "2024-05-06 14:00:00"
        assert in_berlin.parse_time(in_berlin.format_time(tick)) == tick
    assert Clock("day", pl.Date()).parse_time("1970-01-11") == 10
    assert Clock("order", pl.Int64()).format_time(1234567) == "1,234,567"
    with pytest.raises(UserError, match="expected times with a unit"):
        Clock("order", pl.Int64()).parse_time("2024-05-06")


@pytest.mark.parametrize("unit", ["text", "s"])
def test_a_boundary_without_a_zone_is_in_the_one_that_the_times_are_in(tmp_path, capsys, unit):
    """Clicks half an hour before and after midnight in Berlin, both before midnight in UTC."""
    zone = ZoneInfo("Europe/Berlin")
    moments = [datetime.datetime(2024, 1, day, 23 * (day < 15), 30, tzinfo=zone) for day in (12, 13, 14, 15)]
    texts = [f"{moment:%Y-%m-%d %H:%M:%S}" if unit == "text" else f"{moment.timestamp():.0f}" for moment in moments]
    rows = [("SessionId", "ItemId", "Time"), *((day, "a", text) for day, text in enumerate(texts))]
    (tmp_path / "log.csv").write_text("".join(f"{','.join(map(str, row))}\n" for row in rows))
    filters = ["--min-item-support", "1", "--min-session-length", "1", "--time-zone", "Europe/Berlin"]
    command = ["prepare", str(tmp_path / "log.csv"), "--out", str(tmp_path / "out"), *filters]
    assert main([*command, "--split-at", "2024-01-15", "--valid-at", "2024-01-14T23:00"]) == 0
    sizes = [len(pl.read_parquet(tmp_path / "out" / f"{name}.parquet")) for name in ("train", "valid", "test")]
    assert sizes == [2, 1, 1]
    shown = capsys.readouterr().out  # in that zone, too
    assert "shown as in Europe/Berlin, 2024-01-12 23:30:00 … 2024-01-15 00:30:00\n" in shown
    assert "valid from 2024-01-14 23:00:00: " in shown
    assert "test from 2024-01-15: " in shown


def test_times_that_are_kept_without_a_zone_have_none():
    for kind in (pl.Date(), pl.Datetime("ms")):
        assert infer_clock(np.array([1]), kind, zone="Europe/Berlin").zone is None
    assert infer_clock(np.array([1]), pl.Datetime("ms", "UTC"), zone="Europe/Berlin").zone == "Europe/Berlin"


def test_a_time_that_a_clock_skipped_is_refused_and_one_that_it_showed_twice_is_the_first(tmp_path):
    column = infer_time_column(pl.Series(["2024-03-31 02:30:00"]), "Time", zone="Europe/Berlin")
    read = pl.DataFrame({"Time": ["2024-03-31 02:30:00", "2024-10-27 02:30:00"]}).select(column.ticks(pl.col("Time")))
    twice = datetime.datetime(2024, 10, 27, 0, 30, tzinfo=datetime.UTC)
    assert read["Time"].to_list() == [None, int(twice.timestamp()) * 1_000_000]
