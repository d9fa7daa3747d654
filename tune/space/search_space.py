"""The search space: which models a search may try.

A space is a function of an Optuna trial (define-by-run): it suggests only what the choices so far leave open, so that
no two points are the same model. `sample_alpha` exists only where samples are drawn, `logq` only for losses that it
corrects, `bpreg` and `elu_param` only for the loss that has them, `temperature` only for cosine scores, `momentum` only
for adagrad. Each kind of mini-batches has its own ranges.

A space is plain data; `tune.space.builder` builds it from the registries of losses and samplers and from the user's
settings. So other processes, and a resumed search, can read it without importing plug-ins first.
"""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from optuna.trial import BaseTrial

from gru4rec.config.train_config import WHOLE_SESSION, from_mapping, to_mapping
from tune.space.dimensions import Dimension, choice
from tune.space.flags import FIXED_FIELDS

POINT = "point"
"""Key of a search's own parameters in a trial's configuration."""
MODEL = "model"
"""Key of the `TrainConfig` values in a trial's configuration."""

Chooser = Callable[[str, Dimension], Any]


@dataclass(frozen=True)
class Alternative:
    """A batching, a loss or a sampler that may be chosen, and what may be searched if it is.

    Attributes:
        name: as registered.
        options: dimensions by configuration key; "loss_options.x" is the option x of a plugged-in loss. A batching has
            score and optimizer, and has them first.
        every_item: of a sampler, whether it scores the whole catalogue, so that there is no sampling to correct.
        only_for_dot: options of a loss that keep their defaults where scores are cosines.
    """

    name: str
    options: dict[str, Dimension] = field(default_factory=dict)
    every_item: bool = False
    only_for_dot: tuple[str, ...] = ()


@dataclass(frozen=True)
class SearchSpace:
    """The models a search may try; called with an Optuna trial it suggests one.

    Attributes:
        dimensions: by configuration key, of what every model has, whichever alternatives are chosen.
        batchings, losses, samplers: the alternatives; one of each is chosen.
        fixed: configuration values that are the same in all trials.
    """

    dimensions: dict[str, Dimension]
    batchings: tuple[Alternative, ...]
    losses: tuple[Alternative, ...]
    samplers: tuple[Alternative, ...]
    fixed: dict[str, Any]

    def __call__(self, trial: BaseTrial) -> dict[str, Any]:
        """Suggest a model: {MODEL: a complete configuration as plain values}."""
        return {MODEL: self.model(lambda name, dimension: dimension.suggest(trial, f"{POINT}/{name}"))}

    def parts(self) -> Iterator["SearchSpace"]:
        """The space of every combination of a batching, a loss and a sampler."""
        for batching, loss, sampler in itertools.product(self.batchings, self.losses, self.samplers):
            yield replace(self, batchings=(batching,), losses=(loss,), samplers=(sampler,))

    def as_plain(self) -> dict[str, Any]:
        """The space as the folder of a search keeps it, as values of JSON."""

        def plain(dimensions: Mapping[str, Dimension]) -> dict[str, Any]:
            return {name: dimension.as_plain() for name, dimension in dimensions.items()}

        kinds = {"batchings": self.batchings, "losses": self.losses, "samplers": self.samplers}
        alternatives = {kind: {one.name: plain(one.options) for one in ones} for kind, ones in kinds.items()}
        return {"dimensions": plain(self.dimensions), **alternatives, "fixed": self.fixed}

    def parameters(self, model: Mapping[str, Any]) -> dict[str, Any] | None:
        """What Optuna would have to suggest to arrive at a model; None where the space does not hold it.

        Args:
            model: configuration values; n_epochs, seed, device and plugins are ignored.
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
        batching = _alternative("batching", self.batchings, choose)
        loss = _alternative("loss", self.losses, choose)
        sampler = _alternative("sampler", self.samplers, choose)
        values: dict[str, Any] = {**self.fixed, "batching": batching.name, "loss": loss.name, "sampler": sampler.name}
        if "n_sample" not in sampler.options:
            values["n_sample"] = 0
        values["constrained_embedding"] = choose("constrained_embedding", self.dimensions["constrained_embedding"])
        if not values["constrained_embedding"]:
            values["embedding"] = choose("embedding", self.dimensions["embedding"])
        for alternative in (batching, sampler, loss):
            for name, dimension in alternative.options.items():
                if _has_no_effect(name, values, alternative, sampler):
                    continue
                value = choose(f"{alternative.name}/{name}", dimension)
                table, _, option = name.rpartition(".")
                if table:
                    values.setdefault(table, {})[option] = value
                else:
                    values[name] = value
        return to_mapping(from_mapping(values, source="search space"))


def _has_no_effect(name: str, values: Mapping[str, Any], alternative: Alternative, sampler: Alternative) -> bool:
    """Whether an option of an alternative has no effect, given the values chosen so far."""
    if values.get("score") == "cosine" and name in alternative.only_for_dot:
        return True
    return {
        "temperature": values.get("score") != "cosine",
        "momentum": values.get("optimizer") != "adagrad",
        "sample_alpha": not values.get("n_sample"),
        "logq": sampler.every_item or (values["batching"] == WHOLE_SESSION and not values.get("n_sample")),
    }.get(name, False)


def model_key(model: Mapping[str, Any]) -> str:
    """Text that is equal for equal models, whatever their seed and number of epochs."""
    return json.dumps({key: value for key, value in model.items() if key not in FIXED_FIELDS}, sort_keys=True)


def _alternative(name: str, alternatives: tuple[Alternative, ...], choose: Chooser) -> Alternative:
    by_name = {alternative.name: alternative for alternative in alternatives}
    return by_name[choose(name, choice(by_name))]
