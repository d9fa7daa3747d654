"""Every flag that a message names mends what the message is about."""

import polars as pl
import pytest

from gru4rec.cli import main

START, DAY = 1_700_000_000, 86_400
EASY = ("--min-item-support", "1", "--no-valid")


def log_of(folder, rows: list[tuple]) -> str:
    """A log with these sessions, items and times."""
    path = folder / "log.csv"
    path.write_text("SessionId,ItemId,Time\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows))
    return str(path)


def visits(n_sessions: int = 40) -> list[tuple]:
    """Sessions of three clicks, an hour apart."""
    return [
        (f"s{session}", f"i{(session + click) % 5}", START + 3600 * session + 10 * click)
        for session in range(n_sessions)
        for click in range(3)
    ]


def prepared(folder, capsys, rows: list[tuple], *flags: str) -> tuple[pl.DataFrame, str]:
    """All clicks of a prepared log, and what the audit of it says."""
    out = folder / f"out-{len(list(folder.iterdir()))}"
    assert main(["prepare", log_of(folder, rows), "--out", str(out), *EASY, *flags]) == 0
    error = capsys.readouterr().err
    assert main(["audit", str(out)]) == 0
    parts = [pl.read_parquet(out / f"{part}.parquet").cast({"SessionId": pl.String}) for part in ("train", "test")]
    return pl.concat(parts), capsys.readouterr().out + error


@pytest.mark.parametrize(
    ("rows", "finding", "flags"),
    [
        (
            [row for row in visits() for _ in range(2)],
            "are duplicates: same session, item and time; prepare --drop-duplicates",
            ["--drop-duplicates"],
        ),
        (
            visits() + [("robot", f"i{click % 5}", START + click) for click in range(1200)],
            "prepare --max-session-length drops long ones",
            ["--max-session-length", "100"],
        ),
        (
            [row for session, item, time in visits() for row in ((session, "home", time - 1), (session, item, time))],
            "prepare --max-item-share 0.2 drops it",
            ["--max-item-share", "0.2"],
        ),
    ],
)
def test_what_the_audit_finds_the_named_flag_mends(tmp_path, capsys, rows, finding, flags):
    keeps = ("--keep-repeats",)
    _, before = prepared(tmp_path, capsys, rows, *keeps)
    assert finding in before
    clicks, after = prepared(tmp_path, capsys, rows, *keeps, *flags)
    assert finding not in after
    assert clicks.height == len(visits())


def test_session_ids_that_return_are_told_and_cut(tmp_path, capsys):
    rows = [
        (f"s{session}", f"i{click}", START + 2 * day * DAY + 60 * session + click)
        for day in range(3)
        for session in range(9)
        for click in (1, 2)
    ]
    clicks, before = prepared(tmp_path, capsys, rows)
    assert "9 of 9 sessions have a pause of more than a day: are their ids used again" in before
    assert clicks["SessionId"].n_unique() == 9
    clicks, after = prepared(tmp_path, capsys, rows, "--session-gap", "3600")
    assert "pause of more than a day" not in after
    assert clicks["SessionId"].n_unique() == 27


def test_one_click_of_the_far_future_does_not_decide_the_split(tmp_path, capsys):
    rows = [*visits(), ("late", "i1", 4_670_000_000)]
    command = ["prepare", log_of(tmp_path, rows), "--out", str(tmp_path / "out"), *EASY, "--test-days", "1"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "row 121: expected seconds since 1970, between 1991 and today like most others, in column" in error
    assert "--drop-invalid" in error
    assert main([*command, "--drop-invalid"]) == 0
    out = capsys.readouterr().out
    assert "rows: 120 read, 1 dropped, 0 blank\n" in out
    assert "'4670000000'" in out


def test_only_clicks_between_two_times_are_kept(tmp_path, capsys):
    day = START // DAY * DAY + DAY  # 15 November 2023
    clicks, _ = prepared(tmp_path, capsys, visits(90), "--from", "2023-11-15", "--until", str(day + DAY))
    assert (clicks["Time"].min() >= day, clicks["Time"].max() < day + DAY) == (True, True)


def test_dropped_rows_are_counted_and_the_first_three_shown(tmp_path, capsys):
    rows = [*visits(), *[("", "i1", START)] * 2, ("s1", "", START), ("s1", "i1", "noon"), ("s1", "i2", START + 30)]
    out = tmp_path / "out"
    assert main(["prepare", log_of(tmp_path, rows), "--out", str(out), *EASY, "--drop-invalid"]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("rows: 121 read, 4 dropped, 0 blank")
    shown = lines[at + 1 : at + 4]
    assert all(line.startswith(f"  {tmp_path}/log.csv: row 12") for line in shown)
    assert lines[at + 4].startswith("read: 121 events")
