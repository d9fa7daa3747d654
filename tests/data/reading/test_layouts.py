"""Logs in the layouts of public logs and event trackers come in as they are, by one command without flags."""

from itertools import chain

import polars as pl
import pytest

from gru4rec.cli import main
from gru4rec.data.reading.layouts import LAYOUTS as KNOWN
from gru4rec.data.reading.log_file import open_log_file
from gru4rec.data.reading.roles import find_layout
from tests.support.layouts import LAYOUTS, SESSIONS, write_layout

EVERYTHING = ("--min-item-support", "1", "--min-session-length", "1", "--keep-repeats")


def prepared_sessions(folder, *arguments: str) -> list[list[str]]:
    """The items of the sessions of all parts, in the order of time."""
    assert main(["prepare", *arguments, "--out", str(folder / "out"), *EVERYTHING]) == 0
    parts = [pl.read_parquet(folder / "out" / f"{part}.parquet") for part in ("train", "valid", "test")]
    rows = pl.concat(parts).group_by("SessionId", maintain_order=True).agg("ItemId", pl.col("Time").min())
    return rows.sort("Time", maintain_order=True)["ItemId"].to_list()


def item_numbers(sessions: list[list[str]]) -> list[list[int]]:
    """Ids such as SKU-7 or 0000000007 as the number they end in."""
    return [[int(str(item)[-1]) for item in session] for session in sessions]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_log_in_a_known_layout_needs_no_flag(tmp_path, capsys, name):
    path = write_layout(tmp_path, name)
    assert item_numbers(prepared_sessions(tmp_path, str(path))) == SESSIONS
    out = capsys.readouterr().out
    if name != "ml.inter":  # its header says enough
        assert out.startswith("looks like ")
        assert "(--preset none reads it plainly)\n" in out


def test_every_layout_of_the_table_is_tried(tmp_path):
    files = (open_log_file(write_layout(tmp_path, name)) for name in LAYOUTS)
    found = {layout.title for file in files if (layout := find_layout(file))}
    assert {layout.title for layout in KNOWN.values()} - found == {
        "Coveo"
    }  # the preset of 2020 is tested with its rules


def test_the_day_of_diginetica_does_not_order_the_clicks_but_the_time_frame_does(tmp_path, capsys):
    path = write_layout(tmp_path, "train-item-views.csv")  # its rows are shuffled
    prepared_sessions(tmp_path, str(path))
    assert "looks like Diginetica: order inside a session by timeframe (--preset none" in capsys.readouterr().out
    plain = tmp_path / "plain"
    plain.mkdir()
    flags = ["--preset", "none", "--order-column", "timeframe"]
    assert item_numbers(prepared_sessions(plain, str(path), *flags)) == SESSIONS


def test_rows_without_a_track_are_dropped_and_told(tmp_path, capsys):
    path = write_layout(tmp_path, "userid-timestamp-artid-artname-traid-traname.tsv")
    prepared_sessions(tmp_path, str(path))
    out = capsys.readouterr().out
    n_clicks = sum(map(len, SESSIONS))
    assert (
        f"rows: {n_clicks} read, 1 dropped, 0 blank\n  {path}: row {n_clicks + 1}: expected a value in column 'track'"
        in out
    )


def test_all_kinds_of_events_are_read_on_demand(tmp_path):
    path = write_layout(tmp_path, "UserBehavior.csv")
    assert "99" in chain.from_iterable(prepared_sessions(tmp_path, str(path), "--event-kinds", "all"))
