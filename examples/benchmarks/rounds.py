"""Benchmarks run in rounds: every turn in a process of its own, and the median of the rounds with their range."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any


def format_spread(values: Sequence[float]) -> str:
    """The median of some values, with the lowest and the highest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def run_turn(script: str, arguments: argparse.Namespace, flags: Sequence[str], *turn: str) -> Iterator[dict[str, Any]]:
    """Run a script again in a new process; an error there ends this process, too.

    Args:
        script: its file.
        arguments: of this run.
        flags: the names of those to pass on; `threads`, if among them, is also set for OpenMP.
        turn: further flags, which say what to do.

    Yields:
        What it prints, JSON objects, one a line.
    """
    command = [sys.executable, script, *turn]
    for flag in flags:
        value = getattr(arguments, flag)
        command += [f"--{flag.replace('_', '-')}", str(value)] if value is not None else []
    threads = arguments.threads if "threads" in flags else None
    environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                yield json.loads(line)
    if process.returncode:
        raise SystemExit(process.returncode)
