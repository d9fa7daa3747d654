"""The study of the paper's figures runs, resumes where it stopped, and says yes only where the numbers do."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gru4rec.cli import main
from gru4rec.model.losses import get_loss
from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples"
SMALL = [
    "--losses",
    "bpr-max",
    "--samples",
    "0,16,all",
    "--rates",
    "0.1",
    "--alphas",
    "0,1",
    "--few",
    "8",
    "--many",
    "32",
]
SMALLER = ["--epochs", "1", "--fraction", "0.9", "--layers", "8", "--batch-size", "16", "--test-sessions", "50"]


@pytest.fixture
def modules(monkeypatch):
    """The modules next to the script, imported as it imports them."""
    monkeypatch.syspath_prepend(EXAMPLES)
    import paper_claims
    import paper_gradients

    yield paper_claims, paper_gradients
    for name in ("paper_claims", "paper_gradients"):
        del sys.modules[name]


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file, newline="") as text:
        return list(csv.DictReader(text))


@pytest.mark.slow
def test_a_small_study_makes_every_figure_and_goes_on_where_it_stopped(tmp_path):
    for name, seed in (("train", "1"), ("test", "2")):
        log = tmp_path / f"{name}.tsv"
        assert main(["synth", "--out", str(log), "--events", "2500", "--items", "100", "--seed", seed]) == 0
    out = tmp_path / "out"
    logs = ["--train", str(tmp_path / "train.tsv"), "--test", str(tmp_path / "test.tsv"), "--out", str(out)]
    command = [sys.executable, str(EXAMPLES / "paper_figures.py"), *logs, *SMALL, *SMALLER]
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr

    n_items = len({line.split("\t")[1] for line in (tmp_path / "train.tsv").read_text().splitlines()[1:]})
    samples = rows_of(out / "samples.csv")
    assert [row["n_sample"] for row in samples][:2] == ["0", "16"]
    assert 0.8 * n_items <= int(samples[2]["n_sample"]) <= n_items
    alphas = {(row["n_sample"], float(row["sample_alpha"])) for row in rows_of(out / "alpha.csv")}
    assert alphas == {(number, alpha) for number in ("8", "32") for alpha in (0.0, 1.0)}
    moments = [float(row["epochs"]) for row in rows_of(out / "gradients.csv") if row["n_sample"] == "8"]
    assert moments == sorted(moments)
    assert (len(moments), moments[0], moments[-1]) == (9, 0.0, 1.0)
    for name in ("a-samples", "b-time", "c-alpha", "d-gradients"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"({name}.png)" in (out / "figures.md").read_text()

    before = (out / "samples.csv").read_text(), (out / "gradients.csv").read_text()
    (out / "samples.csv").unlink()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "trial 1/" not in again.stderr
    assert ((out / "samples.csv").read_text(), (out / "gradients.csv").read_text()) == before


def test_curves_of_the_paper_agree_with_it_and_their_opposite_does_not(modules):
    claims, _ = modules
    paper = {
        "top1": {0: 0.10, 128: 0.12, 2048: 0.08},
        "cross-entropy": {0: 0.10, 2048: 0.17, 8192: 0.171},
        "top1-max": {0: 0.11, 128: 0.15, 2048: 0.18},
        "bpr-max": {0: 0.11, 128: 0.16, 2048: 0.19},
    }
    found = claims.check_quality(paper)
    assert len(found) == 6
    assert all(claim.agrees for claim in found)
    flat = {loss: dict.fromkeys(curve, 0.1) for loss, curve in paper.items()}
    assert not any(claim.agrees for claim in claims.check_quality(flat))
    upside_down = {loss: {x: 0.3 - y for x, y in curve.items()} for loss, curve in paper.items()}
    assert not any(claim.agrees for claim in claims.check_quality(upside_down))


def test_time_alpha_and_gradients_are_judged_by_their_numbers(modules):
    claims, _ = modules
    free, dear = {"top1": {0: 10, 512: 11, 8192: 40}}, {"top1": {0: 10, 512: 30, 8192: 400}}
    assert [claim.agrees for time in (free, dear) for claim in claims.check_time(time)] == [True, False]

    peak = {0.0: {0: 2, 0.5: 1, 1: 0}, 0.5: {0: 1, 0.5: 2, 1: 1}, 1.0: {0: 0, 0.5: 1, 1: 2}}
    by_number = {
        32: {"cross-entropy": peak[1.0], "bpr-max": peak[0.5]},
        2048: {"cross-entropy": peak[0.0], "bpr-max": peak[1.0]},
    }
    assert [claim.agrees for claim in claims.check_alpha(by_number)] == [True, False]

    on_target = {"top1": {32: 0.1, 2048: 0.001}, "top1-max": {32: 0.2, 2048: 0.21}, "bpr-max": {32: 0.2, 2048: 0.1}}
    carrying = {"top1": {2048: 0.5}, "top1-max": {2048: 0.1}, "bpr-max": {2048: 0.6}}
    found = claims.check_gradients(on_target, carrying)
    assert [claim.agrees for claim in found] == [True, True, False, True, False]


def test_curves_of_few_points_are_judged_as_far_as_they_go(modules):
    claims, _ = modules
    point = {loss: {2048: 0.0} for loss in ("top1", "cross-entropy", "bpr-max")}
    assert len(claims.check_quality(point)) == 4  # none on the last step of cross-entropy
    assert claims.check_time(point) == []
    diverged_with_many = {32: {"cross-entropy": {0: 1}, "bpr-max": {0: 1}}, 2048: {"cross-entropy": {0: 1}}}
    assert len(claims.check_alpha(diverged_with_many)) == 1
    assert len(claims.check_gradients({"top1": {32: 0.0, 2048: 0.1}}, {})) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--batch-size", "512"],
            "expected 512 clicks, a batch, or more in the last tenth of the training sessions, got",
        ),
        (["--out", "train.tsv"], "cannot write train.tsv/data: "),
    ],
)
def test_what_would_fail_after_hours_is_one_line_at_once(tmp_path, flags, message):
    assert main(["synth", "--out", str(tmp_path / "train.tsv"), "--events", "1500", "--items", "60"]) == 0
    given = ["--train", "train.tsv", "--test", "train.tsv", "--out", "out", "--fraction", "1", *flags]
    command = [sys.executable, str(EXAMPLES / "paper_figures.py"), *given]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_page_counts_what_holds(modules, tmp_path):
    claims, _ = modules
    parts = [("Quality", "a.png", [claims.Claim("rises", "1 to 2", True), claims.Claim("falls", "1 to 2", False)])]
    claims.write_page(tmp_path / "page.md", parts, "One run.")
    text = (tmp_path / "page.md").read_text()
    assert "Of 2 statements of the paper, 1 hold here." in text
    assert "| rises | 1 to 2 | yes |" in text
    assert "| falls | 1 to 2 | **no** |" in text


def test_gradients_of_cross_entropy_are_those_of_its_formula(modules):
    """Softmax less one at the target: here a half on the target, and all of that on the one other item near it."""
    _, gradients = modules
    scores = torch.tensor([[3.0, 3.0, -20.0], [3.0, 3.0, -20.0]])
    found = gradients.differentiate(get_loss("cross-entropy").function, {}, scores)
    expected = torch.tensor([[-0.5, 0.5, 0.0], [0.5, -0.5, 0.0]])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
