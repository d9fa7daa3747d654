"""No more trials run at once than there is memory for."""

import subprocess
import sys

import pytest
import torch

from gru4rec.config.train_config import TrainConfig
from gru4rec.training.memory import GIB, Forecast, forecast
from inference.shared.errors import UserError
from tests.support.paths import ROOT
from tests.support.small_logs import frame_of, log_of, markov_sessions
from tests.tune.trials.test_trial import data_of, study_of
from tune.cluster.cluster import Cluster, Node, TrialResources, count_concurrent
from tune.cluster.memory_fit import forecast_largest, plan_resources
from tune.space.builder import build_space
from tune.studies.study import run_study
from tune.trials.results import read_trials

pytestmark = pytest.mark.ray

LOG = log_of(markov_sessions(30, 12, seed=1))


def taking(gib, device="cpu"):
    """The forecast of a trial that takes so much, a quarter of it data and program."""
    return Forecast(int(gib * 0.75 * GIB), 0, 0, 0, int(gib * 0.25 * GIB), torch.device(device))


def here(cpus, gib, gpus=0):
    return Cluster((Node(cpus, gpus, int(gib * GIB)),), None)


def fit(cluster, expected, gpus="0", cpus=None, n_trials=20, **free):
    return plan_resources(cluster, expected, gpus=gpus, cpus=cpus, n_trials=n_trials, **free)


def test_where_all_fit_nothing_changes_and_nothing_is_said(capsys):
    assert fit(here(8, 17), taking(2)) == TrialResources(1, 0, 2 * GIB)
    fit(here(8, 5), taking(2), n_trials=2)  # more are not to be run
    assert capsys.readouterr().err == ""


def test_fewer_at_once_share_the_processors(capsys):
    cluster = here(8, 5)
    resources = fit(cluster, taking(2))
    assert count_concurrent(cluster, resources) == 2
    assert resources.cpus == 4
    assert capsys.readouterr().err == "memory: a trial may take 2.0 GiB, so 2 run at once instead of 8\n"
    assert fit(cluster, taking(2), cpus=1).cpus == 1  # as asked for


def test_every_node_runs_as_many_as_fit_on_it():
    cluster = Cluster((Node(8, 0, 5 * GIB), Node(8, 0, 1 * GIB), Node(2, 0, 64 * GIB)), "head:6379")
    resources = fit(cluster, taking(2), cpus=1)
    assert count_concurrent(cluster, resources) == 2 + 0 + 2


def test_a_share_of_a_graphics_card_is_raised_until_its_trials_fit():
    resources = fit(here(16, 64, gpus=2), taking(2, "cuda"), gpus="0.1", free_gpu=5 * GIB)
    assert resources.gpus == 0.3333  # 1.5 GiB each on the card
    assert count_concurrent(here(16, 64, gpus=2), resources) == 6
    with pytest.raises(UserError, match=r"the graphics card has 1\.0 GiB available"):
        fit(here(16, 64, gpus=2), taking(2, "cuda"), gpus="1", free_gpu=GIB)


def test_what_fits_nowhere_is_refused_with_its_numbers():
    with pytest.raises(
        UserError, match=r"about 1\.5 GiB on cpu .*, 2\.0 GiB with data and program, and this machine has 1\.0 GiB"
    ):
        fit(here(8, 1), taking(2))


@pytest.mark.parametrize(
    ("gpus", "idle"),
    [("0", Node(0, 0, 64 * GIB)), ("1", Node(64, 0, 64 * GIB))],  # a head that runs no trials; a node without a GPU
)
def test_memory_of_a_node_that_cannot_run_a_trial_does_not_count(gpus, idle):
    small = Node(8, 1, 2 * GIB)
    with pytest.raises(UserError, match=r"the cluster at head:6379 has 2\.0 GiB on a node available"):
        fit(Cluster((idle, small), "head:6379"), taking(4), gpus=gpus)
    assert fit(Cluster((idle, small), "head:6379"), taking(1), gpus=gpus).memory == GIB


@pytest.mark.parametrize(
    ("narrowed", "config"),
    [
        (
            {"layers": "64,512,200/32", "batch_size": "32,256", "n_sample": "0,64", "momentum": "0,0.5"},
            TrainConfig(layers=(512,), batch_size=256, n_sample=64, momentum=0.5),
        ),
        (
            {"batching": "whole-session", "layers": "64..96", "batch_size": "512", "n_sample": "512"},
            TrainConfig(batching="whole-session", layers=(96,), batch_size=512, n_sample=512, n_recent=20),
        ),
    ],
)
def test_what_counts_is_the_largest_model_of_the_space(narrowed, config):
    expected = forecast_largest(build_space(narrowed, n_epochs=1, seed=1), LOG, "cpu")
    assert expected.needed == forecast(LOG, config, torch.device("cpu"), validates=True).needed


def test_ray_runs_one_trial_after_the_other_where_two_do_not_fit(tmp_path, ray_here, plugged_in):
    import ray

    most = int(ray.nodes()[0]["Resources"]["memory"])
    study = study_of(n_trials=2, n_epochs=1, batch_size="8,16")
    resources = TrialResources(1, 0, int(0.6 * most))
    assert run_study(study, data_of(60), resources, tmp_path / "experiment", n_places=2) == "complete"
    trials = read_trials(tmp_path / "experiment")
    assert [trial.status for trial in trials] == ["finished", "finished"]
    assert (
        len({trial.metrics["pid"] for trial in trials}) == 1
    )  # the second one had to wait for the first one's process


@pytest.mark.slow
def test_a_search_says_how_many_fit_and_is_refused_where_none_does(tmp_path, monkeypatch):
    log = tmp_path / "clicks.tsv"
    frame_of(markov_sessions(60, 30, seed=6)).write_csv(log, separator="\t")
    command = [sys.executable, "-m", "tune.search", f"--train={log}", "--loss=top1", "--no-seeds", "--epochs=1"]
    command += ["--cpus-per-trial=1", "--layers=16,24", "--batch-size=8", "--n-sample=0", "--trials=2"]
    for gib, code, message in [
        (0.1, 2, "error: memory: the largest model of this search takes about 0."),
        (1.2, 0, "so 1 run at once instead of 2"),
    ]:
        monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", f'{{"CPU": 2, "memory": {int(gib * GIB)}}}')
        ended = subprocess.run(
            [*command, f"--out={tmp_path / str(gib)}"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=100,
        )
        assert message in ended.stderr
        assert ended.returncode == code
