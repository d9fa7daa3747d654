"""What is looked at before the first trial: whether there is what trials ask for, on every node."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inference.shared.errors import UserError
from tests.support.small_logs import frame_of, markov_sessions
from tune.cluster.cluster import Cluster, Node, TrialResources, count_cpus, trial_resources
from tune.cluster.node_check import check_answers, check_nodes, place_marker

pytestmark = pytest.mark.ray

LAPTOP = Cluster((Node(8, 0),), None)
MIXED = Cluster((Node(64, 0), Node(16, 2), Node(4, 2)), "head:6379")


@pytest.mark.parametrize(
    ("cluster", "gpus", "cpus", "n_trials", "expected"),
    [
        (LAPTOP, "auto", None, 20, TrialResources(1, 0)),
        (LAPTOP, "auto", None, 4, TrialResources(2, 0)),
        (LAPTOP, "0", None, 1, TrialResources(4, 0)),  # more threads than four do not help a trial
        (LAPTOP, "0", 8, 20, TrialResources(8, 0)),
        (MIXED, "auto", None, 20, TrialResources(4, 1)),  # 20 processors beside four GPUs
        (MIXED, "0.25", None, 20, TrialResources(1, 0.25)),
        (MIXED, "2", 16, 20, TrialResources(16, 2)),
        (MIXED, "0", None, 1000, TrialResources(1, 0)),
    ],
)
def test_a_trial_gets_its_share(cluster, gpus, cpus, n_trials, expected):
    assert trial_resources(cluster, gpus=gpus, cpus=cpus, n_trials=n_trials) == expected


@pytest.mark.parametrize(
    ("cluster", "gpus", "cpus", "message"),
    [
        (LAPTOP, "1", None, "asked for 1, but this machine has none; give --gpus-per-trial 0"),
        (LAPTOP, "0.5", None, "asked for 0.5, but this machine has none"),
        (MIXED, "4", None, "asked for 4, but no node of the cluster at head:6379 has more than 2"),
        (MIXED, "1", 32, "the cluster at head:6379 has 1 to 16 for a trial, got 32"),
        (LAPTOP, "0", 0, "this machine has 1 to 8 for a trial, got 0"),
        (LAPTOP, "1.5", None, "expected auto, 0, a share such as 0.25, or a whole number, got '1.5'"),
    ],
)
def test_what_no_node_has_is_refused(cluster, gpus, cpus, message):
    with pytest.raises(UserError, match="per-trial") as refusal:
        trial_resources(cluster, gpus=gpus, cpus=cpus, n_trials=20)
    assert message in str(refusal.value)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be bound to processors here")
def test_a_search_takes_no_more_processors_than_its_container_and_its_binding_allow(monkeypatch):
    every = os.sched_getaffinity(0)
    if len(every) < 2:
        pytest.skip("there is only one processor")
    monkeypatch.setattr("ray._private.utils._get_docker_cpus", lambda: 2.5)
    assert count_cpus() == 2
    monkeypatch.setattr("ray._private.utils._get_docker_cpus", lambda: 0.5)
    assert count_cpus() == 1
    monkeypatch.setattr("ray._private.utils._get_docker_cpus", lambda: None)
    try:
        os.sched_setaffinity(0, {min(every)})
        assert count_cpus() == 1
    finally:
        os.sched_setaffinity(0, every)
    assert count_cpus() == len(every)


def test_nodes_that_can_run_trials_are_accepted(tmp_path, ray_here, plugged_in):
    with place_marker(str(tmp_path)) as (marker, token):
        check_nodes(marker, token, [plugged_in])
    assert list(tmp_path.iterdir()) == []


def test_a_marker_that_a_killed_search_left_does_not_stay(tmp_path):
    with place_marker(str(tmp_path)) as (marker, _):
        left = tmp_path / Path(marker).name
        content = left.read_text()
    left.write_text(content)
    with place_marker(str(tmp_path)) as (_, token):
        assert token != content
    assert list(tmp_path.iterdir()) == []


def test_a_plugin_that_only_the_driver_can_import_is_refused(tmp_path, ray_here):
    with (
        pytest.raises(UserError, match="cannot run trials: cannot import 'only_on_the_laptop'"),
        place_marker(str(tmp_path)) as (marker, token),
    ):
        check_nodes(marker, token, ["only_on_the_laptop"])
    assert list(tmp_path.iterdir()) == []


def test_a_plugin_that_fails_in_another_way_than_by_its_absence_is_refused(tmp_path, ray_here):
    with (
        pytest.raises(UserError, match=r"cannot run trials: cannot import '\.relative' \(TypeError: "),
        place_marker(str(tmp_path)) as (marker, token),
    ):
        check_nodes(marker, token, [".relative"])


def test_a_process_that_dies_as_its_node_is_asked_is_one_line(tmp_path, ray_here):
    class Ending(str):
        def encode(self):
            os._exit(1)

    with (
        pytest.raises(UserError, match=r"a node of the cluster could not be checked: .*died"),
        place_marker(str(tmp_path)) as (marker, token),
    ):
        check_nodes(marker, Ending(token), [])


def test_what_a_search_waits_for_is_said_until_it_is_given_up(tmp_path, ray_here, monkeypatch, capsys):
    class Slow(str):
        def encode(self):
            time.sleep(3)
            return super().encode()

    monkeypatch.setattr("tune.cluster.node_check.SECONDS_BEFORE_NOTICE", 0.1)
    with place_marker(str(tmp_path)) as (marker, token):
        check_nodes(marker, Slow(token), [])
        assert "waiting for 1 of 1 nodes (first " in capsys.readouterr().err
        monkeypatch.setattr("tune.cluster.node_check.SECONDS_TO_ANSWER", 0.5)
        with pytest.raises(UserError, match=r"address: 1 of 1 nodes \(first .*\) did not answer within 0.5 s"):
            check_nodes(marker, Slow(token), [])


def test_a_storage_that_gives_back_something_else_is_refused(tmp_path, ray_here):
    with (
        pytest.raises(UserError, match=r"storage: 1 of 1 nodes \(first .*\) do not see "),
        place_marker(f"file://{tmp_path}") as (marker, _),
    ):
        check_nodes(marker, "another token", [])


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        (
            "nfs://somewhere/x",
            "storage: expected a folder, or a URI such as s3://bucket/folder, got 'nfs://somewhere/x'",
        ),
        ("/proc/no-such-folder", r"storage: cannot write to /proc/no-such-folder: .*No such file"),
    ],
)
def test_a_storage_that_cannot_be_used_is_refused(storage, message):
    with pytest.raises(UserError, match=message), place_marker(storage):
        pass


def test_a_folder_that_some_nodes_do_not_see_is_refused(tmp_path):
    answers = [("10.0.0.1", True, ""), ("10.0.0.2", False, ""), ("10.0.0.3", False, "")]
    with pytest.raises(
        UserError, match=r"2 of 3 nodes \(first 10.0.0.2\) do not see .*; choose an --out or a --storage"
    ):
        check_answers(answers, str(tmp_path))
    check_answers(answers[:1], str(tmp_path))


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_named(tmp_path):
    log = tmp_path / "clicks.tsv"
    frame_of(markov_sessions(20, 10, seed=6)).write_csv(log, separator="\t")
    command = [sys.executable, "-m", "tune.search", f"--train={log}", f"--out={tmp_path / 'out'}"]
    for address, message in [
        ("127.0.0.1:1", "error: address: cannot reach a Ray cluster at '127.0.0.1:1': "),
        ("ray://127.0.0.1:1", "error: address: expected HOST:PORT or auto, got a Ray Client address"),
    ]:
        search = subprocess.run([*command, f"--address={address}"], capture_output=True, text=True, timeout=100)
        assert search.returncode == 2
        assert message in search.stderr
        assert len(search.stderr.splitlines()) == 2  # what was read, and the error
        assert not (tmp_path / "out").exists()
