"""One description of a training run, for flags, files and searches.

`TrainConfig` carries the official parameter names and ours. Its fields are the command-line flags (`--batch-size`), the
keys of a TOML file (`files`) and the keys of a search space. All of them end in the same constructor and so in the same
checks. A field is one line: its type says how a value is read, its metadata which values are accepted, what each
batching has as default, and the help. Whether a loss or a sampler exists and takes the options is checked when a
trainer is built, because plug-in modules must be imported first.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, get_args

from inference.shared.errors import UserError, unknown_choice

SESSION_PARALLEL, WHOLE_SESSION = "session-parallel", "whole-session"
DEFAULT_TEMPERATURE = 16.0


def _field(about: str, default: Any = None, whole_session: Any = None, **accepted: Any) -> Any:
    """A field of the configuration.

    Args:
        about: its help text.
        default: of every batching, or of session-parallel mini-batches if those of whole sessions have another.
        whole_session: the default of whole-session mini-batches, where it differs.
        accepted: `choices`, or `low` with `high` (included) or `below` (excluded); `of_loss` marks an option of the
            loss, which is None for the loss's own default.
    """
    defaults = {} if whole_session is None else {SESSION_PARALLEL: default, WHOLE_SESSION: whole_session}
    metadata = {"about": about, "defaults": defaults, **accepted}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=None if defaults else default, metadata=metadata)


@dataclass(frozen=True)
class TrainConfig:
    """Every choice of a training run.

    Raises:
        UserError: a value has the wrong type, is out of range, or contradicts another one.
    """

    loss: str = _field("training loss", "cross-entropy")
    batching: str = _field(
        "mini-batches: session-parallel as in the papers, or whole-session",
        SESSION_PARALLEL,
        choices=(SESSION_PARALLEL, WHOLE_SESSION),
    )
    layers: tuple[int, ...] = _field("units of each GRU layer, e.g. 100 or 100/50", (100,), (128,), low=1, high=1 << 14)
    batch_size: int = _field(
        "slots (session-parallel) or targets (whole-session) per step", 64, 1024, low=1, high=1 << 20
    )
    dropout_p_embed: float = _field("share of the input embedding dropped", 0.0, 0.3, low=0, below=1)
    dropout_p_hidden: float = _field("share of each GRU layer's output dropped", 0.0, 0.1, low=0, below=1)
    learning_rate: float = _field("learning rate", 0.05, 0.002, low=1e-12, high=1e6)
    momentum: float = _field("heavy-ball momentum of adagrad", 0.0, low=0, below=1)
    n_sample: int = _field(
        "additional negatives per step; 0 = the mini-batch's own targets only", 2048, 4096, low=0, high=1 << 24
    )
    sample_alpha: float = _field("negatives are drawn in proportion to support ** alpha", 0.5, low=0, high=4)
    embedding: int = _field("width of a separate input embedding; 0 = none", 0, low=0, high=1 << 20)
    constrained_embedding: bool = _field("one matrix for input embedding and output weights", True)
    n_epochs: int = _field("passes over the training sessions", 10, 6, low=1, high=1 << 20)
    score: str = _field(
        "dot product or cosine of the hidden state and an item's output row", "dot", "cosine", choices=("dot", "cosine")
    )
    temperature: float | None = _field(f"factor of cosine scores; {DEFAULT_TEMPERATURE:g} if unset", low=1e-3, high=1e3)
    n_recent: int = _field(
        "last clicks of the session whose items get a learned bonus (whole-session); 0 = none", 0, 10, low=0, high=256
    )
    optimizer: str = _field(
        "adagrad, or adamw with warm-up and cosine decay", "adagrad", "adamw", choices=("adagrad", "adamw")
    )
    precision: str = _field(
        "of matrix products: fp32, bf16, tf32 (GPUs), or auto: the fastest that the device supports",
        "fp32",
        "auto",
        choices=("auto", "fp32", "bf16", "tf32"),
    )
    bpreg: float | None = _field("weight of the score regularisation of bpr-max", low=0, high=1e6, of_loss=True)
    elu_param: float | None = _field("ELU on the scores of bpr-max; 0 = linear", low=0, high=1e6, of_loss=True)
    logq: float | None = _field("strength of the sampling correction of cross-entropy", low=0, high=1e6, of_loss=True)
    loss_options: Mapping[str, Any] = _field("options of a plugged-in loss, e.g. --loss-options.margin 2", dict)
    sampler: str = _field("source of additional negatives", "popularity")
    sampler_options: Mapping[str, Any] = _field(
        "options of a plugged-in sampler, e.g. --sampler-options.share 0.5", dict
    )
    plugins: tuple[str, ...] = _field("modules that register losses or samplers", ())
    device: str = _field("auto, cpu, cuda or cuda:N", "auto")
    seed: int = _field("seed of initial weights, negatives and dropout", 42, low=0, high=(1 << 63) - 1)

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if value is None:
                value = item.metadata["defaults"].get(self.batching)
            object.__setattr__(self, item.name, _convert(item, value))
        if self.score == "dot" and self.temperature is not None:
            raise UserError(
                "temperature: it scales cosine scores and has no effect on dot products; set score to cosine"
            )
        if self.score == "cosine" and self.temperature is None:
            object.__setattr__(self, "temperature", DEFAULT_TEMPERATURE)
        if self.optimizer == "adamw" and self.momentum:
            raise UserError("momentum: adamw has its own; set momentum to 0 or optimizer to adagrad")
        if self.n_recent and self.batching != WHOLE_SESSION:
            raise UserError(
                f"n_recent: expected 0 with {SESSION_PARALLEL} batching, got {self.n_recent}; a bonus for recent items "
                f"is learnt with batching = {WHOLE_SESSION}"
            )
        if self.constrained_embedding and self.embedding:
            raise UserError(
                "embedding: a constrained embedding has the width of the last layer, so embedding = "
                f"{self.embedding} has no effect; set constrained_embedding to false or embedding to 0"
            )

    @property
    def embedding_mode(self) -> str:
        """'constrained', 'separate' or 'one-hot'."""
        if self.constrained_embedding:
            return "constrained"
        return "separate" if self.embedding else "one-hot"

    @property
    def alpha(self) -> float | None:
        """The exponent with which negatives are drawn; None where none are."""
        return self.sample_alpha if self.n_sample else None

    def replace(self, **changes: Any) -> "TrainConfig":
        """A copy with some fields changed, checked again; for another `batching`, see `values_for`."""
        values = values_for(changes.get("batching", self.batching), self) | changes
        if changes.get("score") == "dot" and "temperature" not in changes:
            values.pop("temperature", None)
        return from_mapping(values)


FIELDS = dataclasses.fields(TrainConfig)
FIELD_NAMES = tuple(item.name for item in FIELDS)
LOSS_OPTION_FIELDS = tuple(item.name for item in FIELDS if item.metadata.get("of_loss"))
"""Fields that belong to the loss; None means the loss's own default."""
OPTION_TABLES = tuple(item.name for item in FIELDS if item.type == Mapping[str, Any])
"""Fields whose values are tables: the options of plugged-in losses and samplers."""
BATCHING_DEFAULTS: dict[str, dict[str, Any]] = {
    batching: {item.name: item.metadata["defaults"][batching] for item in FIELDS if item.metadata["defaults"]}
    for batching in (SESSION_PARALLEL, WHOLE_SESSION)
}
"""The defaults of the fields that depend on the batching."""


