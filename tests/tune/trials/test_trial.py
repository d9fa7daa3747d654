"""One trial on Ray: what it reports, that it survives being killed, and that a diverging model is a result."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from gru4rec.config.train_config import TrainConfig, to_mapping
from gru4rec.data.events import hold_out_last
from gru4rec.training import run as training
from tests.support.ray_fixture import PLUGIN
from tests.support.small_logs import log_of, markov_sessions
from tune.cluster.cluster import TrialResources
from tune.settings import SearchSettings
from tune.space.builder import build_space
from tune.studies.study import create_study, run_study
from tune.trials.results import read_trials
from tune.trials.trial import TrialData, summary

pytestmark = pytest.mark.usefixtures("ray_here", "plugged_in")

ONE_CPU = TrialResources(cpus=1, gpus=0)


def data_of(n_sessions):
    train, valid = hold_out_last(log_of(markov_sessions(n_sessions, 100, seed=3)), 0.2)
    return TrialData(train, valid)


def study_of(n_trials=1, n_epochs=3, **narrowed):
    fixed = {
        "loss": "bpr-max",
        "sampler": "popularity",
        "layers": "16",
        "batch_size": "8",
        "n_sample": "16",
        "sample_alpha": "0.5",
        "learning_rate": "0.1",
        "dropout_p_embed": "0.2",
        "dropout_p_hidden": "0.1",
        "momentum": "0.2",
    }
    if narrowed.get("loss", "bpr-max") == "bpr-max":
        fixed |= {"bpreg": "0.5", "elu_param": "0.5"}
    space = build_space({**fixed, **narrowed}, n_epochs=n_epochs, seed=5, plugins=(PLUGIN,))
    settings = SearchSettings(train=Path("log"), out=Path("out"), epochs=n_epochs, seed=5, seeds=False)
    return create_study(settings, space, n_trials, [])


def run(study, data, folder):
    assert run_study(study, data, ONE_CPU, folder) == "complete"
    return read_trials(folder)


def trained_plainly(data, trial, directory):
    """The same model trained by the ordinary training run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        training.train(data.train, trial.config, valid=data.valid, directory=directory)
    finally:
        torch.set_num_threads(threads)
    return json.loads((directory / "metrics.json").read_text())


def test_a_trial_killed_in_the_middle_ends_as_if_it_had_not_been(tmp_path):
    data = data_of(700)
    folder = tmp_path / "experiment"
    killed = []

    def kill_in_the_second_epoch():
        while not killed:
            for file in folder.glob("*/result.json"):
                lines = file.read_text().splitlines()
                if lines:
                    killed.append(json.loads(lines[0])["pid"])
                    os.kill(killed[0], signal.SIGKILL)
            time.sleep(0.02)

    killer = threading.Thread(target=kill_in_the_second_epoch, daemon=True)
    killer.start()
    (trial,) = run(study_of(n_epochs=4), data, folder)
    killer.join(timeout=1)

    assert killed
    assert killed[0] != os.getpid()
    assert trial.metrics["pid"] != killed[0]  # another process went on
    assert (trial.status, trial.epochs) == ("finished", 4)
    plain = trained_plainly(data, trial, tmp_path / "plain")
    best = max(plain["history"], key=lambda epoch: epoch["mrr@20"])
    assert trial.mrr == best["mrr@20"]
    assert trial.recall == best["recall@20"]
    assert trial.best_epoch == best["epoch"]
    with trial.checkpoints[trial.best_epoch].as_directory() as saved:
        for file in (tmp_path / "plain" / f"epoch-{trial.best_epoch:04d}").glob("*.npy"):
            np.testing.assert_array_equal(np.load(file), np.load(f"{saved}/{file.name}"), err_msg=file.name)


def test_a_diverging_trial_is_a_result_with_its_epoch_and_step(tmp_path):
    (trial,) = run(study_of(loss="test-nan"), data_of(60), tmp_path / "experiment")
    assert trial.status == "diverged"
    assert trial.metrics["diverged_epoch"] == 1
    assert trial.metrics["diverged_step"] >= 0
    assert trial.error.startswith("training diverged: the loss is not finite in epoch 1, step ")
    assert trial.best_epoch == trial.mrr == 0
    assert trial.seconds > 0  # of the epoch that it did not finish


def test_a_trial_whose_loss_blows_up_ends_within_its_first_epoch(tmp_path):
    study = study_of(learning_rate="1", momentum="0.5", n_sample="64", bpreg="1.5")
    (trial,) = run(study, data_of(300), tmp_path / "experiment")
    assert (trial.status, trial.epochs) == ("diverged", 0)
    assert trial.error.startswith("training diverged: the loss rose from 0.69")
    assert trial.best_epoch == trial.mrr == 0


def test_a_loss_with_a_defect_fails_its_trial_and_no_other(tmp_path):
    trials = run(
        study_of(n_trials=2, n_epochs=1, loss="test-bug,test-margin", loss_options={"margin": 0.5, "power": 1}),
        data_of(60),
        tmp_path / "experiment",
    )
    assert sorted((trial.config.loss, trial.status) for trial in trials) == [
        ("test-bug", "failed"),
        ("test-margin", "finished"),
    ]
    failed = next(trial for trial in trials if trial.status == "failed")
    line, _, file = failed.error.partition("; traceback: ")
    assert line == "plugins: tests.support.example_plugin, line 23: RuntimeError: this loss is broken"
    assert 'raise RuntimeError("this loss is broken' in Path(file).read_text()


def test_trials_get_read_only_data_and_leave_them_alone(tmp_path):
    data = data_of(60)
    before = data.train.sessions.items.copy(), data.valid.items.copy()
    for array in (data.train.sessions.items, data.train.sessions.offsets, data.valid.items, data.valid.offsets):
        array.setflags(write=False)
    trial = run(study_of(n_epochs=1), data, tmp_path / "experiment")[0]
    assert trial.status == "finished"
    training.train(data.train, TrainConfig(**to_mapping(trial.config)), valid=data.valid)  # no write, no warning
    np.testing.assert_array_equal(before[0], data.train.sessions.items)
    np.testing.assert_array_equal(before[1], data.valid.items)


def epoch_of(number, mrr, recall):
    return {
        "epoch": number,
        "epoch_mrr@20": mrr,
        "epoch_recall@20": recall,
        "epoch_seconds": 1.5,
        "memory_mib": 100.0 + number,
    }


def test_a_report_holds_the_best_epoch_so_far_and_the_last_one():
    report = summary([epoch_of(1, 0.1, 0.4), epoch_of(2, 0.3, 0.5), epoch_of(3, 0.3, 0.6)])
    assert report["mrr@20"] == 0.3
    assert (report["best_epoch"], report["recall@20"]) == (2, 0.5)  # of equals the earlier
    assert (report["epoch"], report["epoch_recall@20"]) == (3, 0.6)
    assert (report["seconds"], report["peak_memory_mib"]) == (4.5, 103.0)
