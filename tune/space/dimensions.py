"""What one parameter of a search may be: a few values, or a range, searched by one of Optuna's distributions.

    1 value                 fixed: nothing to search
    several numbers         searched by their place in the list, so that the search can tell near from far
    several names           searched without an order
    a range                 every number between two ends, on a linear or a log scale

Flags write them as text (`0.1`, `0,512,2048`, `0.01..0.25`, `1e-4..1e-1:log`, `64..512:32`), files as a value, a list,
or a table {low, high, step, log}. A range with a step becomes the list of its numbers: the folder of a search keeps it
in this form, and Optuna's own steps accumulate rounding errors.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import BaseTrial

from inference.shared.errors import UserError

MAX_LADDER = 10_000
"""Values that a range with a step may have."""


@dataclass(frozen=True)
class Dimension:
    """One parameter of a search; made by `choice`, `span` or `ladder`.

    Attributes:
        distribution: what Optuna searches: a range, names, or the places of numbers in a list.
        values: of a list; empty for a range.
    """

    distribution: BaseDistribution
    values: tuple[Any, ...] = ()

    @property
    def bounds(self) -> tuple[Any, ...]:
        """All values of a list, or the two ends of a range."""
        return self.values or (self.distribution.low, self.distribution.high)

    def suggest(self, trial: BaseTrial, name: str) -> Any:
        """A value, as an Optuna trial suggests it."""
        if len(self.values) == 1:
            return self.values[0]
        ends = self.distribution
        if isinstance(ends, CategoricalDistribution):
            return trial.suggest_categorical(name, self.values)
        suggest = trial.suggest_int if isinstance(ends, IntDistribution) else trial.suggest_float
        number = suggest(name, ends.low, ends.high, log=ends.log)
        return self.values[number] if self.values else number

    def parameter(self, value: Any) -> Any:
        """What Optuna would have to suggest to arrive at a value; None where nothing is suggested.

        Raises:
            LookupError: no such value here.
        """
        if self.values:
            if value not in self.values:
                raise LookupError(value)
            if len(self.values) == 1:
                return None
            return value if isinstance(self.distribution, CategoricalDistribution) else self.values.index(value)
        low, high = self.bounds
        if not _is_number(value) or not low <= value <= high:
            raise LookupError(value)
        return value

    def as_plain(self) -> dict[str, Any]:
        """The dimension as the folder of a search keeps it."""
        if self.values:
            return {"values": list(self.values)}
        low, high = self.bounds
        return {"low": low, "high": high, "log": self.distribution.log}


def choice(values: Iterable[Any]) -> Dimension:
    """One of several values; numbers are put in rising order.

    Args:
        values: at least one.
    """
    distinct = tuple(dict.fromkeys(values))
    if not all(map(_is_number, distinct)):
        return Dimension(CategoricalDistribution(distinct), distinct)
    return Dimension(IntDistribution(0, len(distinct) - 1), tuple(sorted(distinct)))


def span(low: float, high: float, *, log: bool = False) -> Dimension:
    """Every number from low to high; two integers give whole numbers.

    Args:
        low, high: the ends, both included.
        log: whether equal ratios, not equal distances, are equally likely.

    Raises:
        ValueError: the range does not rise, or begins at 0 or below on a log scale.
    """
    whole = isinstance(low, int) and isinstance(high, int)
    distribution = (IntDistribution if whole else FloatDistribution)(low, high, log=log)
    return choice([low]) if low == high else Dimension(distribution)


def ladder(low: float, high: float, step: float) -> Dimension:
    """The numbers low, low + step, … up to high.

    >>> ladder(0.0, 0.3, 0.1).values
    (0.0, 0.1, 0.2, 0.3)
    """
    count = int(round((high - low) / step, 9)) + 1
    numbers = (low + place * step for place in range(count))
    return choice(number if isinstance(number, int) else round(number, 10) for number in numbers)


def read_registered(ranges: Any) -> Dimension:
    """The dimension that a registered loss or sampler declares: (low, high) for a range, a list for a choice."""
    return span(*ranges) if isinstance(ranges, tuple) and len(ranges) == 2 else choice(ranges)


def read_dimension(name: str, given: Any) -> Dimension:
    """The dimension that a flag's text or a file's value describes.

    Args:
        name: of the parameter, for the error message.
        given: text of a flag; a number, truth value, text, list or table of a file.

    Raises:
        UserError: it is none of the forms above.
    """
    entries = given if isinstance(given, (list, tuple)) else [given]
    parts = [part for entry in entries for part in _split(entry)]
    if len(parts) == 1:
        (part,) = parts
        if isinstance(part, str) and ".." in part:
            part = _table_of(part)
        if isinstance(part, Mapping):
            return _from_table(name, part)
        if isinstance(part, str) and re.fullmatch(r"[\d.]+ *[-–:] *[\d.]+(:.*)?", part):
            raise UserError(f"{name}: expected values separated by commas, or a range such as 64..128, got {part!r}")
    if not parts or any(isinstance(part, (Mapping, list)) for part in parts):
        raise UserError(f"{name}: expected a list of values, got {given!r}")
    return choice(map(_literal, parts))


def _split(entry: Any) -> list[Any]:
    return [part.strip() for part in entry.split(",") if part.strip()] if isinstance(entry, str) else [entry]


def _table_of(text: str) -> dict[str, Any]:
    """A range as a file has it: `low..high`, `low..high:step` or `low..high:log`."""
    ends, _, option = text.partition(":")
    low, _, high = ends.partition("..")
    options: dict[str, Any] = {"log": True} if option == "log" else {"step": _literal(option)} if option else {}
    return {"low": _literal(low), "high": _literal(high), **options}


def _from_table(name: str, table: Mapping[str, Any]) -> Dimension:
    low: Any = table.get("low")
    high: Any = table.get("high")
    step: Any = table.get("step")
    numbers = (low, high) if step is None else (low, high, step)
    if table.keys() - {"low", "high", "step", "log"} or not all(map(_is_number, numbers)):
        raise UserError(f"{name}: expected a range such as 0.1..0.5, 0.1..0.5:0.1 or 1e-4..0.1:log, got {dict(table)}")
    log = bool(table.get("log"))
    try:
        dimension = span(low, high, log=log)
    except ValueError as error:  # of Optuna
        raise UserError(f"{name}: expected a range, got {low}..{high}: {error}") from None
    if step is None:
        return dimension
    if log or step <= 0 or (float(high) - float(low)) / step > MAX_LADDER:
        raise UserError(f"{name}: expected a step that fits {low}..{high}, without log, got {step}")
    return ladder(low, high, step)


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
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