def _convert(item: "dataclasses.Field[Any]", value: Any) -> Any:
    """The value in the field's own type; text is accepted for numbers, truth values and layers.

    Raises:
        UserError: it is of another type, or is not accepted.
    """
    kind, *optional = get_args(item.type) if isinstance(item.type, UnionType) else (item.type,)
    if value is None and optional:
        return None
    value = _CONVERTERS[kind](item.name, value)
    accepted = item.metadata
    if value not in accepted.get("choices", (value,)):
        raise unknown_choice(item.name, value, list(accepted["choices"]))
    if "low" in accepted:
        low, high, below = accepted["low"], accepted.get("high", math.inf), accepted.get("below", math.inf)
        if not all(
            low <= number <= high and number < below for number in (value if isinstance(value, tuple) else (value,))
        ):
            upper = f"below {below:g}" if "below" in accepted else f"at most {high:g}"
            raise UserError(f"{item.name}: expected a value of at least {low:g} and {upper}, got {value}")
    return value


def _require(accepted: bool, name: str, expected: str, value: Any) -> None:
    if not accepted:
        raise UserError(f"{name}: expected {expected}, got {value!r}")


def _name(name: str, value: Any) -> str:
    _require(isinstance(value, str) and bool(value), name, "a name", value)
    return str(value)


