"""The command-line flags of the fields of `TrainConfig`, and the configuration that they give.

A flag has no default of its own: it stays None unless it is set, so that a configuration file can provide the value
and, after that, the field's default. Precedence: flag, file, default.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, get_args

from cyclopts import Parameter

from gru4rec.config.files import parse_config
from gru4rec.config.train_config import (
    BATCHING_DEFAULTS,
    FIELDS,
    LOSS_OPTION_FIELDS,
    OPTION_TABLES,
    SESSION_PARALLEL,
    WHOLE_SESSION,
    TrainConfig,
    format_value,
    from_mapping,
    merge,
    values_for,
)
from inference.shared.errors import UserError

KEPT_FROM_MODEL = ("layers", "score", "optimizer", "learning_rate", "n_recent")
"""What a model keeps when it is trained further with another batching: its shape, its optimiser and learning rate."""
_FLAG_TYPES: dict[Any, Any] = {tuple[int, ...]: str, tuple[str, ...]: list[str], Mapping[str, Any]: dict[str, str]}


def _flag(item: "dataclasses.Field[Any]") -> tuple[str, Any, None]:
    kind = get_args(item.type)[0] if isinstance(item.type, UnionType) else item.type
    usual, whole_session = (defaults.get(item.name, item.default) for defaults in BATCHING_DEFAULTS.values())
    about = item.metadata["about"]
    if item.name in LOSS_OPTION_FIELDS:
        about += " [default: the loss's own]"
    elif usual != whole_session:
        about += f" [default: {format_value(usual)}; whole-session: {format_value(whole_session)}]"
    elif isinstance(usual, str | int | float):
        about += f" [default: {usual}]"
    parameter = Parameter(name="--plugin" if item.name == "plugins" else None, help=about, negative_iterable=())
    return item.name, Annotated[_FLAG_TYPES.get(kind, kind) | None, parameter], None


ConfigFlags = dataclasses.make_dataclass("ConfigFlags", [_flag(item) for item in FIELDS])
"""One optional attribute per configuration field."""
ConfigFlags.__module__ = __name__  # cyclopts opens only classes that belong to a module
Parameter(name="*", group="Configuration")(ConfigFlags)


def read_flags(flags: Any) -> dict[str, Any]:
    """The fields that the command line sets."""
    values = {name: value for name, value in vars(flags).items() if value is not None}
    for table in OPTION_TABLES:
        if table in values:
            values[table] = {key: _parse_option(text) for key, text in values[table].items()}
    return values


def resolve_config(flags: Any, file: Path | None, base: TrainConfig | None = None) -> TrainConfig:
    """The configuration that flags, a file and the defaults give together.

    Args:
        flags: of the command line, a `ConfigFlags`.
        file: TOML, or an official parameter file.
        base: configuration of a model to start from. It gives the defaults, except for the options of another loss or
            sampler. With another batching, only `KEPT_FROM_MODEL` and values that are no defaults come from it.

    Raises:
        UserError: the file cannot be read, or a value is refused.
    """
    from_file = parse_config(file) if file else {}
    values = merge(from_file, read_flags(flags))
    try:
        return from_mapping(_base_values(base, values) | values)
    except UserError:
        from_mapping(from_file, source=str(file))  # blames the file where the fault is its own
        raise


def _base_values(base: TrainConfig | None, values: dict[str, Any]) -> dict[str, Any]:
    if base is None:
        return {}
    batching = str(values.get("batching", base.batching))
    if base.n_recent and batching == SESSION_PARALLEL:
        raise UserError(
            f"batching: the model to start from has a bonus for recent clicks (n_recent = {base.n_recent}), which is "
            f"learnt with {WHOLE_SESSION} only; leave batching out, or train without a model to start from"
        )
    defaults = values_for(batching, base, kept=KEPT_FROM_MODEL)
    for choice, options in (
        ("loss", (*LOSS_OPTION_FIELDS, "loss_options")),
        ("sampler", ("sampler_options",)),
        ("score", ("temperature",)),
    ):
        if values.get(choice, defaults.get(choice)) != defaults.get(choice):
            defaults = {name: value for name, value in defaults.items() if name not in options}
    return defaults


def _parse_option(text: str) -> Any:
    """The value of a plug-in's option: what TOML reads, or else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
