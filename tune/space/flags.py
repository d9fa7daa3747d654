"""Command-line flags that narrow a search, made from the fields of `TrainConfig`."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import Parameter

from gru4rec.config.train_config import TrainConfig
from tune.space.search_space import FIXED_FIELDS


def _flag(item: "dataclasses.Field[Any]") -> tuple[str, Any, None]:
    about = item.metadata["about"]
    if item.name in ("loss_options", "sampler_options"):
        return item.name, Annotated[dict[str, str] | None, Parameter(help=about)], None
    annotation = Annotated[list[str] | None, Parameter(help=about, negative=(), consume_multiple=True)]
    return item.name, annotation, None


SpaceFlags = dataclasses.make_dataclass(
    "SpaceFlags", [_flag(item) for item in dataclasses.fields(TrainConfig) if item.name not in FIXED_FIELDS]
)
"""One optional attribute per configuration field that can be searched: values or a range, as text."""
SpaceFlags.__module__ = __name__  # the flag library only opens classes that a module owns


def narrowed(flags: Any, file: Mapping[str, Any]) -> dict[str, Any]:
    """What narrows a search, for `tune.space.builder.search_space`: flags over what stands in a file."""
    given = {name: value for name, value in vars(flags).items() if value is not None}
    for table in ("loss_options", "sampler_options"):
        if table in given and isinstance(file.get(table), Mapping):
            given[table] = {**file[table], **given[table]}
    return {**file, **given}
