"""The search space: which models a search may try.

A space is a function of an Optuna trial (define-by-run): it suggests only what the choices so far leave open, so that
no two points are the same model. `sample_alpha` exists only where samples are drawn, `logq` only for losses that it
corrects, `bpreg` and `elu_param` only for the loss that has them.

A space is plain data; `tune.narrowing` builds it from the registries of losses and samplers and from what the user asks
for. So other processes, and a resumed search, can read it without importing plug-ins first.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gru4rec.config import from_mapping, to_mapping
from tune.dimensions import Choice, Dimension, Suggester

POINT = "point"
"""Key of a search's own parameters in a trial's configuration."""
MODEL = "model"
"""Key of the `TrainConfig` values in a trial's configuration."""
EVERY_MODEL = ("layers", "batch_size", "learning_rate", "dropout_p_embed", "dropout_p_hidden", "momentum")
FIXED_FIELDS = (
    *("n_epochs", "seed", "device", "plugins"),
    *("batching", "score", "temperature", "optimizer", "precision"),  # a search walks the log as the papers do
)
"""Configuration keys that are the same in every trial."""

Chooser = Callable[[str, Dimension], Any]


@dataclass(frozen=True)
class Alternative:
    """A loss or a sampler that may be chosen, and what may be searched if it is.

    Attributes:
        name: as registered.
        options: dimensions by configuration key; "loss_options.x" is the option x of a plugged-in loss.
        every_item: of a sampler, whether it scores the whole catalogue, so that there is no sampling to correct.
    """

    name: str
    options: dict[str, Dimension] = field(default_factory=dict)
    every_item: bool = False


@dataclass(frozen=True)
class SearchSpace:
    """The models a search may try; called with an Optuna trial it suggests one.

    Attributes:
        dimensions: by configuration key, of what every model has.
        losses, samplers: the alternatives; one of each is chosen.
        fixed: configuration values that are the same in all trials.
    """

    dimensions: dict[str, Dimension]
    losses: tuple[Alternative, ...]
    samplers: tuple[Alternative, ...]
    fixed: dict[str, Any]

    def __call__(self, trial: Suggester) -> dict[str, Any]:
        """Suggest a model: {MODEL: a complete configuration as plain values}."""
        return {MODEL: self.model(lambda name, dimension: dimension.suggest(trial, f"{POINT}/{name}"))}

    def parameters(self, model: Mapping[str, Any]) -> dict[str, Any] | None:
        """What would have to be suggested to arrive at a model; None where the space does not hold it.

        Args:
            model: configuration values; n_epochs, seed, device and plugins play no part.
        """
        wanted = to_mapping(from_mapping(model))
        units = wanted["layers"]
        values = wanted | {"layers": units[0] if len(units) == 1 else "/".join(map(str, units))}
        suggested: dict[str, Any] = {}

        def choose(name: str, dimension: Dimension) -> Any:
            table, _, option = name.split("/")[-1].rpartition(".")
            value = values.get(table, {}).get(option) if table else values.get(option)
            parameter = dimension.parameter(value)
            if parameter is not None:
                suggested[f"{POINT}/{name}"] = parameter
            return value

        try:
            reached = self.model(choose)
        except LookupError:
            return None
        return suggested if model_key(reached) == model_key(wanted) else None

    def model(self, choose: Chooser) -> dict[str, Any]:
        """The configuration that choices lead to.

        Args:
            choose: gives a value of a dimension, by its name.

        Raises:
            UserError: the choices contradict each other.
        """
        loss = _alternative("loss", self.losses, choose)
        sampler = _alternative("sampler", self.samplers, choose)
        values: dict[str, Any] = {**self.fixed, "loss": loss.name, "sampler": sampler.name, "n_sample": 0}
        for name in (*EVERY_MODEL, "constrained_embedding"):
            values[name] = choose(name, self.dimensions[name])
        if not values["constrained_embedding"]:
            values["embedding"] = choose("embedding", self.dimensions["embedding"])
        for alternative in (sampler, loss):
            for name, dimension in alternative.options.items():
                if name == "sample_alpha" and not values["n_sample"]:
                    continue
                if name == "logq" and sampler.every_item:
                    continue
                value = choose(f"{alternative.name}/{name}", dimension)
                table, _, option = name.rpartition(".")
                if table:
                    values.setdefault(table, {})[option] = value
                else:
                    values[name] = value
        return to_mapping(from_mapping(values, source="search space"))


def model_key(model: Mapping[str, Any]) -> str:
    """Text that is equal for equal models, whatever their seed and number of epochs."""
    return json.dumps({key: value for key, value in model.items() if key not in FIXED_FIELDS}, sort_keys=True)


def _alternative(name: str, alternatives: tuple[Alternative, ...], choose: Chooser) -> Alternative:
    chosen = choose(name, Choice(tuple(alternative.name for alternative in alternatives)))
    return next(alternative for alternative in alternatives if alternative.name == chosen)
