"""One description of a training run, for flags, files and searches alike.

`TrainConfig` carries the official parameter names and ours. Its fields are the command-line flags (`--batch-size`), the
keys of a TOML file (`config_files`) and the keys of a search space; every one of these paths ends in the same
constructor and so in the same checks. Where the two ways of batching want different values, a field that is not set
takes its way's own default. Numbers are checked here; whether a loss or a sampler exists, and takes the options given,
is checked where those are registered, when a trainer is built, because plug-in modules must be imported first.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from inference.shared.errors import UserError, unknown_choice

LOSS_OPTION_FIELDS = ("bpreg", "elu_param", "logq")
"""Fields that belong to the loss; None means the loss's own default."""

SESSION_PARALLEL, WHOLE_SESSION = "session-parallel", "whole-session"
BATCHING_DEFAULTS: dict[str, dict[str, Any]] = {
    SESSION_PARALLEL: {
        "layers": (100,),
        "batch_size": 64,
        "dropout_p_embed": 0.0,
        "dropout_p_hidden": 0.0,
        "learning_rate": 0.05,
        "n_sample": 2048,
        "n_epochs": 10,
        "score": "dot",
        "optimizer": "adagrad",
        "precision": "fp32",
        "n_recent": 0,
    },
    WHOLE_SESSION: {
        "layers": (128,),
        "batch_size": 1024,
        "dropout_p_embed": 0.3,
        "dropout_p_hidden": 0.1,
        "learning_rate": 0.002,
        "n_sample": 4096,
        "n_epochs": 6,
        "score": "cosine",
        "optimizer": "adamw",
        "precision": "auto",
        "n_recent": 10,
    },
}
"""The defaults of the fields that depend on how the log is walked."""
CHOICES = {
    "batching": (SESSION_PARALLEL, WHOLE_SESSION),
    "score": ("dot", "cosine"),
    "optimizer": ("adagrad", "adamw"),
    "precision": ("auto", "fp32", "bf16", "tf32"),
}
DEFAULT_TEMPERATURE = 16.0
WIDEST_LAYER = 1 << 14


def _ranged(default: Any, low: float, high: float, *, open_high: bool = False, about: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "open_high": open_high, "about": about})


def _described(about: str) -> Any:
    return field(default=None, metadata={"about": about})


@dataclass(frozen=True)
class TrainConfig:
    """Every choice of a training run.

    Raises:
        UserError: a value has the wrong type, is out of range, or contradicts another one.
    """

    loss: str = field(default="cross-entropy", metadata={"about": "training loss"})
    batching: str = field(
        default=SESSION_PARALLEL,
        metadata={"about": "how the log is walked: session-parallel as in the papers, or whole-session"},
    )
    layers: tuple[int, ...] = _described("units of each GRU layer, e.g. 100 or 100/50")
    batch_size: int = _ranged(None, 1, 1 << 20, about="lanes (session-parallel) or targets (whole-session) per step")
    dropout_p_embed: float = _ranged(None, 0, 1, open_high=True, about="share of the input embedding dropped")
    dropout_p_hidden: float = _ranged(None, 0, 1, open_high=True, about="share of each GRU layer's output dropped")
    learning_rate: float = _ranged(None, 1e-12, 1e6, about="learning rate")
    momentum: float = _ranged(0.0, 0, 1, open_high=True, about="heavy-ball momentum of adagrad")
    n_sample: int = _ranged(
        None, 0, 1 << 24, about="additional negatives per step; 0 = the mini-batch's own targets only"
    )
    sample_alpha: float = _ranged(0.5, 0, 4, about="negatives are drawn in proportion to support ** alpha")
    embedding: int = _ranged(0, 0, 1 << 20, about="width of a separate input embedding; 0 = none")
    constrained_embedding: bool = field(
        default=True, metadata={"about": "one matrix for input embedding and output weights"}
    )
    n_epochs: int = _ranged(None, 1, 1 << 20, about="passes over the training sessions")
    score: str = _described("dot or cosine of the state and an item's output row")
    temperature: float | None = _ranged(
        None, 1e-3, 1e3, about=f"factor of cosine scores; {DEFAULT_TEMPERATURE:g} if unset"
    )
    n_recent: int = _ranged(
        None, 0, 256, about="last clicks of the session whose items get a learned bonus (whole-session); 0 = none"
    )
    optimizer: str = _described("adagrad, or adamw with warm-up and cosine decay")
    precision: str = _described("of matrix products: fp32, bf16, tf32 (GPUs), or auto: what the device is fast at")
    bpreg: float | None = _ranged(None, 0, 1e6, about="weight of the score regularisation of bpr-max")
    elu_param: float | None = _ranged(None, 0, 1e6, about="ELU on the scores of bpr-max; 0 = linear")
    logq: float | None = _ranged(None, 0, 1e6, about="strength of the sampling correction of cross-entropy")
    loss_options: Mapping[str, Any] = field(
        default_factory=dict, metadata={"about": "options of a plugged-in loss, e.g. --loss-options.margin 2"}
    )
    sampler: str = field(default="popularity", metadata={"about": "where additional negatives come from"})
    sampler_options: Mapping[str, Any] = field(
        default_factory=dict, metadata={"about": "options of a plugged-in sampler, in the same way"}
    )
    plugins: tuple[str, ...] = field(default=(), metadata={"about": "modules that register losses or samplers"})
    device: str = field(default="auto", metadata={"about": "auto, cpu, cuda or cuda:N"})
    seed: int = _ranged(42, 0, (1 << 63) - 1, about="seed of initial weights, negatives and dropout")

    def __post_init__(self) -> None:
        if self.batching not in CHOICES["batching"]:
            raise unknown_choice("batching", self.batching, list(CHOICES["batching"]))
        defaults = BATCHING_DEFAULTS[self.batching]
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            value = _converted(item.name, defaults.get(item.name) if value is None else value)
            object.__setattr__(self, item.name, value)
            _check_range(item, value)
        if not self.layers or min(self.layers) < 1:
            raise UserError(f"layers: expected at least one positive number of units, got {list(self.layers)}")
        if max(self.layers) > WIDEST_LAYER:
            raise UserError(f"layers: expected at most {WIDEST_LAYER:,} units, got {list(self.layers)}")
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

    def replace(self, **changes: Any) -> "TrainConfig":
        """A copy with some fields changed, checked again; for another `batching`, see `values_for`."""
        values = values_for(changes.get("batching", self.batching), self) | changes
        if changes.get("score") == "dot" and "temperature" not in changes:
            values.pop("temperature", None)
        return from_mapping(values)


