"""From the user's settings to a search space.

The default is the official space (layers, batch, rates, dropouts, momentum), with the number of additional samples,
which is fixed there, searched by powers of two, over every registered loss and sampler. What a loss or sampler may be
searched over is registered with it, so a plugged-in one takes part without a line here. Whole-session mini-batches have
their own ranges, around the values they were developed with; where both batchings are searched, the number of samples
has the values that both have. Flags and files narrow any part of it.

In a grid only the dimensions that it names are varied, and by values, not ranges; everything else has its default of
training.
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gru4rec.config.train_config import (
    DEFAULT_TEMPERATURE,
    FIELD_NAMES,
    LOSS_OPTION_FIELDS,
    OPTION_TABLES,
    SESSION_PARALLEL,
    WHOLE_SESSION,
    TrainConfig,
    from_mapping,
)
from gru4rec.model.losses import LOSSES, get_loss
from gru4rec.training.samplers import SAMPLERS, get_sampler
from inference.shared.errors import UserError
from tune.space.dimensions import Dimension, choice, ladder, read_dimension, read_registered, span
from tune.space.flags import FIXED_FIELDS
from tune.space.search_space import Alternative, SearchSpace

RANGES: dict[str, dict[str, Dimension]] = {
    SESSION_PARALLEL: {
        "score": choice(["dot"]),
        "optimizer": choice(["adagrad"]),
        "precision": choice(["fp32"]),
        "n_recent": choice([0]),
        "layers": choice([64, 96, 100, *range(128, 513, 32)]),  # 100: one of the published best
        "batch_size": ladder(32, 256, 16),
        "learning_rate": ladder(0.01, 0.25, 0.005),
        "dropout_p_embed": ladder(0.0, 0.5, 0.05),
        "dropout_p_hidden": ladder(0.0, 0.7, 0.05),
        "momentum": ladder(0.0, 0.9, 0.05),
        "temperature": ladder(8.0, 32.0, 2.0),
        "n_sample": choice([0, *(1 << power for power in range(5, 14))]),
    },
    WHOLE_SESSION: {
        "score": choice(["cosine"]),
        "optimizer": choice(["adamw"]),
        "precision": choice(["auto"]),
        "n_recent": choice([0, 5, 10, 20]),
        "layers": choice([64, 96, *range(128, 513, 32)]),
        "batch_size": choice([512, 1024, 2048]),
        "learning_rate": span(5e-4, 1e-2, log=True),
        "dropout_p_embed": ladder(0.0, 0.6, 0.05),
        "dropout_p_hidden": ladder(0.0, 0.5, 0.05),
        "momentum": ladder(0.0, 0.9, 0.05),
        "temperature": ladder(8.0, 32.0, 2.0),
        "n_sample": choice([512, 1024, 2048, 4096, 8192]),
    },
}
"""What each batching is searched over; `n_sample` for the samplers that have it."""
ANY_BATCHING: dict[str, Dimension] = {
    "constrained_embedding": choice([True]),
    "embedding": choice([0]),
    "sample_alpha": ladder(0.0, 1.0, 0.1),
}
SAMPLING = ("n_sample", "sample_alpha")
ONLY_WHEN_NAMED = ("uniform", "in-batch", "full")
"""Built-in samplers that are no part of the default: two are ends of `popularity`, one costs the whole catalogue."""


def build_space(
    values: Mapping[str, Any],
    *,
    n_epochs: int,
    seed: int,
    plugins: tuple[str, ...] = (),
    grid: tuple[str, ...] | None = None,
) -> SearchSpace:
    """The default space, narrowed.

    Args:
        values: by configuration key, what `read_dimension` reads; the options of plugged-in losses and samplers are in
            the tables "loss_options" and "sampler_options".
        n_epochs: epochs of a trial that is not stopped early.
        seed: of every trial.
        plugins: the modules that registered losses or samplers; they are imported already.
        grid: the dimensions of a grid; None for a search.

    Raises:
        UserError: a key or a value does not exist, contradicts another, or has no effect in this space.
    """
    user = _UserValues(values, grid)
    usual = TrainConfig()
    names = user.names("batching", [SESSION_PARALLEL], usual.batching)
    batchings = tuple(_batching(name, user) for name in names)
    losses = tuple(_loss(name, user) for name in user.names("loss", LOSSES, usual.loss))
    by_default = [name for name in SAMPLERS if name not in ONLY_WHEN_NAMED]
    sampler_names = user.names("sampler", by_default, usual.sampler)
    samplers = _distinct_samplers([_sampler(name, names, user) for name in sampler_names])
    dimensions = {
        name: user.take(name, ANY_BATCHING[name], getattr(usual, name))
        for name in ("constrained_embedding", "embedding")
    }
    user.refuse_unused()
    if dimensions["constrained_embedding"].values == (True,) and dimensions["embedding"].values != (0,):
        raise UserError(
            "embedding: a constrained embedding has no width of its own; give constrained_embedding = false too"
        )
    fixed = {"n_epochs": n_epochs, "seed": seed, "plugins": list(plugins)}
    space = SearchSpace(dimensions, batchings, losses, samplers, fixed)
    for part in space.parts():
        part.model(lambda _, dimension: dimension.bounds[-1])
    return space


class _UserValues:
    """The user's values, and which of them no part of the space has used yet."""

    def __init__(self, values: Mapping[str, Any], grid: tuple[str, ...] | None):
        self.is_grid = grid is not None
        self._grid = grid or ()
        self._values = {key: value for key, value in values.items() if key not in OPTION_TABLES}
        available = [name for name in FIELD_NAMES if name not in (*FIXED_FIELDS, *OPTION_TABLES)]
        for what, keys in (("search space", self._values), ("grid", self._grid)):
            for key in keys:
                if key not in available and key.partition(".")[0] not in OPTION_TABLES:
                    raise UserError(
                        f"{what}: unknown key {key!r}; available: {', '.join((*available, *OPTION_TABLES))}"
                    )
        for table in OPTION_TABLES:
            options = values.get(table, {})
            if not isinstance(options, Mapping):
                raise UserError(f"{table}: expected a table of options, got {options!r}")
            self._values |= {f"{table}.{name}": value for name, value in options.items()}
        self._unused = {*self._values, *self._grid}

    def __contains__(self, key: str) -> bool:
        return key in self._values or key in self._grid

    def names(self, key: str, default: Iterable[str], usual: str) -> tuple[str, ...]:
        """The user's names of alternatives, or the default ones."""
        return tuple(map(str, self.take(key, choice(default), usual).bounds))

    def take(self, key: str, default: Dimension | None, usual: Any = None) -> Dimension:
        """The user's dimension of a key, its values checked, or the default.

        Args:
            key: of the configuration.
            default: without the user's; None where the user has to name values.
            usual: the one value without the user's, where a grid does not vary it.
        """
        self._unused.discard(key)
        if key in self._values:
            dimension = self._read(key)
        elif self.is_grid and key not in self._grid:
            dimension = choice([usual])
        elif default is None:
            raise UserError(f"{key}: expected values for --grid to try, got none; list some")
        else:
            dimension = default
        if self.is_grid:
            self._check_grid(key, dimension)
        return dimension

    def _check_grid(self, key: str, dimension: Dimension) -> None:
        if not dimension.values:
            low, high = dimension.bounds
            raise UserError(f"{key}: a grid has values, got the range {low:g}..{high:g}; list some")
        if len(dimension.values) > 1 and key not in self._grid:
            values = ", ".join(map(str, dimension.values))
            raise UserError(f"{key}: expected one value, or its name among those of --grid, got {values}")

    def _read(self, key: str) -> Dimension:
        dimension = read_dimension(key, self._values[key])
        if "." in key:  # an option of a plug-in
            return dimension
        allowing: dict[str, Any] = {"constrained_embedding": False, "score": "cosine"}
        allowing |= {"batching": WHOLE_SESSION} if key == "n_recent" else {}
        values = []
        for value in dimension.bounds:
            checked = getattr(from_mapping(allowing | {key: value}, source="search space"), key)
            if key == "layers":
                checked = checked[0] if len(checked) == 1 else value
            values.append(checked)
        return choice(values) if dimension.values else span(*values, log=dimension.distribution.log)

    def refuse_unused(self) -> None:
        """Fail for a value that no loss or sampler of the space has a use for."""
        for key in sorted(self._unused):
            is_of_loss = key in LOSS_OPTION_FIELDS or key.startswith("loss_options")
            kinds = {"temperature": "score", "momentum": "optimizer", "n_recent": "batching"}
            kind = kinds.get(key, "loss" if is_of_loss else "sampler")
            raise UserError(f"{key}: no {kind} of this search has such an option")


