"""Kills, full disks and two processes at once: what is on disk is the old or the new, and the same command goes on."""

import json
import os
import random
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from gru4rec.data.encoded_log import file_digest, read_training_log
from gru4rec.data.synthetic import synthesize
from gru4rec.training.checkpoint import load_model
from inference.model.artifact import Artifact
from tests.support.forking import Forked

KILLED, STOPPED = -signal.SIGKILL, -signal.SIGSTOP
RANDOM_KILLS = 12
TRAINING = ("--layers", "8", "--n-sample", "16", "--batch-size", "16", "--n-epochs", "2", "--threads", "1")


@pytest.fixture(scope="module")
def forked():
    with Forked() as process:
        yield process


@pytest.fixture(scope="module")
def whole(forked, tmp_path_factory):
    """A folder with log.parquet and what undisturbed commands make of it: data, model, model.onnx."""
    folder = tmp_path_factory.mktemp("whole")
    synthesize(1500, 30, seed=1).write_parquet(folder / "log.parquet")
    done(forked.run("gru4rec", *prepare(folder)))
    done(forked.run("gru4rec", *train(folder, folder)))
    done(forked.run("gru4rec", *export(folder, folder)))
    return folder


def prepare(folder, out=None):
    return "prepare", folder / "log.parquet", "--out", (out or folder) / "data"


def train(folder, out, *more):
    return "train", "--train", folder / "data", "--valid", folder / "data", "--out", out / "model", *TRAINING, *more


def export(folder, out):
    return "export", folder / "model", "--out", out / "model.onnx"


def done(answer):
    assert answer["code"] == 0, answer["said"]
    return answer


def refused(answer, message):
    assert answer["code"] == 2, answer["said"]
    (line,) = answer["said"].splitlines()[-1:]
    assert "Traceback" not in answer["said"]
    assert message in line


def contents(folder):
    """Digests of the files under a folder that do not hold seconds; hidden ones are of unfinished work."""
    paths = [path for path in Path(folder).rglob("*") if path.is_file() and path.name not in (".lock", "metrics.json")]
    return {str(path.relative_to(folder)): file_digest(path) for path in paths}


def check_prepared(out):
    if any(out.glob("*")):
        stats = json.loads((out / "stats.json").read_text())
        assert {name: file_digest(out / f"{name}.parquet") for name in stats["parts"]} == {
            name: part["sha256"] for name, part in stats["parts"].items()
        }
        read_training_log(out)


def check_trained(out):
    if (out / "metrics.json").exists():
        load_model(out)


def check_exported(out):
    if out.exists():
        Artifact(out).verify()


COMMANDS = {
    "prepare": (prepare, "data", check_prepared),
    "train": (train, "model", check_trained),
    "export": (export, "model.onnx", check_exported),
}


def commanded(name, whole, folder):
    """The command that writes into a folder, its output, and what checks that."""
    make, output, check = COMMANDS[name]
    return (make(whole, folder)), folder / output, check


def ends_as_undisturbed(forked, name, whole, folder):
    command, out, check = commanded(name, whole, folder)
    go_on = ("--resume",) if name == "train" and (out / "metrics.json").exists() else ()
    if not (name == "prepare" and any(out.glob("*"))):
        done(forked.run("gru4rec", *command, *go_on))
    check(out)
    if out.is_dir():
        assert contents(out) == contents(whole / out.name)
    else:
        assert file_digest(out) == file_digest(whole / out.name)
    assert not list(folder.rglob(".*.partial"))


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_before_any_change_of_the_disk_it_leaves_the_old_or_the_new_and_goes_on(name, forked, whole, tmp_path):
    change = 0
    while True:
        change += 1
        folder = tmp_path / str(change)
        folder.mkdir()
        command, out, check = commanded(name, whole, folder)
        answer = forked.run("gru4rec", *command, kill_at=change)
        if answer["code"] == 0:
            break
        assert answer["code"] == KILLED, answer["said"]
        check(out)
        ends_as_undisturbed(forked, name, whole, folder)
        shutil.rmtree(folder)
    assert change > 3


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_any_time_it_leaves_the_old_or_the_new_and_goes_on(name, forked, whole, tmp_path):
    """One folder killed again and again, whatever is there already."""
    generator = random.Random(name)
    command, out, check = commanded(name, whole, tmp_path)
    seconds = done(forked.run("gru4rec", *commanded(name, whole, whole.parent)[0]))["seconds"]
    shutil.rmtree(whole.parent / out.name) if out.is_dir() else None
    for _ in range(RANDOM_KILLS):
        go_on = ("--resume",) if name == "train" and (out / "metrics.json").exists() else ()
        answer = forked.run("gru4rec", *command, *go_on, kill_after=generator.uniform(0, seconds))
        assert answer["code"] in (KILLED, 0, 2), answer["said"]
        check(out)
        if answer["code"] == 2:
            assert name == "prepare"
            assert "exists already" in answer["said"]
    ends_as_undisturbed(forked, name, whole, tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("prepare", "encoded", "is in use by another process; wait for it to end"),
        ("train", "epoch-0001", "is in use by another run; wait for it to end"),
        ("export", ".partial", "is in use by another process; wait for it to end"),
    ],
)
def test_of_two_processes_with_one_output_the_second_is_refused(name, change, message, forked, whole, tmp_path):
    command, _, _ = commanded(name, whole, tmp_path)
    first = forked.run("gru4rec", *command, stop_before=change)
    assert first["code"] == STOPPED, first["said"]
    try:
        refused(forked.run("gru4rec", *command), message)
    finally:
        os.kill(first["pid"], signal.SIGKILL)
    ends_as_undisturbed(forked, name, whole, tmp_path)


