"""The search as a user types it: from a log to model.onnx, and what is said about mistakes before anything starts."""

import csv
import json
import shutil
import subprocess
import sys
import tomllib

import polars as pl
import pytest
from filelock import FileLock

from gru4rec import cli
from gru4rec.config.files import read_config
from gru4rec.config.train_config import from_mapping
from gru4rec.data.events import encode, read_events
from gru4rec.evaluation.evaluator import evaluate
from gru4rec.training.checkpoint import load_model
from gru4rec.training.trainer import Diverged
from inference.model.recommender import Recommender
from inference.shared.errors import UserError
from tests.support.paths import ROOT
from tests.support.small_logs import frame_of, markov_sessions
from tune.outcome.folder import lock_folder
from tune.search import main

pytestmark = pytest.mark.ray

SMALL = [
    *("--layers", "16", "--batch-size", "16", "--n-sample", "0,16", "--loss", "cross-entropy,bpr-max"),
    *("--learning-rate", "0.05..0.2", "--epochs", "2", "--threads", "1"),
]


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """A folder with a training, a validation and a test log."""
    folder = tmp_path_factory.mktemp("logs")
    sessions = markov_sessions(300, 60, seed=4)
    for name, part in (("train", sessions[:220]), ("valid", sessions[220:260]), ("test", sessions[260:])):
        frame_of(part).write_csv(folder / f"{name}.tsv", separator="\t")
    return folder


@pytest.fixture(scope="module")
def searched(logs, tmp_path_factory, ray_here):
    """The folder of a finished search that validated and tested on logs of their own."""
    out = tmp_path_factory.mktemp("search") / "deep" / "out"
    given = [f"--{name}={logs / name}.tsv" for name in ("train", "valid", "test")]
    assert main([*given, "--out", str(out), "--trials", "4", *SMALL]) == 0
    return out


def rows_of(out):
    return pl.read_parquet(out / "results.parquet").sort("mrr@20", descending=True)


def test_the_package_gives_its_settings_without_importing_ray():
    program = "import sys, tune; tune.SearchSettings; assert not {'ray', 'optuna', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_a_search_leaves_all_its_files(searched):
    names = {path.name for path in searched.iterdir() if not path.name.startswith(".")}
    assert names == {
        *("best.toml", "model", "model.onnx", "results.csv", "results.parquet"),
        *("report.html", "plots", "search.json", "trials"),
    }
    assert not list(searched.glob(".*partial"))


def test_every_trial_is_a_row_with_its_configuration_and_metrics(searched):
    rows = rows_of(searched)
    assert sorted(rows["trial"]) == [1, 2, 3, 4]
    assert set(rows["status"]) <= {"finished", "stopped"}
    assert set(rows["loss"]) <= {"cross-entropy", "bpr-max"}
    for row in rows.iter_rows(named=True):
        assert (row["bpreg"] is None) == (row["logq"] is not None) == (row["loss"] == "cross-entropy")
        assert (row["sample_alpha"] is None) == (row["n_sample"] == 0)
        assert row["seed"] == 42
        assert row["seconds"] > 0
        assert row["events_per_second"] > 0
        assert row["peak_memory_mib"] > 10
        assert row["error"] == ""
        assert 0 < row["mrr@20"] <= row["recall@20"] <= 1
    assert len(set(rows["data_sha256"])) == 1
    with open(searched / "results.csv", newline="") as file:
        assert [int(row["trial"]) for row in csv.DictReader(file)] == [1, 2, 3, 4]


def test_the_best_configuration_is_that_of_the_best_row_and_can_be_trained(searched, logs, tmp_path):
    best = rows_of(searched).row(0, named=True)
    config = from_mapping(read_config(searched / "best.toml"))
    assert config.loss == best["loss"]
    assert config.learning_rate == best["learning_rate"]
    assert config.n_epochs == best["best_epoch"]
    command = ["train", "--train", str(logs / "train.tsv"), "--config", str(searched / "best.toml")]
    assert cli.main([*command, "--out", str(tmp_path / "model"), "--threads", "1"]) == 0


def test_the_winner_is_trained_again_on_training_and_validation_sessions(searched, logs):
    model = load_model(searched / "model")
    both = [read_events(logs / f"{name}.tsv") for name in ("train", "valid")]
    assert model.metrics["n_sessions"] == 220 + 40
    assert model.vocabulary.terms() == sorted(set(both[0]["item"]) | set(both[1]["item"]))
    assert model.metrics["best_epoch"] == rows_of(searched).row(0, named=True)["best_epoch"]


