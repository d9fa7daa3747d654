"""The benchmark of recommending runs, each of its parts on a small model."""

import re
import subprocess
import sys

import numpy as np
import polars as pl

from tests.support.paths import ROOT

SCRIPT = ROOT / "examples" / "benchmarks" / "inference.py"


def shown(*arguments):
    ended = subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_latency_of_every_way_is_measured(tmp_path):
    small = ("--items", 300, "--widths", 4, "--batches", "1,3", "--requests", 8, "--folder", tmp_path)
    lines = shown("latency", *small, "--smallest-scan", 300).splitlines()
    for batch, ways in (("1", ["exact", "int8 scan", "torch", "floor"]), ("3", ["exact", "int8 scan", "torch"])):
        measured = [line for line in lines if re.match(rf" +300 +4 +{batch} ", line)]
        assert [next(way for way in ways if way in line) for line in measured] == ways
    assert not list(tmp_path.iterdir())


def test_a_stream_is_measured(tmp_path):
    lines = shown("stream", "--items", 300, "--widths", 4, "--clicks", 300, "--folder", tmp_path).splitlines()
    assert len([line for line in lines if line.endswith("clicks/s")]) == 2


def test_scoring_a_file_is_measured(tmp_path):
    generator = np.random.default_rng(0)
    log = pl.DataFrame(
        {
            "SessionId": np.repeat(np.arange(40), 3),
            "ItemId": generator.integers(0, 50, 120),
            "Time": np.arange(120),
        }
    )
    log.write_parquet(tmp_path / "test.parquet")
    out = shown("bulk", "--widths", 4, "--test", tmp_path / "test.parquet", "--turns", 1)
    assert "40 sessions, 120 clicks" in out
    assert "sessions/s" in out