def _batching(name: str, user: _UserValues) -> Alternative:
    config = TrainConfig(batching=name)
    usual = {**vars(config), "layers": config.layers[0], "temperature": DEFAULT_TEMPERATURE}
    options: dict[str, Dimension] = {}
    for key, default in RANGES[name].items():
        if (
            key == "n_sample"
            or (key == "temperature" and "cosine" not in options["score"].values)
            or (key == "momentum" and "adagrad" not in options["optimizer"].values)
        ):
            continue
        fixed = key == "n_recent" and name == SESSION_PARALLEL
        options[key] = default if fixed else user.take(key, default, usual[key])
    return Alternative(name, options)


def _loss(name: str, user: _UserValues) -> Alternative:
    loss = get_loss(name)
    names = (*loss.options, *(["logq"] if loss.corrects_sampling else []))
    keys = {name if name in LOSS_OPTION_FIELDS else f"loss_options.{name}": name for name in names}
    options = _own_options(keys, loss.search_ranges, user)
    only_for_dot = tuple(key for key in options if keys[key] in loss.cosine_defaults and key not in user)
    return Alternative(name, options, only_for_dot=only_for_dot)


def _own_options(keys: Mapping[str, str], ranges: Mapping[str, Any], user: _UserValues) -> dict[str, Dimension]:
    """The options of a loss or a sampler that are searched: the user's, and those that it registered with a range."""
    return {
        key: user.take(key, read_registered(ranges[option]) if option in ranges else None)
        for key, option in keys.items()
        if key in user or (option in ranges and not user.is_grid)
    }


