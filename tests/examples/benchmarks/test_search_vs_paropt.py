"""The comparison with the authors' search: the same space and sessions for both, and who was first."""

import importlib
import sys

import polars as pl
import pytest

from inference.shared.errors import UserError
from tests.support.paths import ROOT
from tests.support.small_logs import frame_of, markov_sessions
from tune.space.builder import RANGES, build_space
from tune.space.dimensions import read_dimension

FOLDER = ROOT / "examples" / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("search_vs_paropt")
    for name in ("search_vs_paropt", "official_code"):
        sys.modules.pop(name, None)


def test_ours_has_won_when_an_epoch_is_as_good_as_their_best_trial(benchmark):
    point = benchmark.Point
    theirs = [point(30.0, 0.2), point(60.0, 0.3), point(90.0, 0.1)]
    ours = [point(5.0, 0.29), point(20.0, 0.31), point(15.0, 0.3), point(40.0, 0.4)]
    comparison = benchmark.compare(theirs, ours, 45.0)
    assert comparison.theirs == point(60.0, 0.3)
    assert comparison.ours == point(15.0, 0.3)
    assert comparison.share == 0.25
    assert comparison.our_best == 0.4
    assert "ours reached it after 15.0 s: 0.250 of the time" in benchmark.describe(comparison)


def test_a_quality_that_is_never_reached_has_no_time(benchmark):
    comparison = benchmark.compare([benchmark.Point(30.0, 0.2)], [benchmark.Point(5.0, 0.1)], 9.0)
    assert comparison.ours is None
    assert comparison.share == float("inf")
    assert "ours never reached it" in benchmark.describe(comparison)


def test_a_space_becomes_flags_with_the_same_values(benchmark):
    flags = benchmark.to_flags(
        [
            {"name": "batch_size", "dtype": "int", "values": [32, 256], "step": 16},
            {"name": "learning_rate", "dtype": "float", "values": [0.01, 0.25], "step": 0.005},
            {"name": "elu_param", "dtype": "categorical", "values": [0.5, 1, 0]},
            {"name": "bpreg", "dtype": "float", "values": [0.1, 2.0], "log": True},
        ]
    )
    given = {flag[2:].partition("=")[0].replace("-", "_"): flag.partition("=")[2] for flag in flags}
    for name in ("batch_size", "learning_rate"):
        assert read_dimension(name, given[name]) == RANGES["session-parallel"][name]
    space = build_space({**given, "loss": "bpr-max"}, n_epochs=1, seed=0)
    assert space.losses[0].options["elu_param"].values == (0.0, 0.5, 1.0)
    assert space.losses[0].options["bpreg"].distribution.log


def test_both_read_the_last_tenth_of_the_sessions_as_validation(benchmark, tmp_path):
    sessions = markov_sessions(100, 40, seed=3)
    frame_of(sessions).write_csv(tmp_path / "clicks.tsv", separator="\t")
    benchmark.write_logs(tmp_path / "clicks.tsv", tmp_path, n_sessions=50)
    train, valid = (pl.read_csv(tmp_path / f"{name}.tsv", separator="\t") for name in ("train", "valid"))
    assert train["ItemId"].to_list() == [f"item-{item:06d}" for session in sessions[45:90] for item in session]
    assert valid["ItemId"].to_list() == [f"item-{item:06d}" for session in sessions[95:] for item in session]
    assert train["SessionId"].n_unique() == 45


def test_a_folder_that_is_no_clone_is_named(benchmark, tmp_path):
    with pytest.raises(UserError, match="expected the official parameter space"):
        benchmark.read_space(tmp_path)
