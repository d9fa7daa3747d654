"""Command-line flags that narrow a search, made from the fields of `TrainConfig`."""

import dataclasses
from typing import Annotated, Any

from cyclopts import Parameter

from gru4rec.config.train_config import OPTION_TABLES, TrainConfig

FIXED_FIELDS = ("n_epochs", "seed", "device", "plugins")
"""Configuration keys that are the same in every trial."""


def _flag(item: "dataclasses.Field[Any]") -> tuple[str, Any, None]:
    about = item.metadata["about"]
    if item.name in OPTION_TABLES:
        return item.name, Annotated[dict[str, str] | None, Parameter(help=about)], None
    annotation = Annotated[list[str] | None, Parameter(help=about, negative=(), consume_multiple=True)]
    return item.name, annotation, None


SpaceFlags = dataclasses.make_dataclass(
    "SpaceFlags", [_flag(item) for item in dataclasses.fields(TrainConfig) if item.name not in FIXED_FIELDS]
)
"""One optional attribute per configuration field that can be searched: values or a range, as text."""
SpaceFlags.__module__ = __name__  # the flag library only opens classes that a module owns
