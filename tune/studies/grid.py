"""A grid: every combination of a few values.

    loss n_sample → (bpr, 0), (bpr, 32), … (top1-max, 8192), each with one seed; then all of them with the next seed

By default every point is trained to its last epoch, since a grid compares final quality. A seed is finished for all
points before the next one begins, so a grid that is interrupted, or gets more seeds later, is complete up to there.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from gru4rec.config.train_config import to_mapping
from tune.space.dimensions import Dimension
from tune.space.search_space import SearchSpace, model_key
from tune.studies.finals import Finalist, average_runs
from tune.trials.results import TrialResult


def iterate_models(space: SearchSpace, places: Sequence[int] = ()) -> Iterator[dict[str, Any]]:
    """All models of a space, the last dimension varied first.

    Args:
        space: whose dimensions have values, not ranges.
        places: of the values of the first dimensions, in the order in which the space asks for them; only models with
            these values are given.
    """
    sizes: list[int] = []

    def choose(_: str, dimension: Dimension) -> Any:
        place = places[len(sizes)] if len(sizes) < len(places) else 0
        sizes.append(len(dimension.values))
        return dimension.values[place]

    yield space.model(choose)
    for free in reversed(range(len(places), len(sizes))):
        zeros = [0] * (free - len(places))
        for place in range(1, sizes[free]):
            yield from iterate_models(space, [*places, *zeros, place])


def list_grid_models(space: SearchSpace, repeats: int) -> list[dict[str, Any]]:
    """The configuration values of all runs: every model with a seed, then every model with the next one.

    Args:
        space: of the grid.
        repeats: seeds.
    """
    models = list(iterate_models(space))
    return [model | {"seed": model["seed"] + repeat} for repeat in range(repeats) for model in models]


def average_points(trials: Sequence[TrialResult]) -> list[Finalist]:
    """The points of a grid that were run with several seeds, the best mean first.

    Args:
        trials: of the grid, in their order.
    """
    points: dict[str, list[TrialResult]] = {}
    for trial in trials:
        points.setdefault(model_key(to_mapping(trial.config)), []).append(trial)
    means = [average_runs(runs[0], runs) for runs in points.values() if len(runs) > 1]
    return sorted(means, key=lambda mean: (-mean.mrr, mean.trial.number))