def _sampler(name: str, batchings: Sequence[str], user: _UserValues) -> Alternative:
    sampler = get_sampler(name)
    first, *others = (RANGES[batching]["n_sample"].values for batching in batchings)
    defaults = ANY_BATCHING | {"n_sample": choice(n for n in first if all(n in other for other in others))}
    usual = TrainConfig(batching=batchings[0])
    options: dict[str, Dimension] = {}
    parameters = list(inspect.signature(sampler.factory).parameters)[1:]  # the first is the support
    for option in SAMPLING:  # n_sample before sample_alpha, which depends on it
        if option in parameters:
            ranges = sampler.search_ranges
            default = read_registered(ranges[option]) if option in ranges else defaults[option]
            options[option] = user.take(option, default, getattr(usual, option))
    keys = {f"sampler_options.{option}": option for option in parameters if option not in SAMPLING}
    options |= _own_options(keys, sampler.search_ranges, user)
    n_sample = options.get("n_sample")
    if "sample_alpha" in user and "sample_alpha" in options and n_sample is not None and n_sample.values == (0,):
        raise UserError("sample_alpha: without additional samples it has no effect; raise n_sample or leave it out")
    return Alternative(name, options, bool(getattr(sampler.factory, "every_item", False)))


def _distinct_samplers(samplers: list[Alternative]) -> tuple[Alternative, ...]:
    """The samplers, where no model is left to two of them: `uniform` and `in-batch` are ends of `popularity`."""
    names = [sampler.name for sampler in samplers]
    for sampler in samplers:
        if sampler.name == "popularity" and "uniform" in names:
            _remove(sampler, "sample_alpha", 0.0, "uniform")
        rivals = {"popularity": ["in-batch"], "uniform": ["in-batch", "popularity"]}.get(sampler.name, [])
        rival = next((name for name in rivals if name in names), None)
        if rival:
            _remove(sampler, "n_sample", 0, rival)
    return tuple(samplers)


def _remove(sampler: Alternative, key: str, value: float, rival: str) -> None:
    """Leave a value of a dimension to another sampler."""
    dimension = sampler.options[key]
    if dimension.values == (value,):
        raise UserError(f"sampler: with {key} = {value:g} two of the samplers are the same; leave {rival!r} out")
    if dimension.values:
        sampler.options[key] = choice(other for other in dimension.values if other != value)
