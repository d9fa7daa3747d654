"""What all our training commands have in common: how errors end, and how progress looks.

Exit codes: 0 done; 2 the arguments or the input are wrong, with one line on stderr; 130 interrupted.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from inference.shared.errors import UserError, one_line
from inference.shared.system import MOST_THREADS, hold_closed_streams

if TYPE_CHECKING:
    from cyclopts import App

    from gru4rec.training.run import EpochResult


def our_version() -> str:
    """The version of what is installed."""
    from importlib.metadata import version

    return version("gru4rec")


def examples(*commands: str) -> str:
    """The end of a command's help."""
    return "\n".join(["Examples:", "", *(f"    {command}" for command in commands), ""])


def run_app(app: "App", arguments: Sequence[str] | None = None) -> int:
    """Run a command line and give its exit code."""
    from cyclopts import CycloptsError

    app.suppress_keyboard_interrupt = False  # or it would exit without a word
    hold_closed_streams()
    if sys.stdout is None:  # as under cron: what is printed is for nobody
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # what it has no letter for is no reason to end
    try:
        result = app(
            list(sys.argv[1:] if arguments is None else arguments),
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has had enough
        _let_go_of_standard_output()
        return 0
    except (CycloptsError, UserError) as error:
        message = " ".join(str(error).split())
        sys.stderr.write(f"error: {message}\n")
        return 2
    except OSError as error:
        if error.filename is None:  # of what is printed
            _let_go_of_standard_output()
        place = "standard output or a file" if error.filename is None else repr(str(error.filename))
        sys.stderr.write(f"error: cannot read or write {place}: {error.strerror or one_line(error)}\n")
        return 2
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        reason = f" ({one_line(error)})" if str(error) else ""
        sys.stderr.write(f"error: out of memory{reason}; ask for less, or take a machine with more\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    return result if isinstance(result, int) else 0


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says so; torch's own are no `MemoryError`, and that of a processor has no type of its own."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))
    )


def _let_go_of_standard_output() -> None:
    """Keep the interpreter from trying again, when it ends, to write what could not be written."""
    with suppress(OSError):  # it may be no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(line: str) -> None:
    """Tell the user how it goes on."""
    sys.stderr.write(line + "\n")


def use_threads(threads: int | None) -> None:
    """Compute with that many CPU threads; None leaves it to torch.

    Raises:
        UserError: fewer than one, or more than any machine has processors.
    """
    if threads is not None:
        import torch

        if threads < 1:
            raise UserError(f"threads: expected at least 1, got {threads}")
        if threads > MOST_THREADS:
            raise UserError(f"threads: expected at most {MOST_THREADS:,}, got {threads}")
        torch.set_num_threads(threads)


class ProgressLines:
    """Shows a training run: a bar and a line per epoch on a terminal, only the lines elsewhere. Used as a context.

    Args:
        n_epochs: of the run.
    """

    def __init__(self, n_epochs: int):
        from rich.console import Console  # here, so that help is there at once
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True, highlight=False)
        self._n_epochs = n_epochs
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("training", total=None)

    def __enter__(self) -> "ProgressLines":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, epoch: int, done: int, total: int) -> None:
        """A step of an epoch is done."""
        if done == 1 or done % 20 == 0 or done == total:
            self._bar.update(self._task, description=f"epoch {epoch}/{self._n_epochs}", completed=done, total=total)

    def epoch(self, result: "EpochResult") -> None:
        """An epoch is done."""
        quality = "" if result.mrr is None else f"  recall@20 {result.recall:.4f}  mrr@20 {result.mrr:.4f}"
        self._console.print(
            f"epoch {result.epoch}/{self._n_epochs}  loss {result.loss:.4f}{quality}  "
            f"{result.seconds:.1f} s  {result.pairs_per_second:,.0f} events/s",
            soft_wrap=True,
        )
