"""Command-line flags made from the fields of `TrainConfig`.

The flags have no defaults of their own: what is not given stays unset, so that a configuration file can provide it and,
after that, the field's default. Precedence: flag, file, default.
"""

import dataclasses
import tomllib
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from gru4rec.config.files import parsed_config
from gru4rec.config.train_config import (
    BATCHING_DEFAULTS,
    LOSS_OPTION_FIELDS,
    SESSION_PARALLEL,
    WHOLE_SESSION,
    TrainConfig,
    from_mapping,
    values_for,
)
from inference.shared.errors import UserError

_SPECIAL_TYPES: dict[str, Any] = {
    "layers": str,
    "plugins": list[str],
    "loss_options": dict[str, str],
    "sampler_options": dict[str, str],
}


OF_THE_MODEL = ("layers", "score", "optimizer", "learning_rate", "n_recent")
"""What stays a model's where it is trained on with another batching: its shape, and its optimiser with its pace."""


def _flag(item: "dataclasses.Field[Any]") -> tuple[str, Any, None]:
    usual, whole_session = (defaults.get(item.name, item.default) for defaults in BATCHING_DEFAULTS.values())
    kind = _SPECIAL_TYPES.get(item.name) or (float if usual is None else type(usual))
    about = item.metadata["about"]
    if item.name in LOSS_OPTION_FIELDS:
        about += " [default: the loss's own]"
    elif usual != whole_session:
        about += f" [default: {_shown(usual)}; whole-session: {_shown(whole_session)}]"
    elif item.name not in _SPECIAL_TYPES and usual is not None:
        about += f" [default: {usual}]"
    name = "--plugin" if item.name == "plugins" else None
    return item.name, Annotated[kind | None, Parameter(name=name, help=about, negative_iterable=())], None


def _shown(default: Any) -> str:
    return "/".join(map(str, default)) if isinstance(default, tuple) else str(default)


ConfigFlags = dataclasses.make_dataclass("ConfigFlags", [_flag(item) for item in dataclasses.fields(TrainConfig)])
"""One optional attribute per configuration field."""
ConfigFlags.__module__ = __name__  # the flag library only opens classes that a module owns


def given(flags: Any) -> dict[str, Any]:
    """The fields that were set on the command line."""
    values = {name: value for name, value in vars(flags).items() if value is not None}
    for table in ("loss_options", "sampler_options"):
        if table in values:
            values[table] = {key: _literal(text) for key, text in values[table].items()}
    return values


def configuration(flags: Any, file: Path | None, base: TrainConfig | None = None) -> TrainConfig:
    """The configuration of flags over a file over the defaults.

    Args:
        flags: of the command line.
        file: TOML or an official parameter file.
        base: of a model to begin from; gives the defaults, options of another loss or sampler excepted. With another
            batching, what the model does not decide and what only was a default is the default of that batching.

    Raises:
        UserError: the file cannot be read, or a value is refused.
    """
    written = parsed_config(file) if file else {}
    flagged = given(flags)
    for table in ("loss_options", "sampler_options"):
        if table in flagged and isinstance(written.get(table), dict):
            flagged[table] = written[table] | flagged[table]
    values = written | flagged
    try:
        return from_mapping(_defaults_from(base, values) | values, source="configuration")
    except UserError:
        from_mapping(written, source=str(file))  # if it is the file's own fault, say so
        raise


def _defaults_from(base: TrainConfig | None, values: dict[str, Any]) -> dict[str, Any]:
    if base is None:
        return {}
    batching = str(values.get("batching", base.batching))
    if base.n_recent and batching == SESSION_PARALLEL:
        raise UserError(
            f"batching: the model to begin from has a bonus for recent clicks (n_recent = {base.n_recent}), which is "
            f"learnt with {WHOLE_SESSION} only; leave batching out, or train without a model to begin from"
        )
    defaults = values_for(batching, base, kept=OF_THE_MODEL)
    for chosen, options in (
        ("loss", (*LOSS_OPTION_FIELDS, "loss_options")),
        ("sampler", ("sampler_options",)),
        ("score", ("temperature",)),
    ):
        if values.get(chosen, defaults.get(chosen)) != defaults.get(chosen):
            defaults = {name: value for name, value in defaults.items() if name not in options}
    return defaults


def _literal(text: str) -> Any:
    """The value of an option of a plug-in: a TOML value where it is one, else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
