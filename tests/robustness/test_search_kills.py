"""A search killed at random moments, again and again in one folder: nothing is half-written, lost or run twice."""

import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path

import polars as pl
import pytest

from gru4rec.config.files import read_config
from gru4rec.data.synthetic import synthesize
from gru4rec.training.checkpoint import load_model
from inference.model.artifact import Artifact
from tests.support.forking import Forked
from tune.trials.trial import serialize_model

pytestmark = pytest.mark.ray

KILLED = -signal.SIGKILL
MOMENTS = (
    ("clicks,", 3.0),  # Ray starts
    ("trials of up to", 6.0),  # the first trials
    ("trial ", 1.0),  # trials end and others begin
    ("training the best model", 0.3),
    ("epoch 1/", 0.6),  # export and report
)
"""What a search has said when the clock begins, and the seconds after which it is killed at the latest."""
N_TRIALS = 4
SMALL = ("--epochs=2", "--layers=8", "--n-sample=16", "--batch-size=16", "--no-seeds", "--threads=1")


def check_whole(out):
    """Whatever is there can be read."""
    readers = {
        "search.json": lambda path: json.loads(path.read_text()),
        "results.csv": pl.read_csv,
        "results.parquet": pl.read_parquet,
        "best.toml": read_config,
        "model": load_model,
        "model.onnx": lambda path: Artifact(path).verify(),
    }
    for name, read in readers.items():
        if (out / name).exists():
            read(out / name)
    if (out / "report.html").exists():
        assert (out / "report.html").read_text().endswith("</html>\n")


def reports_in(out):
    """What the notes of trials that are over say, by model."""
    notes = [json.loads(path.read_text()) for path in out.glob("trials/*/finished/*.json")]
    return {serialize_model(note["model"]): note["report"] for note in notes}


def processes_with(mark):
    """Of the Ray of a search: they inherit its environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found += [int(process.name)] if mark in (process / "environ").read_bytes() else []
        except OSError:
            continue
    return found


def end_processes_with(mark):
    """Ray's processes end with the one that started them, but not at once; its agents take minutes to notice it."""
    began = time.monotonic()
    while processes_with(mark) and time.monotonic() - began < 1:
        time.sleep(0.1)
    for process in processes_with(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="what processes are left cannot be seen here")
@pytest.mark.parametrize("seed", [1])
def test_a_search_killed_at_any_time_leaves_the_old_or_the_new_and_runs_nothing_twice(seed, tmp_path):
    generator = random.Random(seed)
    synthesize(1500, 60, seed=1).write_parquet(tmp_path / "log.parquet")
    out = tmp_path / "out"
    command = ("--train", tmp_path / "log.parquet", "--out", out, "--trials", N_TRIALS, "--scheduler=none", *SMALL)
    reports = {}
    with Forked() as process:
        for number, (said, longest) in enumerate(MOMENTS):
            mark = f"gru4rec-killed-{os.getpid()}-{number}"
            moment = {"said": said, "kill_after": generator.uniform(0, longest), "environment": {"KILLED": mark}}
            answer = process.run("tune.search", *command, **moment)
            assert answer["code"] in (KILLED, 0), (moment, answer["said"])
            end_processes_with(mark.encode())
            check_whole(out)
            assert {model: reports_in(out).get(model) for model in reports} == reports, moment
            reports = reports_in(out)
        answer = process.run("tune.search", *command)
    assert answer["code"] == 0, answer["said"]
    check_whole(out)
    assert {model: reports_in(out).get(model) for model in reports} == reports
    rows = pl.read_parquet(out / "results.parquet")
    assert sorted(rows["trial"]) == [1, 2, 3, 4]
    assert set(rows["status"]) == {"finished"}
    assert set(rows["seconds"]) == {report["seconds"] for report in reports_in(out).values()}  # each was trained once
    assert len(reports_in(out)) == N_TRIALS
    assert not [path for path in out.iterdir() if path.name.endswith((".partial", ".marker"))]
