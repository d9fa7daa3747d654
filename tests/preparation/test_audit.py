"""Auditing logs: every fault is planted, found and named; a clean log has none."""

import numpy as np
import polars as pl
import pytest

from gru4rec.cli import main
from gru4rec.data.clicks import Clicks
from gru4rec.data.synthetic import synthesize
from gru4rec.data.times import Clock
from gru4rec.preparation.audit import Part, audit, order_information
from gru4rec.preparation.order_test import popularity_recall, shuffle, transition_recall

START = 1_700_000_000
SECONDS = Clock("s", pl.Int64(), recognised=True)


def clicks_of(sessions: list[list[int]], times: list[list[float]], first: int = 0) -> Clicks:
    """Clicks of sessions given as lists of items, at times given in seconds; sessions are numbered from `first`."""
    lengths = [len(session) for session in sessions]
    number = np.repeat(np.arange(first, first + len(sessions), dtype=np.int32), lengths)
    items = np.array([item for session in sessions for item in session], dtype=np.int32)
    return Clicks(number, items, np.array([START + time for session in times for time in session]))


def walks(n_sessions: int, begin: float, first: int, seed: int = 0) -> Clicks:
    """Sessions of five clicks a minute apart, each item followed by its successor among 50; one session a second."""
    starts = np.random.default_rng(seed).integers(0, 50, n_sessions)
    sessions = [[int(start + click) % 50 for click in range(5)] for start in starts]
    return clicks_of(
        sessions, [[begin + number + 60 * click for click in range(5)] for number in range(n_sessions)], first
    )


def findings_of(train: Clicks, test: Clicks | None = None, clock: Clock = SECONDS, backwards: int = 0) -> list[str]:
    tested = None if test is None else Part("test", test, 0)
    found = audit(Part("train", train, backwards), tested, clock, order_information(train, test))
    return [f"{finding.severity}: {finding.text}" for finding in found]


def with_session(clicks: Clicks, items: list[int], times: list[float]) -> Clicks:
    """The same log with one more session."""
    more = clicks_of([items], [times], int(clicks.session.max()) + 1)
    return Clicks(*(np.append(getattr(clicks, name), getattr(more, name)) for name in ("session", "item", "time")))


def one(findings: list[str], text: str) -> str:
    (found,) = (finding for finding in findings if text in finding)
    return found


def test_clean_log_has_nothing_worse_than_notes():
    findings = findings_of(walks(400, 0, 0), walks(300, 3600, 400, seed=1))
    assert all(finding.startswith("note: ") for finding in findings)
    assert one(findings, "order carries information").startswith("note: ")


def test_duplicates_are_counted_whatever_lies_between_them():
    log = with_session(walks(10, 0, 0), [1, 2, 1], [9000, 9000, 9000])
    assert "1 clicks (1.9%) are duplicates" in one(findings_of(log), "duplicates")


def test_robots_and_endless_sessions_are_named():
    robot = with_session(walks(100, 0, 0), [1, 2] * 15, [100 + 0.5 * click for click in range(30)])
    assert "1 sessions of 20 clicks or more click faster than once in 1 s" in one(findings_of(robot), "faster")
    patient = with_session(walks(100, 0, 0), [1, 2] * 15, [100 + 1.5 * click for click in range(30)])
    assert not any("faster" in finding for finding in findings_of(patient))
    endless = with_session(walks(100, 0, 0), [1, 2] * 500, [100 + 3 * click for click in range(1000)])
    assert "the longest has 1,000 clicks (66.7% of all clicks)" in one(findings_of(endless), "1,000 clicks or more")


def test_a_test_of_robots_is_invalid():
    robots = walks(10, 3600, 400)
    for _ in range(2):
        robots = with_session(robots, list(range(40)), [5000 + 0.1 * click for click in range(40)])
    found = one(findings_of(walks(400, 0, 0), robots), "robots or endless")
    assert found == "invalid: test: 62% of its clicks are from robots or endless sessions, which decide the figures"


