"""The training commands as a user types them: from a log to recommendations, and every mistake on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version

import polars as pl
import pytest
import torch
from cyclopts import App

from gru4rec.cli import main
from gru4rec.commands.terminal import run_app
from inference.cli import main as infer
from tests.support.small_logs import frame_of, markov_sessions
from tune.search import main as search

SMALL = {"--layers": "8", "--n-sample": "16", "--batch-size": "8", "--n-epochs": "1"}


def quick(*changes: str) -> list[str]:
    """Flags of a small run, some of them changed or added."""
    flags = SMALL | dict(zip(changes[::2], changes[1::2], strict=True))
    return [part for pair in flags.items() for part in pair]


QUICK = quick()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a log, a model trained on it, and its export."""
    folder = tmp_path_factory.mktemp("cli")
    frame_of(markov_sessions(60, 30, seed=2)).write_csv(folder / "clicks.tsv", separator="\t")
    assert main(["train", "--train", str(folder / "clicks.tsv"), "--out", str(folder / "model"), *QUICK]) == 0
    assert main(["export", str(folder / "model"), "--out", str(folder / "model.onnx")]) == 0
    return folder


def failing(capsys, *arguments) -> str:
    """Run a command that must fail with exit code 2 and one line on stderr; gives that line."""
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert "Traceback" not in captured.err
    return lines[-1]


def test_model_folder_and_exported_file_have_the_same_figures(folder, capsys):
    figures = {}
    for model in ("model", "model.onnx"):
        output = folder / f"{model}.json"
        command = ["evaluate", str(folder / model), "--test", str(folder / "clicks.tsv"), "--cutoffs", "5,20"]
        assert main([*command, "--json", str(output)]) == 0
        figures[model] = {
            name: value
            for name, value in json.loads(output.read_text()).items()
            if isinstance(value, int | float | str)
        }
    assert figures["model"] == pytest.approx(figures["model.onnx"])
    assert {"recall@5", "recall@20", "mrr@5", "mrr@20", "events", "ties"} <= set(figures["model"])
    assert figures["model"]["events"] == 60 * 7
    assert "420 events" in capsys.readouterr().out


def test_recall_counted_from_recommendations_for_every_prefix_is_that_of_evaluate(folder, capsys):
    sessions = markov_sessions(20, 30, seed=9)
    prefixes = [(session[:length], session[length]) for session in sessions for length in range(1, len(session))]
    frame_of(sessions).write_parquet(folder / "test.parquet")
    frame_of([prefix for prefix, _ in prefixes]).write_csv(folder / "prefixes.tsv", separator="\t")
    output = folder / "answers.jsonl"
    command = ["--model", str(folder / "model.onnx"), "--session", str(folder / "prefixes.tsv"), "--top-k", "20"]
    assert infer([*command, "--format", "jsonl", "--output", str(output)]) == 0
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    assert [answer["session"] for answer in answers] == [f"s{number}" for number in range(len(prefixes))]
    hits = [
        f"item-{target:06d}" in [entry["item"] for entry in answer["recommendations"]]
        for answer, (_, target) in zip(answers, prefixes, strict=True)
    ]
    assert (
        main(
            [
                "evaluate",
                str(folder / "model"),
                "--test",
                str(folder / "test.parquet"),
                "--json",
                str(folder / "r.json"),
            ]
        )
        == 0
    )
    figures = json.loads((folder / "r.json").read_text())
    assert sum(hits) / len(hits) == pytest.approx(figures["recall@20"], abs=1e-12)


def test_items_that_the_model_does_not_know_are_counted_and_left_out(folder, capsys):
    frame = frame_of([[1, 29, 2], [500, 1, 2]])
    frame.write_csv(folder / "unknown.tsv", separator="\t")
    assert main(["evaluate", str(folder / "model"), "--test", str(folder / "unknown.tsv")]) == 0
    assert "1 of 6 clicks were left out" in capsys.readouterr().out


def test_synthesized_log_trains(tmp_path):
    for name in ("log.tsv", "log.csv", "log.parquet"):
        assert main(["synth", "--out", str(tmp_path / name), "--events", "500", "--items", "40"]) == 0
        assert main(["train", "--train", str(tmp_path / name), "--out", str(tmp_path / f"model-{name}"), *QUICK]) == 0
    logs = [pl.read_parquet(tmp_path / "log.parquet"), pl.read_csv(tmp_path / "log.csv")]
    assert logs[0].equals(logs[1])


