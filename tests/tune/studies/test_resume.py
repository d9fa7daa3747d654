"""The same command resumes a search: after a kill, after Ctrl-C, when its time is up, and with more trials."""

import importlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from ray.tune import ExperimentAnalysis

from inference.shared.errors import UserError
from tests.support.paths import ROOT
from tests.support.small_logs import frame_of, markov_sessions
from tests.tune.trials.test_trial import ONE_CPU, data_of, study_of
from tune.search import main
from tune.settings import parse_duration
from tune.space.search_space import MODEL
from tune.studies.live_view import SearchView
from tune.studies.study import run_study
from tune.trials.recovery import (
    MANIFEST,
    STATE,
    FinishedTrials,
    is_resumable,
    newest_state,
    read_finished,
    read_last_reports,
    storage_errors,
    write_manifest,
)
from tune.trials.results import read_trials
from tune.trials.trial import NUMBER, serialize_model

pytestmark = pytest.mark.ray

SMALL = {
    "--loss": "bpr-max,top1",
    "--layers": "16,24",
    "--batch-size": "8,16",
    "--n-sample": "16",
    "--sampler": "popularity",
    "--learning-rate": "0.1",
    "--dropout-p-embed": "0",
    "--dropout-p-hidden": "0",
    "--threads": "1",
    "--trials": "4",
    "--epochs": "1",
}


def log_file(folder, n_sessions):
    path = folder / f"clicks-{n_sessions}.tsv"
    frame_of(markov_sessions(n_sessions, 60, seed=6)).write_csv(path, separator="\t")
    return path


