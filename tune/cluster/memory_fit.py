"""Run as many trials at once as fit into memory, and refuse a search if not even one does.

Which models of a space will run at the same time is not known beforehand, so every trial gets the memory of the largest
one. Ray reserves it on the node that runs the trial.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from gru4rec.commands.terminal import print_status
from gru4rec.config.train_config import TrainConfig, from_mapping
from gru4rec.data.sessions import EncodedLog
from gru4rec.model.device import choose_device
from gru4rec.training.memory import GIB, Forecast, forecast
from inference.shared.errors import UserError
from tune.cluster.cluster import Cluster, TrialResources, count_concurrent, trial_resources
from tune.space.dimensions import Dimension
from tune.space.search_space import SearchSpace

_TAKE_MORE = ("cosine", "adamw")
"""Scores that need a second copy of the table, and the optimiser that always has two numbers per parameter."""


def forecast_largest(space: SearchSpace, log: EncodedLog, device: str) -> Forecast:
    """The memory of the largest model of a space.

    Args:
        space: of the search.
        log: that trials train on.
        device: that they train on.
    """
    forecasts = (forecast(log, config, choose_device(device), validates=True) for config in _largest_models(space))
    return max(forecasts, key=lambda expected: expected.needed)


def _largest_models(space: SearchSpace) -> Iterator[TrainConfig]:
    """Of every combination of alternatives, the largest model with each of the possible layers."""
    for part in space.parts():
        for units in part.batchings[0].options["layers"].bounds:

            def choose(name: str, dimension: Dimension, units: Any = units) -> Any:
                return units if name.endswith("/layers") else max(dimension.bounds, key=_size)

            yield from_mapping(part.model(choose))


def _size(value: Any) -> float:
    """A number that is larger for values that take more memory; a constrained embedding has no table of its own."""
    if isinstance(value, bool):
        return float(not value)
    return float(value in _TAKE_MORE if isinstance(value, str) else value or 0)


def plan_resources(
    cluster: Cluster, expected: Forecast, *, gpus: str, cpus: int | None, n_trials: int, free_gpu: int | None = None
) -> TrialResources:
    """What each trial gets; if memory allows only a few at once, these share all processors, and the user is told.

    Args:
        cluster: where they run.
        expected: memory of the largest model.
        gpus, cpus, n_trials: as in `tune.cluster.cluster.trial_resources`.
        free_gpu: bytes that are free on a graphics card; None if trials do not use one or it is in another machine.

    Raises:
        UserError: the cluster does not have these resources, or no node has memory for a trial.
    """
    wanted = trial_resources(cluster, gpus=gpus, cpus=cpus, n_trials=n_trials)
    host = expected.peak if expected.device.type == "cpu" else expected.resident
    plan = replace(wanted, memory=host)
    usable = [node for node in cluster.nodes if node.cpus >= wanted.cpus and node.gpus >= wanted.gpus]
    most = max(host if node.memory is None else node.memory for node in usable)
    if most < host:
        raise _too_large(expected, f"{cluster.name} has {_gib(most)}" + (" on a node" if cluster.address else ""))
    if wanted.gpus and free_gpu is not None:
        fit = free_gpu // max(1, expected.needed)
        if not fit:
            raise _too_large(expected, f"the graphics card has {_gib(free_gpu)}")
        plan = replace(plan, gpus=max(wanted.gpus, int(10_000 / fit) / 10_000))  # Ray counts ten-thousandths
    before, at_once = count_concurrent(cluster, wanted), count_concurrent(cluster, plan)
    if at_once >= min(before, n_trials):
        return plan
    shared = trial_resources(cluster, gpus=f"{plan.gpus:g}", cpus=cpus, n_trials=at_once)
    print_status(
        f"memory: a trial may take {_gib(max(host, expected.needed))}, so {at_once} run at once "
        f"instead of {min(before, n_trials)}"
    )
    return replace(plan, cpus=shared.cpus)


def _too_large(expected: Forecast, found: str) -> UserError:
    return UserError(
        f"memory: the largest model of this search takes {expected}, {_gib(expected.peak)} with data and program, and "
        f"{found} available; narrow --layers, --n-sample or --batch-size, or take a machine with more memory"
    )


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"
