"""What all training commands share: exit codes, error messages and progress on the terminal.

Exit codes: 0 done; 2 the arguments or the input are wrong, with one line on stderr; 130 interrupted.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from inference.shared.errors import UserError, one_line
from inference.shared.system import MOST_THREADS, replace_closed_streams

if TYPE_CHECKING:
    from cyclopts import App
    from rich.progress import Progress


def installed_version() -> str:
    """The version of the installed distribution."""
    from importlib.metadata import version

    return version("gru4rec")


def format_examples(*commands: str) -> str:
    """The end of a command's help."""
    return "\n".join(["Examples:", "", *(f"    {command}" for command in commands), ""])


def run_app(app: "App", arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    from cyclopts import CycloptsError

    app.suppress_keyboard_interrupt = False  # cyclopts would exit without a message
    replace_closed_streams()
    if sys.stdout is None:  # closed, as under cron
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # for terminals that are not UTF-8
    try:
        result = app(
            list(sys.argv[1:] if arguments is None else arguments),
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output has left
        _discard_standard_output()
        return 0
    except (CycloptsError, UserError) as error:
        print_status(f"error: {' '.join(str(error).split())}")
        for note in getattr(error, "__notes__", ()):  # the traceback of a plug-in
            print_status(note)
        return 2
    except OSError as error:
        if error.filename is None:  # standard output
            _discard_standard_output()
        place = "standard output or a file" if error.filename is None else repr(str(error.filename))
        print_status(f"error: cannot read or write {place}: {error.strerror or one_line(error)}")
        return 2
    except (MemoryError, RuntimeError) as error:
        from gru4rec.training.memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        reason = f" ({one_line(error)})" if str(error) else ""
        print_status(f"error: out of memory{reason}; reduce the size of the task, or use a machine with more memory")
        return 2
    except KeyboardInterrupt:
        print_status("interrupted")
        return 130
    return result if isinstance(result, int) else 0


def _discard_standard_output() -> None:
    """Keep the interpreter from writing the rest of the buffer when it exits."""
    with suppress(OSError):  # not a file, as in tests
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_status(line: str) -> None:
    """Print a line on stderr, where it does not mix with results."""
    sys.stderr.write(line + "\n")


def progress_bar() -> "Progress":
    """A bar on stderr that is drawn on terminals only. Used as a context."""
    from rich.console import Console  # not needed for help
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


def use_threads(threads: int | None) -> None:
    """Set the number of CPU threads of torch; None leaves it as it is.

    Raises:
        UserError: fewer than one, or more than any machine has.
    """
    if threads is not None:
        import torch

        if not 1 <= threads <= MOST_THREADS:
            raise UserError(f"threads: expected 1 to {MOST_THREADS:,}, got {threads}")
        torch.set_num_threads(threads)
