"""From what the user asks for to a search space.

The default is the official space (layers, batch, rates, dropouts, momentum), with the number of additional samples,
which is fixed there, searched by magnitude, over every registered loss and sampler. What a loss or sampler may be
searched over stands where it is registered, so a plugged-in one takes part without a line here. Training on whole
sessions has ranges of its own, around the values that it was developed with; where both ways are searched, the number
of samples has the values that both have. Flags and files narrow any part of it.

In a grid only the dimensions that it names are varied, and by values, not ranges; whatever else is not given has the
default that it has in training, too.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gru4rec.config.files import parsed_toml
from gru4rec.config.train_config import (
    CHOICES,
    DEFAULT_TEMPERATURE,
    LOSS_OPTION_FIELDS,
    SESSION_PARALLEL,
    WHOLE_SESSION,
    TrainConfig,
    field_names,
    from_mapping,
)
from gru4rec.model.losses import LOSSES, get_loss
from gru4rec.training.samplers import SAMPLERS, SamplerChoice
from inference.shared.errors import UserError, unknown_choice
from tune.space.dimensions import Choice, Dimension, Span, declared, ladder, read_dimension
from tune.space.search_space import FIXED_FIELDS, Alternative, SearchSpace

RANGES: dict[str, dict[str, Dimension]] = {
    SESSION_PARALLEL: {
        "score": Choice(("dot",)),
        "optimizer": Choice(("adagrad",)),
        "precision": Choice(("fp32",)),
        "n_recent": Choice((0,)),
        "layers": Choice((64, 96, 100, *range(128, 513, 32))),  # 100: one of the published best
        "batch_size": ladder(32, 256, 16),
        "learning_rate": ladder(0.01, 0.25, 0.005),
        "dropout_p_embed": ladder(0.0, 0.5, 0.05),
        "dropout_p_hidden": ladder(0.0, 0.7, 0.05),
        "momentum": ladder(0.0, 0.9, 0.05),
        "temperature": ladder(8.0, 32.0, 2.0),
        "n_sample": Choice((0, *(1 << power for power in range(5, 14)))),
    },
    WHOLE_SESSION: {
        "score": Choice(("cosine",)),
        "optimizer": Choice(("adamw",)),
        "precision": Choice(("auto",)),
        "n_recent": Choice((0, 5, 10, 20)),
        "layers": Choice((64, 96, *range(128, 513, 32))),
        "batch_size": Choice((512, 1024, 2048)),
        "learning_rate": Span(5e-4, 1e-2, log=True),
        "dropout_p_embed": ladder(0.0, 0.6, 0.05),
        "dropout_p_hidden": ladder(0.0, 0.5, 0.05),
        "momentum": ladder(0.0, 0.9, 0.05),
        "temperature": ladder(8.0, 32.0, 2.0),
        "n_sample": Choice((512, 1024, 2048, 4096, 8192)),
    },
}
"""What each way of walking the log is searched over; `n_sample` for the samplers that have it."""
ANY_BATCHING: dict[str, Dimension] = {
    "constrained_embedding": Choice((True,)),
    "embedding": Choice((0,)),
    "sample_alpha": ladder(0.0, 1.0, 0.1),
}
SAMPLING = ("n_sample", "sample_alpha")
ONLY_WHEN_NAMED = ("uniform", "in-batch", "full")
"""Built-in samplers that are no part of the default: two are ends of `popularity`, one costs the whole catalogue."""
_FLOATS = (
    *("learning_rate", "dropout_p_embed", "dropout_p_hidden", "momentum", "temperature", "sample_alpha"),
    *LOSS_OPTION_FIELDS,
)
_WHOLE = ("layers", "batch_size", "n_sample", "embedding", "n_recent")
_TABLES = ("loss_options", "sampler_options")


def search_space(
    narrowed: Mapping[str, Any],
    *,
    n_epochs: int,
    seed: int,
    plugins: tuple[str, ...] = (),
    grid: tuple[str, ...] | None = None,
) -> SearchSpace:
    """The default space, narrowed.

    Args:
        narrowed: by configuration key, what `read_dimension` reads; options of plugged-in losses and samplers lie in
            the tables "loss_options" and "sampler_options".
        n_epochs: epochs of a trial that is not stopped early.
        seed: of every trial.
        plugins: the modules that registered losses or samplers; they are imported already.
        grid: the dimensions of a grid; None for a search.

    Raises:
        UserError: a key or a value does not exist, contradicts another, or has no effect in this space.
    """
    given = _Given(narrowed, grid)
    batchings = tuple(
        _batching(name, given) for name in given.names("batching", (SESSION_PARALLEL,), TrainConfig().batching, _known)
    )
    losses = tuple(_loss(name, given) for name in given.names("loss", tuple(LOSSES), TrainConfig().loss, get_loss))
    usual = tuple(name for name in SAMPLERS if name not in ONLY_WHEN_NAMED)
    names = given.names("sampler", usual, TrainConfig().sampler, _get_sampler)
    samplers = _without_doubles([_sampler(name, [batching.name for batching in batchings], given) for name in names])
    dimensions = {
        name: given.take(name, ANY_BATCHING[name], getattr(TrainConfig(), name))
        for name in ("constrained_embedding", "embedding")
    }
    given.refuse_unused()
    if dimensions["constrained_embedding"] == Choice((True,)) and dimensions["embedding"] != Choice((0,)):
        raise UserError(
            "embedding: a constrained embedding has no width of its own; give constrained_embedding = false too"
        )
    fixed = {"n_epochs": n_epochs, "seed": seed, "plugins": list(plugins)}
    space = SearchSpace(dimensions, batchings, losses, samplers, fixed)
    for batching in batchings:
        for loss in losses:
            for sampler in samplers:
                replace(space, batchings=(batching,), losses=(loss,), samplers=(sampler,)).model(_last)
    return space


def read_space(path: Path) -> dict[str, Any]:
    """What a TOML file narrows: configuration keys with a value, a list of values, or a table {low, high, step, log}.

    Raises:
        UserError: the file is missing or is no TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"space: expected a TOML file at {path}, got an error: {error}") from None
    return parsed_toml(text, path)


