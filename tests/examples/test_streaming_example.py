"""The streaming example runs, and shows what scoring whole sessions gives."""

import subprocess
import sys

import pytest

from examples import streaming
from inference import Recommender
from tests.support.paths import ROOT
from tests.support.tiny_models import random_weights, save_model

SCRIPT = ROOT / "examples" / "streaming.py"
ITEMS = [f"i{number:02}" for number in range(30)]
CLICKS = [("anna", "i03", 5), ("ben", "i07", 1), ("anna", "i11", 9), ("ben", "i02", 7), ("anna", "i20", 20)]


def test_the_example_shows_what_whole_sessions_are_recommended(tmp_path):
    model = save_model(tmp_path / "model.onnx", random_weights(30), ITEMS)
    log = tmp_path / "clicks.tsv"
    log.write_text("SessionId\tItemId\tTime\n" + "".join(f"{who}\t{item}\t{at}\n" for who, item, at in CLICKS))
    ended = subprocess.run([sys.executable, SCRIPT, model, log], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    *lines, summary = ended.stdout.splitlines()
    recommender = Recommender.load(model)
    hits = 0
    sessions: dict[str, list[str]] = {}
    for line, (who, item, _) in zip(lines, sorted(CLICKS, key=lambda click: click[2]), strict=True):
        if who in sessions:
            hits += item in recommender.recommend([sessions[who]], k=10, exclude_seen=True)[0].items
        sessions.setdefault(who, []).append(item)
        (whole,) = recommender.recommend([sessions[who]], k=5, exclude_seen=True)
        assert line == f"{who} clicked {item}; next: {', '.join(whole.items)}"
    assert summary == f"2 visitors; {hits} of 3 clicks were on one of the ten items shown before them"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "has no header"),
        ("SessionId,sku,Time\nanna,i03,5\n", "no column 'ItemId'; its columns are 'SessionId', 'sku', 'Time'"),
        ("SessionId,ItemId,Time\nanna,i03,soon\n", "line 2: expected a time in column 'Time'"),
    ],
)
def test_a_log_that_is_none_is_one_line(tmp_path, capsys, content, told):
    model, log = save_model(tmp_path / "model.onnx", random_weights(30), ITEMS), tmp_path / "clicks.csv"
    log.write_text(content)
    assert streaming.main([str(model), str(log)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert (error.count("\n"), told in error) == (1, True)
