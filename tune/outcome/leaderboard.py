"""The trials of a search: results.parquet and results.csv for programs, the leaderboard for people."""

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table

from gru4rec.config.train_config import to_mapping
from gru4rec.data.polars_errors import writing_errors
from inference.shared.atomic import atomic_file
from tune.outcome.folder import versions
from tune.studies.finals import Finalist
from tune.trials.results import TrialResult, describe_model, rank
from tune.trials.trial import METRIC


def write_results(
    directory: Path, trials: Sequence[TrialResult], finalists: Sequence[Finalist], data_sha256: str
) -> None:
    """Write results.parquet and results.csv, a row per trial.

    Args:
        directory: of the search.
        trials: in the order of the rows.
        finalists: trials that were run again with other seeds; their columns begin with "repeat".
        data_sha256: digest of the training and validation data.
    """
    packages = {f"version_{name}": version for name, version in versions().items()}
    common = {"data_sha256": data_sha256, **packages, "version_python": platform.python_version()}
    by_number = {finalist.trial.number: finalist for finalist in finalists}
    rows = [_row(trial) | _repeats(by_number.get(trial.number)) | common for trial in trials]
    frame = pl.DataFrame(rows, infer_schema_length=None)
    with atomic_file(directory / "results.parquet") as file, writing_errors():
        frame.write_parquet(file)
    with atomic_file(directory / "results.csv") as file, writing_errors():
        frame.write_csv(file)


def _row(trial: TrialResult) -> dict[str, Any]:
    config = to_mapping(trial.config)
    config["layers"] = "/".join(map(str, trial.config.layers))
    config["plugins"] = ",".join(trial.config.plugins)
    for table in ("loss_options", "sampler_options"):
        config[table] = json.dumps(dict(config[table]), sort_keys=True)
    unset: dict[str, float | None] = dict.fromkeys(("temperature", "bpreg", "elu_param", "logq"))
    config["sample_alpha"] = trial.config.alpha
    number = ("events_per_second", "peak_memory_mib")
    return {
        "trial": trial.number,
        "status": trial.status,
        METRIC: trial.mrr,
        "recall@20": trial.recall,
        "best_epoch": trial.best_epoch,
        "epochs": trial.epochs,
        "seconds": trial.seconds,
        **{name: float(trial.metrics[name]) if name in trial.metrics else None for name in number},
        **unset,
        **config,
        "diverged_epoch": trial.metrics.get("diverged_epoch"),
        "diverged_step": trial.metrics.get("diverged_step"),
        "error": trial.error,
        "trial_id": trial.trial_id,
    }


def _repeats(finalist: Finalist | None) -> dict[str, Any]:
    return {
        "repeats": finalist.repeats if finalist else 0,
        "repeats_failed": len(finalist.failures) if finalist else 0,
        "repeat_mrr@20": finalist and finalist.mrr,
        "repeat_spread": finalist and finalist.spread,
        "repeat_best_epoch": finalist and finalist.best_epoch,
    }


def build_leaderboard(trials: Sequence[TrialResult], finalists: Sequence[Finalist] = (), rows: int = 10) -> Table:
    """A table of the best trials; finalists come first, in the order of their means."""
    table = Table(title=f"best of {len(trials)} trials", title_justify="left")
    again = [f"mean of {finalists[0].repeats} runs"] if finalists else []
    for name in ("trial", METRIC, *again, "recall@20", "epochs", "status", "s", "model"):
        table.add_column(name, justify="left" if name in ("status", "model") else "right", overflow="fold")
    first = {finalist.trial.number: finalist for finalist in finalists}
    order = [*(finalist.trial for finalist in finalists), *(t for t in rank(trials) if t.number not in first)]
    for trial in order[:rows]:
        finalist = first.get(trial.number)
        mean = f"{finalist.mrr:.4f} ± {finalist.spread:.4f}" if finalist else ""
        table.add_row(
            str(trial.number),
            f"{trial.mrr:.4f}",
            *([mean] if finalists else []),
            f"{trial.recall:.4f}",
            f"{trial.best_epoch}/{trial.epochs}",
            trial.status,
            f"{trial.seconds:.0f}",
            describe_model(trial.config),
        )
    return table
