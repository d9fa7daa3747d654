"""The README's first command, as a person runs it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.ray


def quickstart(output: Path, *arguments: str) -> str:
    """Run the script with the environment that the tests run in, and give what it shows."""
    environment = os.environ | {"QUICKSTART_OUTPUT": os.path.relpath(output, ROOT)}
    command = ["bash", "examples/quickstart.sh", *arguments]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".venv" / "bin" / "gru4rec").exists(), reason="the project's .venv is not there")
def test_quickstart_ends_with_recommendations_and_takes_ones_own_log(tmp_path):
    shown = quickstart(tmp_path / "synthetic")
    assert shown.count("visit-") >= 5
    assert "item-" in shown
    assert (tmp_path / "synthetic" / "search" / "model.onnx").exists()

    log = pl.read_csv(tmp_path / "synthetic" / "clicks.tsv", separator="\t")[:4000]
    log = log.rename({"SessionId": "visit", "ItemId": "product", "Time": "at"})
    log.write_csv(tmp_path / "own.csv")
    quickstart(tmp_path / "own", str(tmp_path / "own.csv"), "visit", "product", "at")
    sessions = (tmp_path / "own" / "sessions.jsonl").read_text().splitlines()
    assert [json.loads(line)["session"] for line in sessions] == log["visit"].unique(maintain_order=True)[-5:].to_list()
    shutil.rmtree(tmp_path / "own")