def command_of(log, out, *flags, **changes):
    """The arguments of a small search, some of them changed or added."""
    given = SMALL | {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
    return [f"--train={log}", f"--out={out}", *flags, *(f"{name}={value}" for name, value in given.items())]


def started(command, until):
    """A search in a process of its own, once `until()` holds."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tune.search", *command], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    began = time.monotonic()
    while not until():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() - began < 120
        time.sleep(0.05)
    return process


def over_in(out):
    return read_finished(out / "trials" / "round-1")


@pytest.mark.slow
def test_a_search_that_was_interrupted_and_then_killed_goes_on_and_runs_nothing_twice(tmp_path, ray_here):
    out = tmp_path / "out"
    command = command_of(log_file(tmp_path, 500), out, "--no-seeds", trials=6, epochs=3)

    process = started(command, lambda: len(over_in(out)) >= 1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command resumes it" in said
    assert "Traceback" not in said
    assert pl.read_csv(out / "results.csv")["status"].is_in(["unfinished", "finished", "stopped"]).all()

    before_kill = over_in(out)
    process = started(command, lambda: len(over_in(out)) >= len(before_kill) + 1)
    process.kill()
    process.communicate(timeout=60)
    over = over_in(out)
    assert 2 <= len(over) < 6

    assert main(command) == 0
    rows = pl.read_parquet(out / "results.parquet")
    assert sorted(rows["trial"]) == [1, 2, 3, 4, 5, 6]
    assert rows["status"].is_in(["finished", "stopped"]).all()
    assert len(rows.select("loss", "layers", "batch_size", "momentum", "sample_alpha", "bpreg").unique()) == 6
    final = {row["trial_id"]: row for row in rows.iter_rows(named=True)}
    for note in over:
        row, report = final[note["trial_id"]], note["report"]
        assert row["mrr@20"] == report["mrr@20"]
        assert row["epochs"] == report["epoch"]
        assert row["seconds"] == report["seconds"]  # training again would have taken another time


def test_a_trial_that_was_over_when_the_search_was_killed_only_reports_again(tmp_path, ray_here, plugged_in):
    folder, data = tmp_path / "experiment", data_of(60)
    assert run_study(study_of(n_epochs=2), data, ONE_CPU, folder) == "complete"
    (before,) = read_trials(folder)
    (state,) = folder.glob("experiment_state-*.json")
    state.write_text(state.read_text().replace('\\"status\\": \\"TERMINATED\\"', '\\"status\\": \\"RUNNING\\"'))
    write_manifest(folder, state.stem.removeprefix("experiment_state-"))
    assert read_trials(folder)[0].status == "unfinished"

    assert run_study(study_of(n_epochs=2), data, ONE_CPU, folder) == "complete"
    (after,) = read_trials(folder)
    assert after.status == "finished"
    assert after.history == before.history
    assert after.seconds == before.seconds


def test_where_a_full_disk_cut_off_what_ray_wrote_what_is_over_only_reports_again(tmp_path, ray_here, plugged_in):
    def ran():
        assert run_study(study_of(n_epochs=1), data_of(60), ONE_CPU, folder) == "complete"
        return read_trials(folder)[0]

    def cut_off_newest(pattern):
        newest = max(folder.glob(pattern))
        newest.write_bytes(newest.read_bytes()[:-9])

    folder = tmp_path / "experiment"
    first = ran()
    cut_off_newest("experiment_state-*.json")
    assert newest_state(folder) is None
    anew = ran()
    assert anew.trial_id != first.trial_id
    assert (anew.history, anew.seconds) == (first.history, first.seconds)  # by the note of it

    assert ran().trial_id == anew.trial_id
    assert len(list(folder.glob("experiment_state-*.json"))) == 2
    cut_off_newest("callback-states-*.pkl")
    assert read_trials(folder)[0].trial_id == anew.trial_id
    with (
        pytest.raises(UserError, match=r"cannot save the trials in .*: Ray's last state .* is incomplete; the same"),
        storage_errors(folder),
    ):
        pass
    newest = ran()
    assert newest.trial_id != anew.trial_id
    assert (newest.history, newest.seconds) == (first.history, first.seconds)
    (folder / "tuner.pkl").write_bytes(b"")  # which Ray copies as often
    assert ran().trial_id == newest.trial_id


def test_files_of_two_moments_are_not_gone_on_from_and_every_trial_that_is_over_stays(tmp_path, ray_here, plugged_in):
    """As a kill leaves them between the copies of two files."""
    folder, data = tmp_path / "experiment", data_of(60)

    def ran():
        assert run_study(study_of(n_trials=2, n_epochs=1, layers="8,16"), data, ONE_CPU, folder) == "complete"
        return [(trial.config, trial.seconds) for trial in read_trials(folder)]

    first = ran()
    assert is_resumable(folder)
    (state,) = folder.glob("experiment_state-*.json")
    content = json.loads(state.read_text())
    state.write_text(json.dumps({**content, "trial_data": content["trial_data"][:1]}))  # without the second trial
    assert not is_resumable(folder)
    assert ran() == first
    (searcher,) = folder.glob("searcher-state-*.pkl")
    searcher.write_bytes(b"\x80\x04}.")  # whole, but another
    assert not is_resumable(folder)
    assert ran() == first
    next(folder.glob("searcher-state-*.pkl")).unlink()
    assert not is_resumable(folder)
    assert ran() == first


def test_a_state_of_another_layout_is_read_but_not_resumed(tmp_path):
    (tmp_path / f"{STATE}1.json").write_text(json.dumps({"trial_data": ["one"]}))
    (tmp_path / "searcher-state-1.pkl").write_bytes(b".")
    write_manifest(tmp_path, "1")
    assert is_resumable(tmp_path)
    manifest = tmp_path / f"{MANIFEST}1.json"
    manifest.write_text(json.dumps({"sha256": json.loads(manifest.read_text())["sha256"]}))
    assert newest_state(tmp_path) == f"{tmp_path}/{STATE}1.json"
    assert not is_resumable(tmp_path)


def test_the_function_that_trials_of_earlier_searches_name_is_found():
    assert importlib.import_module("tune.study")._trial_folder.__name__ == "trial_folder"  # how Ray reads their state


def test_a_note_that_is_written_again_is_the_old_or_the_new(tmp_path):
    config = {NUMBER: 1, MODEL: {"layers": [8]}}
    trial = SimpleNamespace(trial_id="a", config=config, last_result={"mrr@20": 0.5})
    FinishedTrials(tmp_path).on_trial_complete(0, [trial], trial)
    trial.last_result = {"mrr@20": object()}
    with pytest.raises(TypeError, match="not JSON serializable"):  # it ends in the middle
        FinishedTrials(tmp_path).on_trial_complete(0, [trial], trial)
    assert read_last_reports(tmp_path) == {serialize_model({"layers": [8]}): {"mrr@20": 0.5}}


def test_a_place_of_trials_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "trials").write_text("a file of this name")
    with pytest.raises(UserError, match=r"cannot read the trials in .*trials: .*; make it readable"):
        read_trials(tmp_path / "trials")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, ray_here):
    """A log, and the folder of a finished search of two trials."""
    folder = tmp_path_factory.mktemp("finished")
    log = log_file(folder, 60)
    assert main(command_of(log, folder / "out", trials=2)) == 0
    return log, folder / "out"


def test_a_finished_search_is_not_run_again(finished, capsys):
    log, out = finished
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.onnx")}
    began = time.monotonic()
    assert main(command_of(log, out, trials=2)) == 0
    assert time.monotonic() - began < 5
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.onnx")} == times
    assert "best of 2 trials" in capsys.readouterr().out


def test_a_finished_search_can_be_given_more_trials(finished):
    log, out = finished
    before = pl.read_parquet(out / "results.parquet")
    assert main(command_of(log, out)) == 0
    after = pl.read_parquet(out / "results.parquet")
    assert sorted(after["trial"]) == [1, 2, 3, 4]
    assert after.filter(pl.col("trial") <= 2).equals(before)
    assert len(after.unique(["loss", "layers", "batch_size", "momentum", "sample_alpha", "bpreg", "elu_param"])) == 4
    assert json.loads((out / "search.json").read_text())["rounds"] == [
        {"n_trials": 2, "complete": True},
        {"n_trials": 2, "complete": True},
    ]


def test_a_finished_search_whose_trials_are_gone_says_so(finished, tmp_path, capsys):
    log, out = finished
    shutil.copytree(out, tmp_path / "out", ignore=shutil.ignore_patterns("trials"))
    assert main(command_of(log, tmp_path / "out")) == 2
    assert "trials/round-1: expected finished trials, found none; put them back or" in capsys.readouterr().err


def test_the_time_left_follows_from_the_trials_of_this_process():
    def picture(*over):
        trials = [SimpleNamespace(status="", is_finished=lambda over=over: over) for over in over]
        return str(view._draw(trials).renderables[0])

    view = SearchView(n_trials=30, n_epochs=1, n_before=20)
    assert re.match(r"21/30 trials done, .*, time left unknown", picture(True, False))  # ended in another process
    view._started -= 60
    assert re.match(r"22/30 trials done, .*, 1\.0 min, about 8\.0 min left", picture(True, True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"layers": "16"},
            "space.batchings.session-parallel.layers.values was [16, 24] and is now [16]",
        ),
        ({"loss": "bpr-max"}, "cannot resume: space.losses.top1 was "),
        ({"epochs": "2"}, "cannot resume: space.fixed.n_epochs was 1 and is now 2"),
        ({"seed": "1"}, "cannot resume: space.fixed.seed was 42 and is now 1"),
        ({"search": "random"}, 'cannot resume: settings.search was "optuna" and is now "random"'),
        ({"scheduler": "none"}, 'cannot resume: settings.scheduler was "asha" and is now "none"'),
        ({"trials": "1"}, "has 4 trials; give that many, or more"),
        ({"resume": "false"}, "holds a search already"),
    ],
)
def test_a_search_does_not_go_on_as_another(finished, capsys, changes, message):
    log, out = finished
    assert main(command_of(log, out, **changes)) == 2
    assert message in capsys.readouterr().err


def test_a_search_does_not_go_on_with_other_data(finished, tmp_path, capsys):
    _, out = finished
    assert main(command_of(log_file(tmp_path, 61), out)) == 2
    assert "the training or validation data are not those it started with" in capsys.readouterr().err


def test_a_search_does_not_go_on_with_another_version(finished, capsys, monkeypatch):
    log, out = finished
    monkeypatch.setattr("tune.outcome.folder.version", lambda name: "99.0")
    assert main(command_of(log, out)) == 2
    assert "cannot resume: version.gru4rec was " in capsys.readouterr().err


def test_trials_are_kept_in_a_storage_and_go_on_from_there(tmp_path, capsys, ray_here):
    log, out, storage = log_file(tmp_path, 60), tmp_path / "out", tmp_path / "bucket"
    command = command_of(log, out, f"--storage=file://{storage}", trials=2)
    assert main(command) == 0
    assert not (out / "trials").exists()
    (kept,) = storage.iterdir()
    assert len(read_finished(f"file://{kept}/round-1")) == 2
    assert list((kept / "round-1").glob("trial-0001-*/events.out.tfevents.*"))  # for TensorBoard
    before = pl.read_parquet(out / "results.parquet")

    assert main(command_of(log, out, f"--storage=file://{storage}", trials=3)) == 0
    assert pl.read_parquet(out / "results.parquet").filter(pl.col("trial") <= 2).equals(before)
    assert [folder.name for folder in storage.iterdir()] == [kept.name]

    capsys.readouterr()
    assert main(command_of(log, out, trials=3)) == 2
    assert f"was started with --storage file://{storage}; resume it with the same" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "{}", '{"schema_version": 0}', "[1]"])
def test_a_damaged_state_is_refused(tmp_path, capsys, content):
    out = tmp_path / "out"
    out.mkdir()
    (out / "search.json").write_text(content)
    assert main(command_of(log_file(tmp_path, 10), out)) == 2
    assert "expected the state of a search, schema 1" in capsys.readouterr().err


def test_results_of_something_else_are_not_overwritten(tmp_path, capsys):
    out = tmp_path / "out"
    (out / "model").mkdir(parents=True)
    assert main(command_of(log_file(tmp_path, 10), out)) == 2
    assert "contains 'model', but no search" in capsys.readouterr().err


def out_of_time(tmp_path, capsys):
    """A search whose time was up in the middle: on any machine it is much longer than the budget."""
    out = tmp_path / "out"
    command = command_of(log_file(tmp_path, 500), out, "--no-seeds", trials=3, epochs=50)
    budget = 6.0
    while main([*command, "--time-budget", f"{budget}s"]) == 2:  # not even an epoch was over, on a machine that is busy
        assert "no trial finished an epoch" in capsys.readouterr().err
        budget *= 1.5
        assert budget < 150
    assert "the time is up after " in capsys.readouterr().err
    return command, out


@pytest.mark.slow
def test_when_the_time_is_up_the_best_so_far_is_made(tmp_path, capsys, ray_here):
    before = signal.getsignal(signal.SIGINT)
    _, out = out_of_time(tmp_path, capsys)
    assert (out / "model.onnx").exists()
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


@pytest.mark.slow
def test_a_search_whose_time_was_up_goes_on_by_the_same_command(tmp_path, capsys, ray_here):
    command, out = out_of_time(tmp_path, capsys)
    for trial in ExperimentAnalysis(newest_state(out / "trials" / "round-1")).trials:
        # its last epoch may have none yet: Ray notes a checkpoint a moment after the result; that epoch is run again
        assert trial.status == "TERMINATED" or trial.checkpoint is None or Path(trial.checkpoint.path).is_dir()
    assert main(command) == 0
    assert sorted(pl.read_parquet(out / "results.parquet")["trial"]) == [1, 2, 3]
    assert "best of 3 trials" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200)])
def test_a_time_budget_is_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1s", "soon", "h", "inf", "nan"])
def test_a_time_budget_that_is_none_is_refused(text, tmp_path, capsys):
    assert main(command_of(tmp_path / "x", tmp_path / "out", time_budget=text)) == 2
    assert "time-budget: expected a duration such as 90s, 30m or 2h" in capsys.readouterr().err
