"""What the operating system gives a process: processors and standard streams."""

import os
import sys

MOST_THREADS = 4096
"""More than any machine has processors."""


def count_cores() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def replace_closed_streams() -> None:
    """Keep the next file that is opened from getting the number of a closed standard stream, and what is said there."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:  # print would take standard output in its place
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