class _Given:
    """What the user gave, and which of it has found a use."""

    def __init__(self, narrowed: Mapping[str, Any], grid: tuple[str, ...] | None):
        self._grid = grid
        self._values = {key: value for key, value in narrowed.items() if key not in _TABLES}
        available = [name for name in field_names() if name not in (*FIXED_FIELDS, *_TABLES)]
        for what, keys in (("search space", self._values), ("grid", grid or ())):
            for key in keys:
                if key not in available and key.partition(".")[0] not in _TABLES:
                    raise UserError(f"{what}: unknown key {key!r}; available: {', '.join((*available, *_TABLES))}")
        for table in _TABLES:
            options = narrowed.get(table, {})
            if not isinstance(options, Mapping):
                raise UserError(f"{table}: expected a table of options, got {options!r}")
            self._values |= {f"{table}.{name}": value for name, value in options.items()}
        self._unused = {*self._values, *(grid or ())}

    def __contains__(self, key: str) -> bool:
        return key in self._values or key in (self._grid or ())

    @property
    def is_grid(self) -> bool:
        """Whether only what is named is varied."""
        return self._grid is not None

    def names(self, key: str, default: tuple[str, ...], usual: str, check: Callable[[str], Any]) -> tuple[str, ...]:
        """The given names of alternatives, or the default ones; `check` raises for unknown ones."""
        dimension = self.take(key, Choice(default), usual)
        names = tuple(map(str, dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high)))
        for name in names:
            check(name)
        return names

    def take(self, key: str, default: Dimension, usual: Any = None) -> Dimension:
        """The given dimension of a key, its values checked, or the default.

        Args:
            key: of the configuration.
            default: where nothing is given.
            usual: the one value where nothing is given and a grid does not vary it.
        """
        self._unused.discard(key)
        if key not in self._values:
            dimension = default if key in self or not self.is_grid else Choice((usual,))
        else:
            dimension = self._read(key)
        if self._grid is not None:
            _check_grid(key, dimension, self._grid)
        return dimension

    def _read(self, key: str) -> Dimension:
        dimension = read_dimension(key, self._values[key])
        if key in _FLOATS:
            if isinstance(dimension, Span):
                dimension = Span(float(dimension.low), float(dimension.high), dimension.log)
            elif dimension.ordered:
                dimension = Choice(tuple(map(float, dimension.values)))
        if (
            key in _WHOLE
            and isinstance(dimension, Span)
            and any(isinstance(n, float) for n in vars(dimension).values())
        ):
            raise UserError(f"{key}: expected a range of whole numbers, got {dimension.low}..{dimension.high}")
        if "." not in key:
            allowing = {"constrained_embedding": False, "score": "cosine"}
            allowing |= {"batching": WHOLE_SESSION} if key == "n_recent" else {}
            for value in dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high):
                from_mapping(allowing | {key: value}, source="search space")
        return dimension

    def refuse_unused(self) -> None:
        """Fail if something was given that no loss or sampler of the space has."""
        for key in sorted(self._unused):
            kind = {"temperature": "score", "momentum": "optimizer", "n_recent": "batching"}.get(key)
            if kind is None:
                kind = "loss" if key in LOSS_OPTION_FIELDS or key.startswith("loss_options") else "sampler"
            raise UserError(f"{key}: no {kind} of this search has such an option")


def _check_grid(key: str, dimension: Dimension, grid: tuple[str, ...]) -> None:
    if isinstance(dimension, Span):
        raise UserError(f"{key}: a grid has values, got the range {dimension.low:g}..{dimension.high:g}; list some")
    if len(dimension.values) > 1 and key not in grid:
        values = ", ".join(map(str, dimension.values))
        raise UserError(f"{key}: expected one value, or its name among those of --grid, got {values}")