def _converted(name: str, value: Any) -> Any:
    """The value in the field's own type; text is accepted for numbers, truth values and layer lists."""
    if name in ("loss", "sampler", "device", *CHOICES):
        if not isinstance(value, str) or not value:
            raise UserError(f"{name}: expected a name, got {value!r}")
        if value not in CHOICES.get(name, (value,)):
            raise unknown_choice(name, value, list(CHOICES[name]))
        return value
    if name == "layers":
        return _layers(value)
    if name == "plugins":
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, (list, tuple)) or not all(isinstance(module, str) and module for module in value):
            raise UserError(f"plugins: expected names of importable modules, got {value!r}")
        return tuple(value)
    if name in ("loss_options", "sampler_options"):
        if not isinstance(value, Mapping):
            raise UserError(f"{name}: expected a table of options, got {value!r}")
        return dict(value)
    if name == "constrained_embedding":
        return _truth(name, value)
    if name in ("batch_size", "n_sample", "embedding", "n_epochs", "n_recent", "seed"):
        return _whole_number(name, value)
    return None if value is None and name in (*LOSS_OPTION_FIELDS, "temperature") else _number(name, value)


def _layers(value: Any) -> tuple[int, ...]:
    if isinstance(value, str):
        value = [part for part in value.strip("[]() ").replace(",", "/").split("/") if part.strip()]
    elif isinstance(value, int):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise UserError(f"layers: expected numbers of units such as 100 or 100/50, got {value!r}")
    return tuple(_whole_number("layers", units) for units in value)


def _truth(name: str, value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false", "1", "0"):
        return value.lower() in ("true", "1")
    if value in (True, False):
        return bool(value)
    raise UserError(f"{name}: expected true or false, got {value!r}")


def _number(name: str, value: Any) -> float:
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{name}: expected a number, got {value!r}")
    return number


def _whole_number(name: str, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = _number(name, value)
    if number != int(number):
        raise UserError(f"{name}: expected a whole number, got {value!r}")
    return int(number)


def _check_range(item: "dataclasses.Field[Any]", value: Any) -> None:
    if "low" not in item.metadata or value is None:
        return
    low, high, open_high = item.metadata["low"], item.metadata["high"], item.metadata["open_high"]
    if not low <= value <= high or (open_high and value == high):
        upper = f"below {high}" if open_high else f"at most {high:g}"
        raise UserError(f"{item.name}: expected a value of at least {low:g} and {upper}, got {value}")


def field_names() -> list[str]:
    """The names of all configuration fields, in their order."""
    return [item.name for item in dataclasses.fields(TrainConfig)]


def from_mapping(values: Mapping[str, Any], source: str = "configuration") -> TrainConfig:
    """A configuration from key/value pairs.

    Args:
        values: field names and values; fields left out keep their default.
        source: where the values come from, for the error message.

    Raises:
        UserError: a key is unknown, or a value is refused by `TrainConfig`.
    """
    unknown = [key for key in values if key not in field_names()]
    if unknown:
        raise UserError(f"{source}: unknown key {unknown[0]!r}; available: {', '.join(field_names())}")
    try:
        return TrainConfig(**values)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def to_mapping(config: TrainConfig) -> dict[str, Any]:
    """The configuration as plain values that TOML and JSON can hold; unset loss options are left out."""
    values = {name: getattr(config, name) for name in field_names()}
    values["layers"] = list(config.layers)
    values["plugins"] = list(config.plugins)
    return {name: value for name, value in values.items() if value is not None}


def values_for(batching: str, config: TrainConfig, kept: Collection[str] = ()) -> dict[str, Any]:
    """The values of a configuration, for a way of batching that may be another.

    What is only a default of its own way, and not among the fields that are kept, is then left out.
    """
    own = BATCHING_DEFAULTS[config.batching] if batching != config.batching else {}
    left_out = {name for name, default in own.items() if name not in kept and getattr(config, name) == default}
    if "score" in left_out:
        left_out.add("temperature")
    return {name: value for name, value in to_mapping(config).items() if name not in left_out}
