"""A process that has imported the commands and forks one for every job it is given, so that many cost little.

A job is a line of JSON on standard input, its answer a line on standard output. Where a job says so, its process kills
(or stops) itself just before it changes something on the disk, which is what a kill at the worst moment comes to; or it
is killed from outside after some time. Started by `Forked`.
"""

import hashlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
IMPORTED = (
    *(
        "onnxruntime",
        "gru4rec.data.encoded_log",
        "gru4rec.onnx_export.exporter",
        "gru4rec.preparation.output",
        "gru4rec.data.reading.log",
    ),
    *(
        "gru4rec.training.run",
        "inference.model.recommender",
        "inference.files.sessions",
        "tune.search",
        "tune.pipeline",
    ),
)
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1")


class Forked:
    """The process, from outside. Used as a context.

    Args:
        prefix: a command line that begins it, such as one that mounts something first.
    """

    def __init__(self, *prefix: str):
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "tests.support.forking"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ONE_THREAD,
            cwd=ROOT,
        )

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, program: str, *arguments: object, **job: Any) -> dict[str, Any]:
        """Run a command.

        Args:
            program: "gru4rec", "gru4rec-infer" or "tune.search".
            arguments: of the command.
            job: "kill_at": the change (from 1) before which it kills itself; "kill_after": seconds until it is killed,
                from its beginning or from when it has said "said"; "stop_before": part of the path of the change before
                which it stops; "folder": whose files the answer lists; "empty": to empty it first; "free": bytes that
                are to be free in it, on a disk of its own; "bound_to": the processor that it is bound to;
                "environment": variables that it has more.

        Returns:
            "code" (negative for a signal), "said" on standard error, "seconds", "pid" and "files" with their digests.
        """
        job = {name: str(value) if isinstance(value, Path) else value for name, value in job.items()}
        job |= {"program": program, "arguments": list(map(str, arguments))}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def _answer(job: dict[str, Any]) -> dict[str, Any]:
    ballast = Path(job.get("folder", ".")) / "ballast"
    if "empty" in job:
        for path in Path(job["folder"]).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if "free" in job:
        _leave_free(ballast, job["free"])
    with tempfile.TemporaryFile("w+b") as said:
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            _become(job, said.fileno())
        if "kill_after" in job:
            _wait_until_said(job.get("said", ""), said.fileno(), pid)
            time.sleep(job["kill_after"])
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, os.WUNTRACED)
        seconds = time.monotonic() - began
        said.seek(0)
        text = said.read().decode()
    ballast.unlink(missing_ok=True)
    code = -os.WSTOPSIG(status) if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)
    return {"code": code, "said": text, "seconds": seconds, "pid": pid, "files": _files(job.get("folder"))}


def _wait_until_said(text: str, said: int, pid: int) -> None:
    """Wait until a process has said something, or is over."""
    while text not in os.pread(said, 1 << 20, 0).decode(errors="ignore"):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.01)


def _leave_free(ballast: Path, n_bytes: int) -> None:
    disk = os.statvfs(ballast.parent)
    with open(ballast, "wb") as file:
        file.write(b"\1" * max(0, disk.f_bavail * disk.f_frsize - n_bytes))


def _files(folder: str | None) -> dict[str, str]:
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file()) if folder else []
    return {str(path.relative_to(str(folder))): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _become(job: dict[str, Any], said: int) -> None:
    code = 1
    try:
        os.dup2(said, 2)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        os.environ.update(job.get("environment", {}))
        if "bound_to" in job:
            os.sched_setaffinity(0, {job["bound_to"]})
        _watch_changes(job)
        code = _main(job["program"])(job["arguments"])
        sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _main(program: str) -> Any:
    if program == "gru4rec":
        from gru4rec.cli import main
    elif program == "gru4rec-infer":
        from inference.cli import main
    else:
        from tune.search import main
    return main


def _watch_changes(job: dict[str, Any]) -> None:
    count = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in CHANGES and not (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        if str(arguments[0]).endswith(".npy") and "output_table" not in str(arguments[0]):
            return  # of the many arrays of a model one will do
        count += 1
        if count == job.get("kill_at"):
            os.kill(os.getpid(), signal.SIGKILL)
        if job.get("stop_before") and job["stop_before"] in str(arguments[0]):
            job["stop_before"] = ""
            os.kill(os.getpid(), signal.SIGSTOP)

    if "kill_at" in job or "stop_before" in job:
        sys.addaudithook(watch)


if __name__ == "__main__":
    for module in IMPORTED:
        importlib.import_module(module)
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)