def _names(name: str, value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    is_list = isinstance(names, (list, tuple)) and all(isinstance(module, str) and module for module in names)
    _require(is_list, name, "names of importable modules", value)
    return tuple(names)


def _table(name: str, value: Any) -> dict[str, Any]:
    _require(isinstance(value, Mapping), name, "a table of options", value)
    return dict(value)


def _truth(name: str, value: Any) -> bool:
    text = str(value).lower()
    _require(text in ("true", "false", "1", "0"), name, "true or false", value)
    return text in ("true", "1")


def _number(name: str, value: Any) -> float:
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    _require(math.isfinite(number), name, "a number", value)
    return number


def _whole_number(name: str, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = _number(name, value)
    _require(number.is_integer(), name, "a whole number", value)
    return int(number)


def _whole_numbers(name: str, value: Any) -> tuple[int, ...]:
    if isinstance(value, str):
        value = [part for part in value.strip("[]() ").replace(",", "/").split("/") if part.strip()]
    elif isinstance(value, int):
        value = [value]
    _require(isinstance(value, (list, tuple)) and bool(value), name, "numbers such as 100 or 100/50", value)
    return tuple(_whole_number(name, number) for number in value)


_CONVERTERS: dict[Any, Callable[[str, Any], Any]] = {
    str: _name,
    bool: _truth,
    int: _whole_number,
    float: _number,
    tuple[int, ...]: _whole_numbers,
    tuple[str, ...]: _names,
    Mapping[str, Any]: _table,
}


def format_value(value: object) -> str:
    """A value as it is written on the command line: 100/50 for numbers of units."""
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)


def from_mapping(values: Mapping[str, Any], source: str = "configuration") -> TrainConfig:
    """A configuration from key/value pairs.

    Args:
        values: field names and values; fields left out keep their default.
        source: where the values come from, for the error message.

    Raises:
        UserError: a key is unknown, or a value is refused by `TrainConfig`.
    """
    unknown = [key for key in values if key not in FIELD_NAMES]
    if unknown:
        raise UserError(f"{source}: unknown key {unknown[0]!r}; available: {', '.join(FIELD_NAMES)}")
    try:
        return TrainConfig(**values)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def merge(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Key/value pairs with changes, option by option in tables of options."""
    tables = {
        table: {**values[table], **changes[table]}
        for table in OPTION_TABLES
        if table in changes and isinstance(values.get(table), Mapping)
    }
    return {**values, **changes, **tables}


def to_mapping(config: TrainConfig) -> dict[str, Any]:
    """The configuration as plain values that TOML and JSON can hold; unset loss options are left out."""
    values = {name: getattr(config, name) for name in FIELD_NAMES}
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in values.items() if value is not None
    }


def values_for(batching: str, config: TrainConfig, kept: Collection[str] = ()) -> dict[str, Any]:
    """The values of a configuration, for a batching that may be another.

    With another batching, values that are only the default of their own batching are left out.

    Args:
        batching: of the new configuration.
        config: of the old one.
        kept: fields to keep in any case.
    """
    own = BATCHING_DEFAULTS[config.batching] if batching != config.batching else {}
    left_out = {name for name, default in own.items() if name not in kept and getattr(config, name) == default}
    if "score" in left_out:
        left_out.add("temperature")
    return {name: value for name, value in to_mapping(config).items() if name not in left_out}