def test_clock_jumps_and_lost_data_are_named():
    day = 86_400
    log = with_session(walks(100, 0, 0), [1, 2], [5 * day, 7 * day])
    findings = findings_of(log, backwards=3)
    assert "1 pauses within a session are longer than a day" in one(findings, "pauses within")
    assert "no clicks between 2023-11-14 22:18:59 and 2023-11-19 22:13:20" in one(findings, "no clicks between")
    assert "note: train: 3 rows are earlier than the row of their session before them" in one(findings, "3 rows")
    together = clicks_of([[1, 2, 3], [4, 5]], [[0, 0, 0], [1, 2]])
    assert "67% of consecutive clicks have the same time" in one(findings_of(together), "same time")


def test_plain_numbers_are_not_taken_for_seconds():
    log = walks(100, 0, 0)
    findings = findings_of(log, clock=Clock("order", pl.Int64()))
    assert "the times are plain numbers" in one(findings, "plain numbers")
    assert not any("pause" in finding and "within" in finding for finding in findings)


def test_training_on_the_tests_future_is_invalid_and_a_few_clicks_of_it_a_warning():
    train, test = walks(400, 0, 0), walks(300, 3600, 400)
    found = one(findings_of(with_session(train, [1, 2], [3599, 3600]), test), "after the first click")
    assert found.startswith("warning: 1 training clicks (0.0%) are from after the first click of the test")
    mixed = one(findings_of(train, walks(300, 0, 400)), "after the first click")
    assert mixed.startswith("invalid: 2,000 training clicks (100.0%)")
    assert mixed.endswith("this is no split by time")


def test_clicks_of_the_test_in_the_training_are_invalid_and_ids_used_again_a_warning():
    train, test = walks(400, 0, 0), walks(300, 3600, 400)
    leaked = Clicks(*(np.append(getattr(train, name), getattr(test, name)[:5]) for name in ("session", "item", "time")))
    findings = findings_of(leaked, test)
    assert one(findings, "are also in the training file").startswith("invalid: 5 clicks of the test (0.3%)")
    assert "1 of 300 test sessions have an id that is also in" in one(findings, "have an id")
    again = findings_of(train, walks(300, 3600, 0))
    assert not any("are also in the training file" in finding for finding in again)
    assert one(again, "have an id").startswith("warning: 300 of 300 test sessions")


def test_items_only_in_the_test_are_counted_and_nothing_to_rank_is_invalid():
    train = walks(400, 0, 0)
    test = with_session(walks(300, 3600, 400), [77, 78, 1, 77], [4000, 4001, 4002, 4003])
    found = one(findings_of(train, test), "not in training")
    assert found == "note: test: 2 items with 0.2% of its clicks are not in training and never recommended"
    foreign = clicks_of([[77, 78], [77, 1]], [[4000, 4001], [4000, 4001]], 400)
    findings = findings_of(train, foreign)
    assert one(findings, "not in training").startswith("invalid: test: 2 items with 75.0% of its clicks")
    assert one(findings, "nothing to evaluate").startswith("invalid: ")
    few = one(findings_of(train, walks(4, 3600, 400)), "clicks to rank")
    assert few == "warning: test: 16 clicks to rank; Recall is known to ± 25.0% at best"


def test_short_sessions_and_one_dominant_item_are_named():
    log = clicks_of([[number % 7] for number in range(8)] + [[9] * 12], [[60 * n] for n in range(8)] + [[*range(12)]])
    findings = findings_of(log)
    assert "89% of the sessions have a single click" in one(findings, "single click")
    assert "one item has 60% of all clicks" in one(findings, "one item")


def test_order_without_information_is_noticed():
    generator = np.random.default_rng(5)
    sessions = [generator.integers(0, 200, 6).tolist() for _ in range(600)]
    noise = clicks_of(sessions, [[60.0 * number + click for click in range(6)] for number in range(600)])
    assert one(findings_of(noise), "order carries no information").startswith("warning: ")


def test_logs_without_pairs_say_so():
    singles = clicks_of([[1], [2], [3]], [[0], [1], [2]])
    assert order_information(singles, None) is None
    assert "no session has two clicks" in one(findings_of(singles), "no session has two")