def test_the_exported_model_is_the_trained_one_and_knows_its_figures(searched, logs):
    model = load_model(searched / "model")
    recommender = Recommender.load(searched / "model.onnx")
    test = evaluate(model.network, encode(read_events(logs / "test.tsv"), model.vocabulary).sessions)
    assert recommender.vocabulary == model.vocabulary
    metrics = recommender.artifact.metrics
    assert metrics["test"]["mrr@20"] == test.mrr[20]
    assert metrics["validation"]["mrr@20"] == rows_of(searched)["mrr@20"][0]
    session = [model.vocabulary.term(3), model.vocabulary.term(5)]
    assert recommender.recommend([session], k=5)[0].n_known == 2


def test_another_test_log_is_evaluated_again(searched, logs, capsys):
    frame_of(markov_sessions(60, 60, seed=4)).write_csv(logs / "other.tsv", separator="\t")
    before = json.loads((searched / "search.json").read_text())["outcome"]["test"]
    try:
        command = [f"--train={logs / 'train.tsv'}", f"--valid={logs / 'valid.tsv'}", f"--out={searched}", "--trials=4"]
        assert main([*command, f"--test={logs / 'other.tsv'}", *SMALL]) == 0
        after = json.loads((searched / "search.json").read_text())["outcome"]["test"]
        model = load_model(searched / "model")
        other = encode(read_events(logs / "other.tsv"), model.vocabulary).sessions
        assert after["mrr@20"] == evaluate(model.network, other).mrr[20] != before["mrr@20"]
        assert f"{after['mrr@20']:.4f}" in capsys.readouterr().out
    finally:
        assert main([*command, f"--test={logs / 'test.tsv'}", *SMALL]) == 0


def test_a_refit_that_diverges_leaves_a_report_and_says_what_to_do(logs, tmp_path, capsys, monkeypatch, ray_here):
    def diverging(*_):
        raise Diverged(1, 3)

    monkeypatch.setattr("tune.outcome.winner.refit", diverging)
    out = tmp_path / "out"
    fixed = ["--loss=top1", "--learning-rate=0.1", "--momentum=0", "--layers=8", "--batch-size=16", "--n-sample=0"]
    fixed += ["--dropout-p-embed=0", "--dropout-p-hidden=0", "--epochs=1"]
    command = [f"--train={logs / 'train.tsv'}", f"--out={out}", "--trials=1", "--threads=1", *fixed]
    assert main(command) == 2
    assert "diverged (training diverged: the loss is not finite in epoch 1, step 3; " in capsys.readouterr().err
    assert (out / "report.html").exists()
    assert (out / "results.csv").exists()
    assert main([*command, "--no-refit"]) == 0
    assert load_model(out / "model").metrics["n_sessions"] == 198


def test_the_end_says_what_was_found_and_what_to_do_next(logs, tmp_path, capsys, ray_here):
    out = tmp_path / "out"
    fixed = ["--loss", "top1", "--learning-rate", "0.1", "--dropout-p-embed", "0", "--dropout-p-hidden", "0"]
    fixed += ["--momentum", "0", "--layers", "8", "--batch-size", "16", "--n-sample", "0", "--epochs", "1"]
    command = ["--train", str(logs / "train.tsv"), "--out", str(out), "--no-refit", "--threads", "1", *fixed]
    assert main([*command, "--trials", "3"]) == 0
    said = capsys.readouterr()
    assert "best of 1 trials" in said.out
    assert "the search space holds no more models: 2 of 3 trials were not run\n" in said.err
    assert f"next: gru4rec-infer --model {out / 'model.onnx'}" in said.out
    assert "trial 1/3 finished" in said.err
    assert "% of it neither training nor validation" in said.out
    assert json.loads((out / "search.json").read_text())["effort"]["worked"] > 0
    assert "\x1b" not in said.out + said.err  # no terminal, no control characters

    model = load_model(out / "model")  # as it was: the last tenth of the sessions was held out
    assert model.metrics["n_sessions"] == 198
    assert model.metrics["history"][0]["mrr@20"] == rows_of(out)["mrr@20"][0]
    assert tomllib.loads((out / "best.toml").read_text())["n_epochs"] == 1

    for _ in range(2):
        assert main([*command, "--trials", "4"]) == 0
        assert "best of 1 trials" in capsys.readouterr().out


