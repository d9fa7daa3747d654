"""What a user asks of a search."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from inference.shared.columns import Columns

Search = Literal["optuna", "random"]


Rule = Literal["asha", "median", "none"]


@dataclass(frozen=True)
class Request:
    """The flags of a search, read.

    Attributes:
        train: click log or prepared folder.
        valid: click log to validate on; None holds the last tenth of the training sessions out.
        test: click log for the evaluation of the final model; None for none.
        out: folder of the search.
        columns: the names of the logs' columns.
        grid: dimensions of which every combination is tried; None for a search.
        search: what suggests the trials; of no account for a grid.
        scheduler: which trials are stopped early.
        n_trials: models to try, those of an earlier call included; 0 for a grid, which has its own number.
        n_epochs: of a trial that is not stopped early.
        seed: of the search and of every trial.
        storage: folder or URI that the trials are kept in; None for the folder of the search.
        address: of a Ray cluster; None for this machine, or the cluster whose job this is.
        gpus_per_trial: "auto" or a number.
        cpus_per_trial: None for an even share.
        threads: of the final training and evaluation; None for as many as a trial has.
        refit: whether the winner is trained again on training and validation sessions.
        published: whether the published best parameters are tried first.
        resume: whether to go on with the search that the folder holds.
        finalists: how many of the best trials are run again with other seeds; 0 for none.
        repeats: runs of each finalist, or of each point of a grid.
        time_budget: seconds for the trials; None for no limit.
        plugins: modules that register losses or samplers.
        narrowed: the search space, as `tune.space.builder.search_space` reads it.
    """

    train: Path
    valid: Path | None
    test: Path | None
    out: Path
    columns: Columns
    grid: tuple[str, ...] | None
    search: Search
    scheduler: Rule
    n_trials: int
    n_epochs: int
    seed: int
    storage: str | None
    address: str | None
    gpus_per_trial: str
    cpus_per_trial: int | None
    threads: int | None
    refit: bool
    published: bool
    resume: bool
    finalists: int
    repeats: int
    time_budget: float | None
    plugins: tuple[str, ...]
    narrowed: dict[str, Any]
