"""What a user asks of a search: the flags of `python -m tune.search`, and the fields a program sets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from gru4rec.commands.column_flags import ColumnFlags
from inference.shared.columns import Columns
from inference.shared.errors import UserError

Algorithm = Literal["optuna", "random"]
Rule = Literal["asha", "median", "none"]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """The settings of a search; this text is the help of their flags. Properties give the defaults of unset fields.

    Attributes:
        train: click log (TSV, CSV, JSON lines, parquet) or prepared folder
        out: folder for the results: model.onnx, best.toml, results.csv, report.html and more
        valid: click log or prepared folder to validate on; without it, the last tenth of the training sessions
        test: click log or prepared folder on which the final model is evaluated, once
        grid: names of parameters; every combination of their values is tried, in place of a search
        search: optuna learns from the trials so far, random does not [default: optuna]
        scheduler: which trials are stopped early: asha (after 1, 3, 9 … epochs, about one trial in three continues),
            median (a trial below the median of the others is stopped) or none [default: asha; none for a grid]
        trials: models to try; a larger number extends a finished search [default: 20]
        epochs: passes over the training sessions, for a trial that is not stopped early
        seed: of the search and of every trial
        storage: folder or URI (s3://bucket/folder) for the checkpoints of the trials, where the nodes of a cluster do
            not share the folder of the search [default: OUT/trials]
        address: of a Ray cluster; without it, trials run on this machine (or on the cluster whose job this is)
        gpus_per_trial: auto (one if there are any), 0, a share such as 0.25, or a number
        cpus_per_trial: CPUs, and so threads, of a trial [default: an even share]
        refit: train the winner again on training and validation sessions; otherwise keep it as it was
        seeds: try the published best parameters first, as at most half of the trials [default: yes]
        resume: resume the search that is in the folder; otherwise a folder with a search is refused
        finalists: run this many of the best trials again, with other seeds, and choose the winner by these runs
        repeats: runs of each finalist [default: 3], or of each point of a grid [default: 1], each with another seed
        time_budget: for the trials, such as 90s, 30m or 2h; then the best model so far is trained
        space: TOML file that narrows the search space (learning_rate = {low = 0.01, high = 0.1}); flags win over it
        plugins: module that registers losses or samplers
        threads: CPU threads of the final training and evaluation [default: as many as a trial has]
        column_flags: names of the columns
        space_values: what narrows the search space, by configuration key, as `tune.space.dimensions` reads it

    Raises:
        UserError: a value is out of range, or contradicts another.
    """

    train: Path
    out: Path
    valid: Path | None = None
    test: Path | None = None
    grid: Annotated[list[str] | None, Parameter(negative=(), consume_multiple=True)] = None
    search: Algorithm | None = None
    scheduler: Rule | None = None
    trials: int | None = None
    epochs: int = 10
    seed: int = 42
    storage: str | None = None
    address: str | None = None
    gpus_per_trial: str = "auto"
    cpus_per_trial: int | None = None
    refit: bool = True
    seeds: bool | None = None
    resume: bool = True
    finalists: int = 0
    repeats: int | None = None
    time_budget: str | None = None
    space: Path | None = None
    plugins: Annotated[tuple[str, ...], Parameter(name="--plugin", negative=(), show_default=False)] = ()
    threads: int | None = None
    column_flags: ColumnFlags = ColumnFlags()
    space_values: Annotated[Mapping[str, Any], Parameter(parse=False)] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("trials", "epochs", "repeats", "cpus_per_trial"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name.replace('_', '-')}: expected at least 1, got {value}")
        if self.finalists < 0:
            raise UserError(f"finalists: expected at least 0, got {self.finalists}")
        if self.grid is not None and not self.grid:
            raise UserError("grid: expected the names of parameters, such as --grid loss n_sample")
        for name in ("trials", "search", "finalists", "seeds"):
            if self.grid is not None and getattr(self, name) != getattr(SearchSettings, name):
                raise UserError(f"{name}: a grid tries every combination, each with --repeats seeds; leave it out")
        if self.grid is None and self.repeats is not None and not self.finalists:
            raise UserError(
                "repeats: expected --finalists or --grid with it, whose runs it counts; give one or leave it out"
            )
        if self.time_budget is not None:
            parse_duration(self.time_budget)

    @property
    def columns(self) -> Columns:
        """The names of the logs' columns."""
        return self.column_flags.as_columns()

    @property
    def grid_keys(self) -> tuple[str, ...] | None:
        """Configuration keys of which every combination is tried; None for a search."""
        if self.grid is None:
            return None
        return tuple(name.replace("-", "_") for part in self.grid for name in part.split(","))

    @property
    def algorithm(self) -> Algorithm:
        """What suggests the trials of a search."""
        return self.search or "optuna"

    @property
    def rule(self) -> Rule:
        """Which trials are stopped early."""
        return self.scheduler or ("asha" if self.grid is None else "none")

    @property
    def n_repeats(self) -> int:
        """Runs of each finalist, or of each point of a grid."""
        return self.repeats or (3 if self.grid is None else 1)

    @property
    def time_limit(self) -> float | None:
        """Seconds for the trials; None for no limit."""
        return None if self.time_budget is None else parse_duration(self.time_budget)


def parse_duration(duration: str) -> float:
    """Seconds of a duration such as 90, 90s, 30m or 2h.

    Raises:
        UserError: it is no positive duration.

    >>> parse_duration("1.5h")
    5400.0
    """
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (duration[:-1], units[duration[-1]]) if duration[-1:] in units else (duration, 1)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UserError(f"time-budget: expected a duration such as 90s, 30m or 2h, got {duration!r}")
    return seconds