def test_of_two_searches_in_one_folder_the_second_is_refused(forked, whole, tmp_path):
    command = ("--train", whole / "data", "--out", tmp_path / "search", "--trials", "1")
    first = forked.run("tune.search", *command, stop_before="search.json")
    assert first["code"] == STOPPED, first["said"]
    try:
        refused(forked.run("tune.search", *command), "is in use by another search; wait for it to end")
    finally:
        os.kill(first["pid"], signal.SIGKILL)


@pytest.fixture(scope="module")
def small_disk(whole, tmp_path_factory):
    """A process that sees a disk of 4 MiB, and the folder where it sees it."""
    folder = tmp_path_factory.mktemp("disk")
    mount = f"mount -t tmpfs -o size=4m tmpfs {folder}"
    try:
        tried = subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no small disk can be mounted here: {error}")
    if tried.returncode:
        pytest.skip(f"no small disk can be mounted here: {tried.stderr.strip()}")
    with Forked("unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh") as process:
        yield process, folder


def on_the_small_disk(name, whole, folder):
    if name == "synth":
        return "gru4rec", ("synth", "--out", folder / "clicks.parquet", "--events", "20000"), "clicks.parquet"
    if name == "synth of text":
        return "gru4rec", ("synth", "--out", folder / "clicks.tsv", "--events", "20000"), "clicks.tsv"
    if name == "recommendations":
        sessions = ("--session", whole / "data" / "train.parquet", "--format", "jsonl", "--group")
        return "gru4rec-infer", ("--model", whole / "model.onnx", *sessions, "--output", folder / "out"), "out"
    make, output, _ = COMMANDS[name]
    return "gru4rec", make(whole, folder), output


@pytest.mark.parametrize("name", ["synth", "synth of text", "prepare", "train", "export", "recommendations"])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(name, small_disk, whole):
    process, folder = small_disk
    program, command, output = on_the_small_disk(name, whole, folder)
    kept = name in ("synth", "synth of text", "export", "recommendations")  # those that replace a file
    first = (program, *command) if kept else ("gru4rec", "--version")
    before = done(process.run(*first, folder=folder, empty=True))["files"]
    for free in (0, 1 << 12, 1 << 14, 1 << 15):
        answer = process.run(program, *command, folder=folder, free=free)
        if answer["code"] == 0 and free:
            break
        refused(answer, "No space left on device")
        files = answer["files"]
        assert not [file for file in files if "partial" in file or ".lock" in Path(file).name.removeprefix(".lock")]
        if name == "train":  # which may have come as far as the description, and goes on from there
            assert {Path(file).name for file in files} <= {".lock", "vocabulary.txt", "config.toml"}
        else:
            assert files == before
    after = done(process.run(program, *command, folder=folder))["files"]
    assert any(file.startswith(output) for file in after)


def test_where_ray_cannot_start_it_is_one_line_and_nothing_is_left(forked, whole, tmp_path):
    too_long = tmp_path / ("long" * 30)
    too_long.mkdir()
    command = ("--train", whole / "data", "--out", tmp_path / "search", "--trials", "1")
    answer = forked.run("tune.search", *command, environment={"RAY_TMPDIR": str(too_long)})
    refused(answer, "cannot start Ray on this machine: ")
    assert answer["said"].rstrip().endswith("temporary files, which needs a short path")
    assert not (tmp_path / "search").exists()


@pytest.mark.slow
def test_a_search_goes_on_after_a_full_disk_and_keeps_to_the_processors_it_is_bound_to(small_disk, whole):
    process, folder = small_disk
    done(process.run("gru4rec", "--version", folder=folder, empty=True))
    flags = ("--train", whole / "log.parquet", "--out", folder / "search", "--trials", "1", "--epochs", "1")
    command = (*flags, "--no-seeds", "--loss", "top1", "--layers", "8", "--batch-size", "16", "--n-sample", "16")
    answer = process.run("tune.search", *command, folder=folder, free=12_000, bound_to=min(os.sched_getaffinity(0)))
    refused(answer, "No space left on device; the same command resumes when this is mended")
    assert "1 trials of up to 1 epochs, each on 1 CPU\n" in answer["said"]
    assert "search/model.onnx" in done(process.run("tune.search", *command, folder=folder))["files"]
