"""The check that a user runs on a GPU: it runs, processor against processor, and says so where there is no GPU."""

import subprocess
import sys

import pytest
import torch

from tests.support.paths import ROOT

SCRIPT = ROOT / "examples" / "benchmarks" / "gpu_check.py"


def check(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_ends_with_one_line():
    ended = check()
    assert ended.returncode == 2
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("error: expected a GPU that torch")
    assert not ended.stdout


def test_the_whole_check_runs_on_a_processor(tmp_path):
    (tmp_path / "small.toml").write_text('loss = "bpr-max"\nlayers = [8]\nbatch_size = 8\nn_sample = 16\n')
    small = ("--device", "cpu", "--events", 4000, "--items", 100, "--config", tmp_path / "small.toml")
    ended = check(*small, "--parity-steps", 3, "--rounds", 1, "--steps", 10, "--warm-up", 5)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == [
        "session-parallel, 3 steps in fp32, cpu against cpu",
        "whole-session, 3 steps in fp32, cpu against cpu",
    ]
    rows = [line.split() for line in lines[3:]]
    assert [row[:2] for row in rows] == [["cpu", "fp32"], ["cpu", "bf16"]]
    assert rows[0][3:] == ["1.00", "(1.00–1.00)"]


@pytest.fixture
def gpu_check(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu_check

    yield gpu_check
    for name in ("gpu_check", "training_turns", "official_code", "packages_first"):
        sys.modules.pop(name, None)


def test_training_that_differs_is_noticed(gpu_check):
    expected = torch.tensor([1.0, 0.0])
    assert gpu_check.relative_excess(torch.tensor([1.001, 1e-4]), expected, (1e-2, 1e-3)) < 1
    assert gpu_check.relative_excess(torch.tensor([1.1, 0.0]), expected, (1e-2, 1e-3)) > 1
    assert gpu_check.relative_excess(torch.tensor([1.0, 0.01]), expected, (1e-2, 1e-3)) > 1
    assert gpu_check.relative_excess(torch.tensor([1.0, torch.nan]), expected, (1e-2, 1e-3)) == torch.inf


def test_steps_on_a_gpu_are_timed_together_after_waiting_for_them(gpu_check, monkeypatch):
    waits = []
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    stopwatch = gpu_check.Stopwatch(warm_up=20, seconds=0.0, steps=1000, device="cuda")
    for number in range(1, 102):
        stopwatch.add(1, 8, counts=number != 70)
    assert len(waits) == 1 + 100 // 20
    assert (stopwatch.steps, stopwatch.events) == (60, 480)  # without the warm-up, and the turn with the short step