def test_validation_log_and_resume_through_the_command(folder, tmp_path, capsys):
    log = str(folder / "clicks.tsv")
    command = ["train", "--train", log, "--valid", log, "--out", str(tmp_path / "m")]
    assert main([*command, *QUICK]) == 0
    assert main([*command, *quick("--n-epochs", "2"), "--resume"]) == 0
    history = json.loads((tmp_path / "m" / "metrics.json").read_text())["history"]
    assert [epoch["epoch"] for epoch in history] == [1, 2]
    assert all(0 <= epoch["mrr@20"] <= epoch["recall@20"] <= 1 for epoch in history)
    assert "epoch 2/2  loss" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train", "absent.tsv"], "expected an event file, found none at absent.tsv"),
        (["--loss", "brp-max"], "unknown loss 'brp-max'; available: bpr, bpr-max"),
        (["--sampler", "popular"], "unknown sampler 'popular'; available: full, in-batch, popularity, uniform"),
        (["--dropout-p-embed", "1.5"], "dropout_p_embed: expected a value of at least 0 and below 1, got 1.5"),
        (["--sample-alpha", "-1"], "sample_alpha: expected a value of at least 0 and at most 4, got -1.0"),
        (["--bpreg", "1"], "bpreg: the loss 'cross-entropy' has no such option"),
        (["--batch-size", "many"], "batch-size"),
        (["--bogus", "1"], "--bogus"),
        (["--config", "absent.toml"], "cannot read the configuration absent.toml"),
        (["--plugin", "no_such_module"], "plugins: cannot import 'no_such_module'"),
        (["--item-column", "Product"], "expected one item column 'Product', found only"),
        (["--device", "quantum"], "device: cannot use 'quantum'"),
        (["--threads", "0"], "threads: expected 1 to 4,096, got 0"),
    ],
)
def test_wrong_argument_is_one_line_and_nothing_is_written(folder, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    flags = quick("--train", str(folder / "clicks.tsv"), "--out", str(tmp_path / "model"), *arguments)
    assert message in failing(capsys, "train", *flags)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected events, got an empty file"),
        (
            "SessionId\tItemId\tTime\n1\ta\t1\n2\tb\t2\n",
            "expected sessions of at least two clicks to train on, got none",
        ),
        ("SessionId\tItemId\tTime\n1\ta\tnoon\n", "row 1: expected a number or a date in column 'Time'"),
        ("SessionId\tItemId\tTime\n1\ta\tnan\n", "row 1: expected a number or a date in column 'Time'"),
    ],
)
def test_unusable_log_is_one_line_and_nothing_is_written(tmp_path, capsys, text, message):
    (tmp_path / "log.tsv").write_text(text)
    assert message in failing(capsys, "train", "--train", tmp_path / "log.tsv", "--out", tmp_path / "model", *QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["log.tsv"]


def test_output_folder_that_another_process_uses_is_refused(folder, tmp_path, capsys):
    hold = "lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import sys, filelock; {hold}", str(tmp_path / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        line = failing(capsys, "train", "--train", folder / "clicks.tsv", "--out", tmp_path, *QUICK)
        assert "is in use by another run" in line
    finally:
        holder.stdin.close()
        holder.stdout.close()
        holder.wait()


def test_existing_model_is_not_overwritten(folder, capsys):
    line = failing(capsys, "train", "--train", folder / "clicks.tsv", "--out", folder / "model", *QUICK)
    assert "holds a model already" in line


def test_what_is_no_model_is_one_line(folder, tmp_path, capsys):
    (tmp_path / "foreign.onnx").write_bytes(b"not a model")
    truncated = tmp_path / "truncated.onnx"
    truncated.write_bytes((folder / "model.onnx").read_bytes()[:500])
    for path in (tmp_path, tmp_path / "absent", tmp_path / "foreign.onnx", truncated):
        failing(capsys, "evaluate", path, "--test", folder / "clicks.tsv")
    failing(capsys, "export", tmp_path, "--out", tmp_path / "model.onnx")
    failing(capsys, "evaluate", folder / "model", "--test", folder / "clicks.tsv", "--cutoffs", "few")
    failing(capsys, "evaluate", folder / "model", "--test", folder / "clicks.tsv", "--cutoffs", "0")
    failing(capsys, "synth", "--out", tmp_path / "log.tsv", "--items", "1")
    failing(capsys, "synth", "--out", tmp_path / "no" / "folder" / "log.tsv")
    failing(capsys, "predict")


@pytest.mark.slow
def test_interrupt_ends_with_130(folder, tmp_path):
    """Ctrl-C in a real process, once the first epoch is on disk; the run can be resumed."""

    out = tmp_path / "model"
    command = ["train", "--train", str(folder / "clicks.tsv"), "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "gru4rec.cli", *command, *quick("--n-epochs", "100000")], stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not (out / "metrics.json").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.decode().strip().endswith("interrupted")
    done = json.loads((out / "metrics.json").read_text())["last_epoch"]
    assert main([*command, *quick("--n-epochs", str(done + 1)), "--resume"]) == 0


def test_help_loads_nothing_heavy():
    for program in ("gru4rec.cli", "tune.search", "inference.cli"):
        heavy = {"torch", "polars", "pyarrow", "pandas", "numba", "onnx", "onnxruntime", "ray", "optuna", "matplotlib"}
        heavy |= {"numpy"} if program != "inference.cli" else {"rich", "cyclopts"}
        code = (
            f"import sys, contextlib; from {program} import main\n"
            f"with contextlib.suppress(SystemExit): main(['--help'])\n"
            f"assert not (loaded := {heavy} & set(sys.modules)), loaded"
        )
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "--model model.onnx" in ended.stdout or "--train clicks.tsv" in ended.stdout


@pytest.mark.parametrize("command", ["synth", "prepare", "audit", "train", "evaluate", "export"])
def test_help_of_a_command_ends_in_examples_of_it(command, capsys):
    assert main([command, "--help"]) == 0
    _, examples = capsys.readouterr().out.split("Examples:")
    lines = examples.strip().splitlines()
    assert len(lines) >= 2
    assert all(line.strip().startswith(f"gru4rec {command} ") for line in lines)


def test_a_reader_of_standard_output_may_leave(tmp_path, monkeypatch):
    log = str(tmp_path / "clicks.tsv")
    for command in (["synth", "--out", log, "--events", "100", "--items", "10"], ["audit", log]):
        reading, printing = os.pipe()
        os.close(reading)
        with open(printing, "w") as closed:
            monkeypatch.setattr(sys, "stdout", closed)
            assert main(command) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
def test_standard_output_on_a_full_disk_is_one_line(tmp_path):
    command = [sys.executable, "-m", "gru4rec.cli", "synth", "--out", str(tmp_path / "clicks.tsv"), "--events", "100"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    line = "error: cannot read or write standard output or a file: No space left on device\n"
    assert (ended.returncode, ended.stderr) == (2, line)


def test_what_the_encoding_of_standard_output_lacks_is_escaped(folder):
    ended = subprocess.run(
        [sys.executable, "-m", "gru4rec.cli", "evaluate", str(folder / "model"), "--test", str(folder / "clicks.tsv")],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\\u2013" in ended.stdout  # the dash of an interval


@pytest.mark.slow
@pytest.mark.parametrize("closed", [(2,), (0, 1, 2)])
def test_closed_standard_streams_change_only_what_is_printed(closed, folder, tmp_path):
    def close():
        for number in closed:
            os.close(number)

    command = [sys.executable, "-m", "gru4rec.cli", "train", "--train", str(folder / "clicks.tsv")]
    for out, code in ((tmp_path / "model", 0), (folder / "model", 2)):
        assert subprocess.run([*command, "--out", str(out), *QUICK], preexec_fn=close).returncode == code
    assert (tmp_path / "model" / "metrics.json").exists()


def test_a_path_that_the_system_refuses_is_one_line(folder, tmp_path, capsys):
    log, long = str(folder / "clicks.tsv"), "a" * 300
    for command in (
        ["train", "--train", long, "--out", tmp_path / "model"],
        ["train", "--train", log, "--out", tmp_path / long],
        ["evaluate", long, "--test", log],
        ["evaluate", folder / "model", "--test", long],
    ):
        line = failing(capsys, *command)
        assert line.startswith("error: cannot read or write '")
        assert line.endswith("': File name too long")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("an array of 9 TiB"),
        torch.OutOfMemoryError("CUDA out of memory.\nMore about it."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_memory_that_runs_out_is_one_line(error, capsys):
    def raising():
        raise error

    assert run_app(App(default_command=raising), []) == 2
    first = str(error).splitlines()[0]
    assert capsys.readouterr().err.startswith(f"error: out of memory ({first}); ")


def test_a_defect_of_ours_stays_a_traceback():
    def raising():
        raise RuntimeError("no such thing")

    with pytest.raises(RuntimeError, match="no such thing"):
        run_app(App(default_command=raising), [])


def test_an_export_is_called_onnx_and_takes_the_place_of_nothing_else(folder, capsys):
    metrics = (folder / "model" / "metrics.json").read_bytes()
    line = failing(capsys, "export", folder / "model", "--out", folder / "model" / "metrics.json")
    assert line.startswith("error: --out: expected a name that ends in .onnx")
    for link in (folder / "linked.onnx", folder / "model" / "linked.onnx"):
        link.symlink_to(folder / "model" / "metrics.json")
        line = failing(capsys, "export", folder / "model", "--out", link)
        link.unlink()
        assert "a file of the model directory; choose another name" in line
    assert (folder / "model" / "metrics.json").read_bytes() == metrics


def test_an_export_may_lie_in_the_model_directory_and_be_replaced_through_a_link(folder):
    inside, link = folder / "model" / "model.onnx", folder / "latest.onnx"
    link.symlink_to(inside)
    for out in (inside, link):
        assert main(["export", str(folder / "model"), "--out", str(out)]) == 0
    assert link.is_symlink()
    for path in (link, inside):
        path.unlink()


def test_commands_say_their_version(capsys):
    for command in (main, search):
        assert command(["--version"]) == 0
        assert capsys.readouterr().out.strip() == version("gru4rec")
