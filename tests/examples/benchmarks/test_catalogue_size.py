"""The benchmark of step time against the size of the catalogue runs, on logs that differ in nothing else."""

import importlib
import re
import subprocess
import sys

import numpy as np

from tests.support.paths import ROOT

SCRIPT = ROOT / "examples" / "benchmarks" / "catalogue_size.py"


def test_a_ratio_is_printed():
    small = ("--items", "100", "900", "--clicks", "6000", "--rounds", "2", "--seconds", "0.01", "--threads", "1")
    command = [sys.executable, SCRIPT, *small, "--config", "rsc15"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    times, ratios = ended.stdout.splitlines()
    assert re.fullmatch(r"rsc15 \(100 units, fp32\): 100 items [\d.]+ ms, 900 items [\d.]+ ms a step", times)
    ratio = r"[\d.]+ \([\d.]+–[\d.]+\)"
    assert re.fullmatch(rf"  {ratio} times as long, {ratio} in processor time; goal at most 1\.3", ratios)


def test_logs_differ_in_the_catalogue_alone(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    script = importlib.import_module("catalogue_size")
    small, large = (script.make_log(20_000, size) for size in (100, 1000))
    np.testing.assert_array_equal(small.sessions.offsets, large.sessions.offsets)
    shares = [np.sort(log.support)[-len(log.support) // 10 :].sum() / log.sessions.n_clicks for log in (small, large)]
    assert abs(shares[0] - shares[1]) < 0.03  # of the clicks, those on the most popular tenth of the items
    for name in ("catalogue_size", "packages_first"):
        sys.modules.pop(name, None)
