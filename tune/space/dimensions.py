"""What one parameter of a search may be: a few values, or a range.

    1 value                 fixed: nothing to search
    several numbers         searched in their order, so that the search can tell near from far
    several names           searched without an order
    a range                 every number between two ends, evenly or by magnitude

Flags write them as text (`0.1`, `0,512,2048`, `0.01..0.25`, `1e-4..1e-1:log`, `64..512:32`), files as a value, a list,
or a table {low, high, step, log}. A range with a step is the list of its numbers: what cannot be told apart by the
search need not be told apart here.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Union

from inference.shared.errors import UserError

LARGEST_LADDER = 10_000
"""Values that a range with a step may have."""


class Suggester(Protocol):
    """What is asked of an Optuna trial."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


@dataclass(frozen=True)
class Choice:
    """One of several values.

    Attributes:
        values: distinct; numbers in rising order.
    """

    values: tuple[Any, ...]

    def suggest(self, trial: Suggester, name: str) -> Any:
        """A value; of numbers it is their place that is searched, since places are evenly spaced."""
        if len(self.values) == 1:
            return self.values[0]
        if self.ordered:
            return self.values[trial.suggest_int(name, 0, len(self.values) - 1)]
        return trial.suggest_categorical(name, self.values)

    def parameter(self, value: Any) -> Any:
        """What the search would have to suggest to arrive at a value; None where nothing is suggested.

        Raises:
            LookupError: no such value here.
        """
        place = next((place for place, other in enumerate(self.values) if other == value), None)
        if place is None:
            raise LookupError(value)
        if len(self.values) == 1:
            return None
        return place if self.ordered else value

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers."""
        return all(_is_number(value) for value in self.values)


@dataclass(frozen=True)
class Span:
    """Every number between two ends, both included.

    Attributes:
        low, high: the ends; two integers give whole numbers.
        log: whether equal ratios, not equal distances, are equally likely.
    """

    low: float
    high: float
    log: bool = False

    def suggest(self, trial: Suggester, name: str) -> float:
        """A number."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def parameter(self, value: Any) -> Any:
        """What the search would have to suggest to arrive at a value: the value.

        Raises:
            LookupError: it lies outside.
        """
        if not _is_number(value) or not self.low <= value <= self.high:
            raise LookupError(value)
        return value


Dimension = Union[Choice, Span]  # noqa: UP007


def ladder(low: float, high: float, step: float) -> Choice:
    """The numbers low, low + step, … up to high.

    >>> ladder(0.0, 0.3, 0.1).values
    (0.0, 0.1, 0.2, 0.3)
    """
    count = int(round((high - low) / step, 9)) + 1
    return Choice(tuple(_rounded(low + place * step) for place in range(count)))


def declared(ranges: Any) -> Dimension:
    """The dimension that a registered loss or sampler declares: (low, high) for a range, a list for a choice."""
    if isinstance(ranges, tuple) and len(ranges) == 2:
        return Span(*ranges)
    return _choice(list(ranges))


def read_dimension(name: str, given: Any) -> Dimension:
    """The dimension that a flag's text or a file's value describes.

    Args:
        name: of the parameter, for the error message.
        given: text of a flag; a number, truth value, text, list or table of a file.

    Raises:
        UserError: it is none of the forms above.
    """
    if isinstance(given, Mapping):
        return _from_table(name, given)
    if isinstance(given, (list, tuple)):
        parts = [part for entry in given for part in _parts(entry)]
        if len(parts) == 1:
            return read_dimension(name, parts[0])
        if not parts or any(isinstance(part, (Mapping, list)) for part in parts):
            raise UserError(f"{name}: expected a list of values, got {given!r}")
        return _choice([_literal(part) for part in parts])
    if isinstance(given, str):
        if "," in given:
            return read_dimension(name, _parts(given))
        if ".." in given:
            return _from_text(name, given)
        if re.fullmatch(r"[\d.]+ *[-–:] *[\d.]+(:.*)?", given):
            raise UserError(f"{name}: expected values with commas between, or a range such as 64..128, got {given!r}")
    return _choice([_literal(given)])


def _parts(entry: Any) -> list[Any]:
    return [part.strip() for part in entry.split(",") if part.strip()] if isinstance(entry, str) else [entry]


def _from_text(name: str, text: str) -> Dimension:
    ends, _, manner = text.partition(":")
    low, _, high = ends.partition("..")
    table: dict[str, Any] = {"low": _literal(low), "high": _literal(high)}
    if manner == "log":
        table["log"] = True
    elif manner:
        table["step"] = _literal(manner)
    return _from_table(name, table)


def _from_table(name: str, table: Mapping[str, Any]) -> Dimension:
    low: Any = table.get("low")
    high: Any = table.get("high")
    step: Any = table.get("step")
    log: Any = table.get("log")
    unknown = table.keys() - {"low", "high", "step", "log"}
    if unknown or not _is_number(low) or not _is_number(high) or not (step is None or _is_number(step)):
        raise UserError(f"{name}: expected a range such as 0.1..0.5, 0.1..0.5:0.1 or 1e-4..0.1:log, got {dict(table)}")
    if low > high:
        raise UserError(f"{name}: expected a range that rises, got {low}..{high}")
    if log and (low <= 0 or step is not None):
        raise UserError(f"{name}: a range by magnitude has a low end above 0 and no step, got {dict(table)}")
    if step is not None:
        if step <= 0 or (float(high) - float(low)) / step > LARGEST_LADDER:
            raise UserError(f"{name}: expected a step that fits {low}..{high}, got {step}")
        return ladder(low, high, step)
    return Span(low, high, bool(log)) if low < high else Choice((low,))


def _choice(values: list[Any]) -> Choice:
    distinct = list(dict.fromkeys(values))
    return Choice(tuple(sorted(distinct) if all(map(_is_number, distinct)) else distinct))


def _literal(part: Any) -> Any:
    """A number or truth value where the text reads as one."""
    if not isinstance(part, str):
        return part
    if part.lower() in ("true", "false"):
        return part.lower() == "true"
    for kind in (int, float):
        try:
            return kind(part)
        except ValueError:
            continue
    return part


def _is_number(value: Any) -> bool:
    """Whether it is a number that floats can hold: neither a truth value nor NaN nor infinite."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else round(value, 10)
