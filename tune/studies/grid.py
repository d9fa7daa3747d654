"""A grid: every combination of a few values, for studies.

    loss n_sample → (bpr, 0), (bpr, 32), … (top1-max, 8192), each with one seed; then all of them with the next seed

By default every point is trained to its last epoch, for a study compares what is at the end. A seed is finished for all
points before the next one begins, so a study that is interrupted, or is given more seeds later, is whole up to there.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gru4rec.config.train_config import to_mapping
from tune.settings import Rule
from tune.space.dimensions import Choice, Dimension
from tune.space.search_space import SearchSpace, model_key
from tune.studies.finals import Finalist, finalist_of
from tune.trials.results import TrialResult
from tune.trials.schedulers import scheduler
from tune.trials.searchers import ModelList


@dataclass(frozen=True)
class Grid:
    """A round of a study; `tune.studies.study` runs it.

    Attributes:
        models: configuration values of its runs.
        n_before: runs of earlier rounds.
        n_epochs: of a run that is not stopped early.
        rule: which runs are stopped early.
    """

    models: Sequence[dict[str, Any]]
    n_before: int
    n_epochs: int
    rule: Rule = "none"

    @property
    def n_trials(self) -> int:
        """Of this round."""
        return len(self.models)

    @property
    def n_total(self) -> int:
        """Of this round and the earlier ones."""
        return self.n_before + len(self.models)

    def searcher(self, over: Sequence[Mapping[str, Any]] = ()) -> Any:
        """Gives the runs one after the other, those that were over before like all others."""
        return ModelList(self.models, first_number=self.n_before + 1)

    def scheduler(self) -> Any:
        """The rule."""
        return scheduler(self.rule, self.n_epochs)


def every_model(space: SearchSpace) -> list[dict[str, Any]]:
    """All models of a space, the last dimension varied first.

    Args:
        space: whose dimensions have values, not ranges.
    """
    models: list[dict[str, Any]] = []
    choices: list[int] | None = []  # which value each dimension takes, in the order in which the space asks for them
    while choices is not None:
        model, counts = _model_at(space, choices)
        models.append(model)
        choices = _next(choices, counts)
    return models


def _model_at(space: SearchSpace, choices: Sequence[int]) -> tuple[dict[str, Any], list[int]]:
    """The model behind choices, beyond which the first value is taken; with how many values there were each time."""
    counts: list[int] = []

    def choose(_: str, dimension: Dimension) -> Any:
        assert isinstance(dimension, Choice)
        place = choices[len(counts)] if len(counts) < len(choices) else 0
        counts.append(len(dimension.values))
        return dimension.values[place]

    return space.model(choose), counts


def _next(choices: Sequence[int], counts: Sequence[int]) -> list[int] | None:
    """The choices that follow; None after the last."""
    padded = [*choices, *[0] * (len(counts) - len(choices))]
    for place in reversed(range(len(padded))):
        if padded[place] + 1 < counts[place]:
            return [*padded[:place], padded[place] + 1]
    return None


def runs(space: SearchSpace, repeats: int) -> list[dict[str, Any]]:
    """The configuration values of all runs: every model with a seed, then every model with the next one.

    Args:
        space: of the grid.
        repeats: seeds.
    """
    models = every_model(space)
    return [model | {"seed": model["seed"] + repeat} for repeat in range(repeats) for model in models]


def by_point(trials: Sequence[TrialResult]) -> list[Finalist]:
    """The points of a grid that were run with several seeds, the best mean first.

    Args:
        trials: of the grid, in their order.
    """
    keyed = sorted(trials, key=lambda trial: (_key(trial), trial.number))
    groups = [list(group) for _, group in itertools.groupby(keyed, key=lambda trial: _key(trial))]
    means = [finalist_of(group[0], group) for group in groups if len(group) > 1]
    return sorted(means, key=lambda mean: (-mean.mrr, mean.trial.number))


def _key(trial: TrialResult) -> str:
    return model_key(to_mapping(trial.config))
