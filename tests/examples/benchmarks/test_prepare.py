"""The benchmark of `gru4rec prepare` runs, and pandas comes to the same files."""

import subprocess
import sys

import pytest

from tests.support.paths import ROOT

SCRIPT = ROOT / "examples" / "benchmarks" / "prepare.py"


def test_benchmark_runs_and_both_ways_write_the_same_rows(tmp_path):
    pytest.importorskip("pandas", reason="only the benchmark needs pandas")
    command = [sys.executable, str(SCRIPT), "--events", "20000", "--items", "300", "--folder", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip().endswith("; equal files")
    assert not list(tmp_path.iterdir())
