"""`gru4rec evaluate` as a user types it: baselines, another model, alarms and mistakes."""

import json
import shutil

import numpy as np
import pytest

from gru4rec.cli import main
from tests.commands.test_cli import failing
from tests.support.small_logs import frame_of, markov_sessions

RUN = ["--layers", "24", "--n-sample", "16", "--batch-size", "8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with training and test log and two models: one that has learnt, one that has not."""
    folder = tmp_path_factory.mktemp("evaluate")
    frame_of(markov_sessions(300, 30, seed=2)).write_csv(folder / "train.tsv", separator="\t")
    frame_of(markov_sessions(60, 30, seed=3)).write_csv(folder / "test.tsv", separator="\t")
    for name, flags in (("good", ["--n-epochs", "5"]), ("poor", ["--n-epochs", "1", "--learning-rate", "1e-5"])):
        command = ["train", "--train", str(folder / "train.tsv"), "--out", str(folder / name), *RUN, *flags]
        assert main(command) == 0
    return folder


def evaluated(folder, model: str, *flags: str) -> dict:
    output = folder / "figures.json"
    command = ["evaluate", str(folder / model), "--test", str(folder / "test.tsv"), "--cutoffs", "1,5"]
    assert main([*command, "--bootstrap", "200", "--json", str(output), *flags]) == 0
    return json.loads(output.read_text())


def test_baselines_are_ranked_beside_the_model_and_one_that_beats_it_is_named(folder, capsys):
    figures = evaluated(folder, "poor", "--baselines", str(folder / "train.tsv"))
    shown = capsys.readouterr().out
    assert "WARNING: markov beats the model at recall@5: " in shown
    names = ["popularity", "session-popularity", "markov", "sequential-rules", "item-knn", "v-sknn"]
    assert list(figures["baselines"]) == names
    assert all(name in shown for name in names)
    markov = figures["baselines"]["markov"]
    assert markov["recall@1"] > 0.7 > 0.3 > figures["baselines"]["popularity"]["recall@1"]  # four in five are followed
    assert markov["events"] == figures["events"] == 60 * 7
    mean, low, high = markov["difference"]["recall@5"]
    assert mean == pytest.approx(figures["recall@5"] - markov["recall@5"])
    assert low < mean < high < 0
    assert {"popularity@5", "popularity of clicked"} <= set(figures)
    assert sum(group["events"] for group in figures["by_support"]) == 60 * 7


def test_model_that_beats_them_all_is_said_to(folder, capsys):
    train = frame_of(markov_sessions(4, 30, seed=8))
    train.write_csv(folder / "little.tsv", separator="\t")
    evaluated(folder, "good", "--baselines", str(folder / "little.tsv"))
    shown = capsys.readouterr().out
    assert "no baseline beats the model at Recall@5 or MRR@5" in shown
    assert "WARNING" not in shown


def test_better_model_wins_the_paired_comparison_and_a_model_ties_with_itself(folder, capsys):
    figures = evaluated(folder, "good", "--versus", str(folder / "poor"))
    assert "the first" in capsys.readouterr().out
    mean, low, high = figures["versus"]["difference"]["mrr@5"]
    assert mean == pytest.approx(figures["mrr@5"] - figures["versus"]["mrr@5"])
    assert 0 < low < mean < high
    again = evaluated(folder, "good", "--versus", str(folder / "good"))
    assert set(map(tuple, again["versus"]["difference"].values())) == {(0.0, 0.0, 0.0)}
    assert "unclear" in capsys.readouterr().out


def test_exported_model_can_be_compared_with_the_one_it_was_made_from(folder):
    assert main(["export", str(folder / "good"), "--out", str(folder / "good.onnx")]) == 0
    figures = evaluated(folder, "good.onnx", "--versus", str(folder / "good"))
    assert set(map(tuple, figures["versus"]["difference"].values())) == {(0.0, 0.0, 0.0)}
    network = evaluated(folder, "good")
    for key in ("coverage@5", "by_position", "intervals", "ndcg@5", "map@5"):
        assert figures[key] == network[key]


def test_intervals_hold_the_figures_and_come_again_with_the_seed(folder):
    first, again, other = (evaluated(folder, "good", "--seed", seed) for seed in ("1", "1", "2"))
    assert first == again
    assert first["recall@5"] == other["recall@5"]
    assert first["intervals"] != other["intervals"]
    for name, (low, high) in first["intervals"].items():
        assert low <= first[name] <= high


def test_collapsed_scores_raise_an_alarm(folder, capsys):
    shutil.copytree(folder / "good", folder / "collapsed")
    for name in ("output_table.npy", "output_bias.npy"):
        (path,) = (folder / "collapsed").rglob(name)
        np.save(path, np.zeros_like(np.load(path)))
    figures = evaluated(folder, "collapsed")
    assert figures["recall@1"] == 1.0
    assert figures["tied"] == 1.0
    assert "WARNING: ties decide: 100.0% of the targets score exactly as other items do" in capsys.readouterr().out
    assert evaluated(folder, "collapsed", "--ties", "conservative")["recall@5"] == 0.0


def test_mistakes_are_one_line_and_write_nothing(folder, tmp_path, capsys):
    base = ("evaluate", folder / "good", "--test", folder / "test.tsv", "--json", tmp_path / "figures.json")
    assert "bootstrap: expected at least 1" in failing(capsys, *base, "--bootstrap", "0")
    assert "seed: expected at least 0" in failing(capsys, *base, "--seed", "-1")
    (tmp_path / "foreign.tsv").write_text("SessionId\tItemId\tTime\n1\tx\t1\n1\ty\t2\n")
    assert "expected the log that" in failing(capsys, *base, "--baselines", tmp_path / "foreign.tsv")
    command = ["train", "--train", str(tmp_path / "foreign.tsv"), "--out", str(tmp_path / "foreign"), *RUN]
    assert main([*command, "--n-epochs", "1"]) == 0
    assert "expected a model of the same items" in failing(capsys, *base, "--versus", tmp_path / "foreign")
    assert "expected an event file" in failing(capsys, *base, "--baselines", tmp_path / "absent.tsv")
    assert not (tmp_path / "figures.json").exists()
    nowhere = ("evaluate", folder / "good", "--test", folder / "test.tsv", "--json", tmp_path / "no" / "figures.json")
    assert main(list(map(str, nowhere))) == 2
    said = capsys.readouterr()
    assert "the folder" in said.err
    assert not said.out  # it is noticed before anything is ranked
    assert "threads: expected 1 to 4,096" in failing(capsys, *base, "--threads", "999999999999")
    assert "out of memory" in failing(capsys, *base, "--bootstrap", "999999999999999")


def test_what_else_is_to_be_compared_is_read_before_anything_is_ranked(folder, tmp_path, capsys, monkeypatch):
    (tmp_path / "foreign.tsv").write_text("SessionId\tItemId\tTime\n1\tx\t1\n1\ty\t2\n")
    shutil.copytree(folder / "good", tmp_path / "other")
    (tmp_path / "other" / "vocabulary.txt").write_text("\n".join(f"other-{number:02d}" for number in range(30)))
    metrics = tmp_path / "other" / "metrics.json"
    metrics.write_text(metrics.read_text().replace("vocabulary_sha256", "unknown_key"))
    shutil.copytree(folder / "good", tmp_path / "damaged")
    next((tmp_path / "damaged").rglob("output_table.npy")).write_bytes(b"")
    never = lambda *_, **__: pytest.fail("ranked")  # noqa: E731
    monkeypatch.setattr("gru4rec.evaluation.network_ranking.rank_with_network", never)
    for flag, name, message in (
        ("--baselines", "absent.tsv", "expected an event file"),
        ("--baselines", "foreign.tsv", "expected the log that"),
        ("--versus", "absent", "expected a model directory"),
        ("--versus", "other", "expected a model of the same items"),
        ("--versus", "damaged", "output_table.npy"),
    ):
        command = ("evaluate", folder / "good", "--test", folder / "test.tsv", flag, tmp_path / name)
        assert message in failing(capsys, *command)


def test_a_device_is_for_models_in_folders(folder, tmp_path, capsys):
    exported, test = tmp_path / "good.onnx", ("--test", folder / "test.tsv", "--bootstrap", "5")
    assert main(["export", str(folder / "good"), "--out", str(exported)]) == 0
    for models in ([exported], [folder / "good", "--versus", exported]):
        assert main(list(map(str, ["evaluate", *models, *test, "--device", "cpu"]))) == 0
    capsys.readouterr()
    assert "device: exported models" in failing(capsys, "evaluate", exported, *test, "--device", "cuda")
