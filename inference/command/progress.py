"""Progress of a long run: a bar on a terminal, a line now and then elsewhere, nothing for a short run."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BEFORE_BAR = 2.0
SECONDS_BETWEEN_LINES = 30.0

Report = Callable[[int, float | None], None]


@contextmanager
def report_progress(say: Callable[[str], None], has_terminal: bool) -> Iterator[Report]:
    """Yield a callback that takes the sessions done and the share of the input read.

    Args:
        say: prints a line.
        has_terminal: whether to draw a bar on standard error.
    """
    if has_terminal:
        with _bar() as report:
            yield report
    else:
        yield _lines(say)


def _lines(say: Callable[[str], None]) -> Report:
    began = last = time.monotonic()

    def report(done: int, share: float | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            read = "" if share is None else f", {share:.0%} of the input"
            say(f"{done} sessions{read}, {done / (now - began):.0f} sessions/s")

    return report


@contextmanager
def _bar() -> Iterator[Report]:
    began = time.monotonic()
    bar = None

    def report(done: int, share: float | None) -> None:
        nonlocal bar
        if bar is None and time.monotonic() - began >= SECONDS_BEFORE_BAR:
            from rich.console import Console  # late: a short run needs none
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
            bar = Progress(*columns, console=Console(file=sys.stderr), transient=True)
            bar.add_task("")
            bar.start()
        if bar is not None:
            rate = done / (time.monotonic() - began)
            total = None if share is None else 1.0
            bar.update(bar.task_ids[0], completed=share or 0, total=total, description=f"{done} sessions, {rate:.0f}/s")

    try:
        yield report
    finally:
        if bar is not None:
            bar.stop()
