"""Where gru4rec-infer writes: standard output (under any of its names), a device, a pipe or a file."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from inference.shared.atomic import atomic_file, output_lock, write_errors
from inference.shared.errors import UserError


@contextmanager
def open_output(path: str | None, grows: bool = False) -> Iterator[TextIO]:
    """Open a text file to write to.

    Args:
        path: a file; "-" or None for standard output.
        grows: the file grows during the block; otherwise it appears when the block ends without an error.

    Raises:
        UserError: it cannot be written, another process is writing it, or standard output is closed.
    """
    if path is None or path == "-":
        if sys.stdout is None:
            raise UserError("cannot write to standard output, it is closed; name a file with --output")
        yield sys.stdout
    elif (descriptor := _standard_stream(path)) is not None:
        with _text_file(os.dup(descriptor)) as file:
            yield file
    elif Path(path).exists() and not Path(path).is_file() and not Path(path).is_dir():
        with _text_file(path) as file:  # a device or a pipe: nothing to rename over
            yield file
    elif grows:
        with write_errors(path), output_lock(path), _text_file(path) as file:
            yield file
    else:
        with atomic_file(path) as temporary, _text_file(temporary) as file:
            yield file


def check_not_input(path: str | None, inputs: Mapping[str, str | None]) -> None:
    """Refuse an output that is also an input: writing would destroy it.

    Args:
        path: the output; "-" or None for standard output.
        inputs: the files that are read, "-" for standard input, by the options that name them.

    Raises:
        UserError: the output is one of them.
    """
    if path is None or path == "-" or (os.path.exists(path) and not os.path.isfile(path)):
        return
    for option, other in inputs.items():
        if other is not None and _is_same(path, other):
            raise UserError(f"expected --output to name another file than {option}, got {path} for both; choose one")


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.stat(0 if other == "-" else other))
    except OSError:  # one does not exist yet
        return os.path.realpath(path) == os.path.realpath(other)


def _standard_stream(path: str) -> int | None:
    """The descriptor of standard output or standard error, if `path` is the same file, as /dev/stdout is."""
    for descriptor in (1, 2):
        with suppress(OSError):
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                return descriptor
    return None


def _text_file(target: str | Path | int) -> TextIO:
    return open(target, "w", encoding="utf-8", newline="\n")
