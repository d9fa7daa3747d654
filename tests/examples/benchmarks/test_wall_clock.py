"""The benchmark of whole trainings: what an epoch took stands for all of them."""

import argparse
import importlib
import sys

import pytest

from tests.support.paths import ROOT
from tests.support.small_logs import frame_of, markov_sessions

FOLDER = ROOT / "examples" / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("wall_clock")
    for name in ("wall_clock", "official_code"):
        sys.modules.pop(name, None)


def test_the_whole_is_worked_out_from_one_epoch(benchmark):
    turns = [
        {"before": before, "epoch": epoch, "ranking": 3.0, "n_epochs": 10}
        for before, epoch in ((2.0, 20.0), (1.0, 10.0), (4.0, 30.0))
    ]
    result = benchmark.summarize(turns)
    assert (result["before"], result["epoch"], result["ranking"]) == (2.0, 20.0, 3.0)
    assert result["whole"] == 205.0
    assert result["range"] == [104.0, 307.0]


def test_a_turn_of_ours_trains_and_ranks(benchmark, tmp_path):
    log = frame_of(markov_sessions(n_sessions=60, n_items=12, seed=1))
    log.write_parquet(tmp_path / "log.parquet")
    (tmp_path / "recipe.toml").write_text('batching = "whole-session"\nlayers = [8]\nn_epochs = 7\n')
    log = tmp_path / "log.parquet"
    seconds = benchmark.time_ours(
        argparse.Namespace(turn=benchmark.RECIPE, recipe=tmp_path / "recipe.toml", train=log, test=log, epochs=1)
    )
    assert seconds["n_epochs"] == 7
    assert all(seconds[part] > 0 for part in benchmark.PARTS)