def refused(capsys, *arguments):
    """Run a command that must be refused with exit code 2 and one line; gives that line."""
    assert main(list(arguments)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--loss", "brp-max"], "unknown loss 'brp-max'; available: "),
        (["--sampler", "none"], "unknown sampler 'none'"),
        (["--trials", "0"], "trials: expected at least 1, got 0"),
        (["--epochs", "0"], "epochs: expected at least 1, got 0"),
        (["--repeats", "0"], "repeats: expected at least 1, got 0"),
        (["--repeats", "2"], "repeats: expected --finalists or --grid with it"),
        (["--finalists=-1"], "finalists: expected at least 0, got -1"),
        (["--threads", "0"], "threads: expected 1 to 4,096, got 0"),
        (["--threads", "5000"], "threads: expected 1 to 4,096, got 5000"),
        (["--cpus-per-trial", "0"], "cpus-per-trial: expected at least 1, got 0"),
        (["--layers", "zero"], "layers"),
        (["--sample-alpha", "-1"], "sample_alpha"),
        (["--gpus-per-trial", "some"], "gpus-per-trial: expected auto, 0, a share such as 0.25, or a whole number"),
        (["--gpus-per-trial", "-1"], "gpus-per-trial: expected auto"),
        (["--gpus-per-trial", "1"], "this machine has none; give --gpus-per-trial 0 to train on the CPU"),
        (["--plugin", "no.such.module"], "plugins: cannot import 'no.such.module'"),
        (["--valid", "no-such-file.tsv"], "expected an event file, found none at no-such-file.tsv"),
        (["--test", "no-such-file.tsv"], "expected an event file, found none at no-such-file.tsv"),
        (["--item-column", "Item"], "expected one item column 'Item'"),
        (["--unknown-flag", "1"], "--unknown-flag"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(logs, tmp_path, capsys, arguments, message, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    out = tmp_path / "out"
    assert message in refused(capsys, "--train", str(logs / "train.tsv"), "--out", str(out), *arguments)
    assert not out.exists()


def test_a_log_without_pairs_is_refused(tmp_path, capsys):
    log = tmp_path / "clicks.tsv"
    frame_of([[1], [2], [3]]).write_csv(log, separator="\t")
    message = refused(capsys, "--train", str(log), "--out", str(tmp_path / "out"))
    assert "expected sessions of at least two known items to train on, got none" in message


def test_a_test_of_other_items_is_refused_before_anything_is_trained(logs, tmp_path, capsys):
    log = tmp_path / "test.tsv"
    log.write_text("SessionId\tItemId\tTime\n1\tunknown\t1\n1\tunheard-of\t2\n")
    message = refused(
        capsys, "--train", str(logs / "train.tsv"), "--test", str(log), "--out", str(tmp_path / "out"), *SMALL
    )
    assert "test.tsv: expected sessions of at least two known items to test on, got none" in message


def test_a_folder_that_another_search_uses_is_refused(logs, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"):
        message = refused(capsys, "--train", str(logs / "train.tsv"), "--out", str(tmp_path / "out"))
    assert "is in use by another search" in message


def test_a_new_folder_that_is_gone_when_the_input_is_refused_changes_nothing_of_the_refusal(tmp_path):
    def refusing():
        with lock_folder(tmp_path / "new"):
            shutil.rmtree(tmp_path / "new")
            raise UserError("refused")

    with pytest.raises(UserError, match="refused"):
        refusing()


def test_a_file_in_the_place_of_the_folder_is_refused(logs, tmp_path, capsys):
    (tmp_path / "out").write_text("")
    message = refused(capsys, "--train", str(logs / "train.tsv"), "--out", str(tmp_path / "out"))
    assert "expected a folder to write to, found a file" in message


def test_more_processors_than_there_are_is_refused(logs, tmp_path, capsys, ray_here):
    command = ["--train", str(logs / "train.tsv"), "--out", str(tmp_path / "out"), "--cpus-per-trial", "3"]
    assert main(command) == 2
    assert "cpus-per-trial: this machine has 1 to 2 for a trial, got 3" in capsys.readouterr().err


def test_metadata_of_the_model_is_json(searched):
    assert json.dumps(Recommender.load(searched / "model.onnx").artifact.config)