def _known(batching: str) -> None:
    if batching not in RANGES:
        raise unknown_choice("batching", batching, list(CHOICES["batching"]))


def _batching(name: str, given: _Given) -> Alternative:
    usual = TrainConfig(batching=name)
    options: dict[str, Dimension] = {}
    for key, default in RANGES[name].items():
        if key == "n_sample":
            continue
        if key == "temperature" and "cosine" not in _values(options["score"]):
            continue
        if key == "momentum" and "adagrad" not in _values(options["optimizer"]):
            continue
        if key == "n_recent" and name == SESSION_PARALLEL:
            options[key] = default
            continue
        values = {**vars(usual), "layers": usual.layers[0], "temperature": DEFAULT_TEMPERATURE}
        options[key] = given.take(key, default, values[key])
    return Alternative(name, options)


def _values(dimension: Dimension) -> tuple[Any, ...]:
    return dimension.values if isinstance(dimension, Choice) else ()


def _loss(name: str, given: _Given) -> Alternative:
    loss = get_loss(name)
    ranges = {option: declared(values) for option, values in loss.search_ranges.items()}
    options: dict[str, Dimension] = {}
    only_for_dot = []
    for option in (*loss.options, *(["logq"] if loss.corrects_sampling else [])):
        key = option if option in LOSS_OPTION_FIELDS else f"loss_options.{option}"
        if key in given or (option in ranges and not given.is_grid):
            options[key] = given.take(key, ranges.get(option, Choice(())))
            if option in loss.cosine_defaults and key not in given:
                only_for_dot.append(key)
    return Alternative(name, options, only_for_dot=tuple(only_for_dot))


def _default_n_sample(batchings: Sequence[str]) -> Dimension:
    """What is searched with one way of walking the log, or with each of several."""
    first, *others = (RANGES[batching]["n_sample"] for batching in batchings)
    return Choice(tuple(n for n in _values(first) if all(n in _values(other) for other in others)))


def _sampler(name: str, batchings: Sequence[str], given: _Given) -> Alternative:
    sampler = _get_sampler(name)
    ranges = {option: declared(values) for option, values in sampler.search_ranges.items()}
    alpha = ranges.get("sample_alpha")
    if isinstance(alpha, Span):
        ranges["sample_alpha"] = ladder(float(alpha.low), float(alpha.high), 0.1)
    defaults = ANY_BATCHING | {"n_sample": _default_n_sample(batchings)}
    options: dict[str, Dimension] = {}
    parameters = list(inspect.signature(sampler.factory).parameters)[1:]  # the first is the support
    for option in dict.fromkeys((*SAMPLING, *parameters)):  # n_sample before sample_alpha, which depends on it
        if option not in parameters:
            continue
        key = option if option in SAMPLING else f"sampler_options.{option}"
        if option in SAMPLING:
            usual = getattr(TrainConfig(batching=batchings[0]), option)
            options[key] = given.take(key, ranges.get(option, defaults[option]), usual)
        elif key in given or (option in ranges and not given.is_grid):
            options[key] = given.take(key, ranges.get(option, Choice(())))
    if "sample_alpha" in given and options.get("n_sample") == Choice((0,)) and "sample_alpha" in options:
        raise UserError("sample_alpha: without additional samples it has no effect; raise n_sample or leave it out")
    return Alternative(name, options, bool(getattr(sampler.factory, "every_item", False)))


def _without_doubles(samplers: list[Alternative]) -> tuple[Alternative, ...]:
    """The samplers, each model left to one of them where `popularity` and its own ends are all to be tried."""
    names = [sampler.name for sampler in samplers]
    for sampler in samplers:
        n_sample, alpha = sampler.options.get("n_sample"), sampler.options.get("sample_alpha")
        if sampler.name == "popularity" and "uniform" in names and isinstance(alpha, Choice):
            sampler.options["sample_alpha"] = _less(alpha, 0.0, "sample_alpha", "uniform")
        rivals = {"popularity": ["in-batch"], "uniform": ["in-batch", "popularity"]}.get(sampler.name, [])
        rival = next((name for name in rivals if name in names), None)
        if rival and isinstance(n_sample, Choice):
            sampler.options["n_sample"] = _less(n_sample, 0, "n_sample", rival)
    return tuple(samplers)


def _less(dimension: Choice, value: float, key: str, rival: str) -> Choice:
    left = Choice(tuple(other for other in dimension.values if other != value))
    if not left.values:
        raise UserError(
            f"sampler: with {key} = {value:g} two of the samplers are one and the same; leave {rival!r} out"
        )
    return left


def _get_sampler(name: str) -> SamplerChoice:
    if name not in SAMPLERS:
        raise unknown_choice("sampler", name, list(SAMPLERS))
    return SAMPLERS[name]


def _last(_: str, dimension: Dimension) -> Any:
    return dimension.values[-1] if isinstance(dimension, Choice) else dimension.high