def test_logs_with_too_few_pairs_to_tell_order_say_so():
    singles, pair = clicks_of([[1], [2], [3]], [[0], [1], [2]]), clicks_of([[1, 2, 3, 4, 5]], [[0, 1, 2, 3, 4]])
    for train, test, where in (
        (pair, None, "both before the latest tenth of the sessions and in it"),
        (pair, singles, "both in train and in test"),
        (singles, pair, "both in train and in test"),
    ):
        findings = findings_of(train, test)
        assert one(findings, "cannot measure whether order carries").endswith(where)
        assert not any("no session has two clicks" in finding for finding in findings)


def test_transition_recall_counts_what_follows():
    train = clicks_of([[0, 1, 0, 2], [0, 1]], [[0, 1, 2, 3], [4, 5]])  # after 0: item 1 twice, item 2 once; after 1: 0
    test = clicks_of([[0, 1, 0, 2], [3, 0]], [[0, 1, 2, 3], [4, 5]])
    assert transition_recall(train, test, cutoff=1) == 2 / 4  # 0→1 and 1→0 of 0→1, 1→0, 0→2, 3→0
    assert transition_recall(train, test, cutoff=2) == 3 / 4
    assert popularity_recall(train, test, cutoff=1) == 2 / 4  # item 0 is the most popular: 1→0 and 3→0


def test_shuffling_keeps_every_session_and_its_items():
    log = walks(50, 0, 0)
    other = shuffle(log, np.random.default_rng(0))
    np.testing.assert_array_equal(other.session, log.session)
    assert (other.item != log.item).any()
    for session in range(50):
        assert sorted(other.item[other.session == session]) == sorted(log.item[log.session == session])


# The command.


@pytest.fixture
def log(tmp_path):
    synthesize(4000, 100, seed=2).write_csv(tmp_path / "log.tsv", separator="\t")
    return tmp_path / "log.tsv"


def test_report_shows_a_profile_and_ends_in_findings(log, capsys):
    assert main(["audit", str(log)]) == 0
    shown = capsys.readouterr().out
    assert "columns: session 'SessionId', item 'ItemId', time 'Time'" in shown
    assert "times: seconds since 1970 (recognised)" in shown
    frame = pl.read_csv(log, separator="\t")
    for figure in (frame.height, frame["SessionId"].n_unique(), frame["ItemId"].n_unique()):
        assert f" {figure:,} │" in shown
    assert "note: order carries information: " in shown
    assert shown.splitlines()[-1] == "nothing makes an evaluation invalid"


def test_strict_ends_with_4_only_where_an_evaluation_would_be_invalid(log, tmp_path, capsys):
    assert main(["prepare", str(log), "--out", str(tmp_path / "out"), "--split-by", "cut"]) == 0
    assert main(["audit", str(tmp_path / "out"), "--strict"]) == 0
    random_split = pl.read_csv(log, separator="\t").with_columns(
        late=pl.col("SessionId").str.extract(r"(\d+)").cast(pl.Int64) % 5 == 0
    )
    for name, late in (("train", False), ("test", True)):
        random_split.filter(pl.col("late") == late).drop("late").write_csv(tmp_path / f"{name}.csv")
    command = ["audit", str(tmp_path / "train.csv"), "--test", str(tmp_path / "test.csv")]
    assert main(command) == 0
    assert main([*command, "--strict"]) == 4
    shown = capsys.readouterr().out
    assert "this is no split by time" in shown
    assert shown.splitlines()[-1] == "1 findings make an evaluation invalid"


def test_bad_log_is_one_line(log, tmp_path, capsys):
    (tmp_path / "header.tsv").write_text("SessionId\tItemId\tTime\n")
    for arguments, message in [
        ([str(tmp_path / "absent.tsv")], "expected an event file, found none at"),
        ([str(tmp_path)], "expected an event file, found none at"),
        ([str(log), "--item-column", "Thing"], "expected one item column 'Thing', found only"),
        ([str(log), "--test", str(tmp_path / "header.tsv")], "expected events in both files, got none in"),
    ]:
        assert main(["audit", *arguments]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert message in lines[0]
