"""A Ray cluster on this machine: a head and workers, each a session of processes with a folder of its own."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class ClusterHere:
    """A running cluster.

    Attributes:
        address: of its head, HOST:PORT.
        jobs: of its job server, a URL.
        workers: the sessions of its worker nodes.
        environment: for processes that use it.
    """

    address: str
    jobs: str
    workers: list[subprocess.Popen]
    environment: dict[str, str]


@contextlib.contextmanager
def running_cluster(n_workers: int) -> Iterator[ClusterHere]:
    """A cluster that asks for a token; its nodes have a processor each, the head has none.

    Args:
        n_workers: worker nodes.
    """
    port, dashboard = free_ports(2)
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    environment["PATH"] = f"{BIN}{os.pathsep}{environment['PATH']}"
    environment.pop("RAY_ADDRESS", None)
    address = f"127.0.0.1:{port}"
    with contextlib.ExitStack() as cleanup:
        head = ["--head", f"--port={port}", "--num-cpus=0", f"--dashboard-port={dashboard}"]
        started = [started_node(head, environment, cleanup)]
        wait_until_up(started[:1])
        started += [
            started_node([f"--address={address}", "--num-cpus=1"], environment, cleanup) for _ in range(n_workers)
        ]
        wait_until_up(started[1:])
        jobs = f"http://127.0.0.1:{dashboard}"
        wait_until(lambda: takes_jobs(jobs, environment))
        yield ClusterHere(address, jobs, started[1:], environment)


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    with contextlib.ExitStack() as open_ones:
        probes = [open_ones.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def takes_jobs(jobs: str, environment: dict[str, str]) -> bool:
    """Whether a job server, which listens before it has found the agent of its head, takes a job."""
    command = [BIN / "ray", "job", "submit", "--no-wait", "--address", jobs, "--", "true"]
    return subprocess.run(command, env=environment, capture_output=True).returncode == 0


def started_node(
    flags: list[str], environment: dict[str, str], cleanup: contextlib.ExitStack
) -> "subprocess.Popen[bytes]":
    """The session of a node that has been started; `cleanup` ends it."""
    folder = f"/tmp/ray-{secrets.token_hex(3)}"  # socket paths must be short
    cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
    (agent,) = free_ports(1)  # by default all nodes of a machine want the same, and one of them gets it
    limits = ["--object-store-memory=80000000", f"--temp-dir={folder}", f"--dashboard-agent-listen-port={agent}"]
    session = subprocess.Popen(
        [BIN / "ray", "start", "--block", *flags, *limits],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    cleanup.callback(end_session, session)
    return session


def wait_until_up(sessions: list) -> None:
    """Wait for nodes that have been started."""
    for session in sessions:
        wait_until(
            lambda session=session: any("RuntimeEnvAgent" in title for title in processes_of(session).values()),
            still=lambda session=session: session.poll() is None,
        )


def wait_until(condition: Callable[[], object], still: Callable[[], bool] = lambda: True, seconds: float = 400) -> None:
    """Wait for something, as long as something else holds."""
    began = time.monotonic()
    while not condition():
        assert still()
        assert time.monotonic() - began < seconds
        time.sleep(0.2)


def processes_of(session: "subprocess.Popen[bytes]") -> dict[int, str]:
    """The processes of a session that a test began: their ids and titles."""
    listing = subprocess.run(["ps", "-ww", "-eo", "pid=,sid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listing.splitlines()]
    return {int(row[0]): row[2] for row in rows if int(row[1]) == session.pid and len(row) == 3}


def end_session(session: "subprocess.Popen[bytes]") -> None:
    """Kill all processes of a session."""
    for pid in processes_of(session):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    session.wait(timeout=30)
