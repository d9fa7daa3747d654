"""Processors and standard streams of a process."""

import os
import sys

MOST_THREADS = 4096
"""More than any machine has processors."""


def count_cores() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def replace_closed_streams() -> None:
    """Open /dev/null in place of closed standard streams, or the next file opened would get their number and output."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:  # print would write to standard output instead
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
