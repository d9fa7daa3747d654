"""Mistakes that a user can mend.

Everything a user can get wrong (a missing column, a damaged file, an impossible value) raises `UserError`, whose text
is one line: what was expected, what was found, what to do. Command-line modules print that line and exit with 2; in a
library it is an ordinary `ValueError`. Any other exception that escapes is a bug.
"""


class UserError(ValueError):
    """A mistake in the input or the arguments, explained in one line."""


def one_line(error: BaseException) -> str:
    """The first line of an error's text, or its type if it has no text."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def unknown_choice(kind: str, name: object, available: list[str]) -> UserError:
    """The error for a name that is not registered.

    Args:
        kind: what was being chosen, in the reader's words ("loss", "sampler").
        name: what was given.
        available: the names that would have been accepted.
    """
    return UserError(f"unknown {kind} {str(name)!r}; available: {', '.join(sorted(available))}")


def unknown_item(where: str, item: str) -> UserError:
    """The error for a click on an unknown item, with `--unknown error`.

    Args:
        where: the place of the click in the input ("clicks.jsonl, line 3").
        item: its id.
    """
    return UserError(f"{where}: item {item!r} is not known to the model; use --unknown skip to skip such items")
