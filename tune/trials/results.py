"""What came out of a search: its trials, in order of quality.

The trials are read from what Ray Tune keeps in the search's folder, never from memory alone: a search that was
interrupted, or that ran in another process, is read the same way.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ray import tune as ray_tune

from gru4rec.config.train_config import SESSION_PARALLEL, TrainConfig, from_mapping
from inference.shared.errors import UserError, one_line
from tune.cluster.storage import is_whole, newest_state
from tune.space.search_space import MODEL
from tune.trials.searchers import NUMBER
from tune.trials.trial import HISTORY, METRIC

Status = Literal["finished", "stopped", "diverged", "failed", "unfinished"]
"""`stopped` early by the scheduler, `failed` even after trying again, `unfinished` as the search ended."""
UNKNOWN_ERROR = "the trial's process ended without saying why"


@dataclass(frozen=True)
class TrialResult:
    """One trial.

    Attributes:
        number: from 1, in the order in which they were suggested.
        trial_id: Ray's name of it.
        status: how it ended.
        config: the model that was tried.
        mrr, recall: at 20, of its best epoch on the validation sessions; 0 before an epoch is over.
        best_epoch: by MRR@20, from 1; 0 before an epoch is over.
        epochs: finished.
        seconds: of training and validation.
        metrics: everything that it last reported.
        history: its epochs in their order, as `tune.trials.trial` describes them.
        error: why it diverged or failed; empty otherwise.
        checkpoints: the folders of the checkpoints that are left, by epoch.
    """

    number: int
    trial_id: str
    status: Status
    config: TrainConfig
    mrr: float
    recall: float
    best_epoch: int
    epochs: int
    seconds: float
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    error: str
    checkpoints: dict[int, Any]


def read_trials(location: str | Path) -> list[TrialResult]:
    """The trials of an experiment of Ray Tune, by number; none where nothing of one has been written down.

    Args:
        location: of the experiment, an absolute path or a URI.

    Raises:
        UserError: the location cannot be reached.
    """
    try:
        return _read_trials(location)
    except OSError as error:
        raise UserError(
            f"{location}: expected to read trials there, got an error: {one_line(error)}; make it readable, and the "
            "same command goes on"
        ) from error


def _read_trials(location: str | Path) -> list[TrialResult]:
    state = newest_state(location)
    if state is None:
        return []
    analysis = ray_tune.ExperimentAnalysis(state)
    for trial in analysis.trials:
        error = trial.run_metadata.pickled_error_filename
        if error and not is_whole(trial.storage.storage_filesystem, f"{trial.storage.trial_fs_path}/{error}"):
            trial.run_metadata.pickled_error_filename = None  # the disk was full; the text beside it is left
    grid = ray_tune.ResultGrid(analysis)
    pairs = zip(analysis.trials, grid, strict=True)
    return sorted((_trial_result(trial, result) for trial, result in pairs), key=lambda row: row.number)


def _trial_result(trial: Any, result: Any) -> TrialResult:
    metrics = dict(result.metrics or {})
    config = from_mapping(trial.config[MODEL])
    error = str(metrics.get("error") or "")
    status = _status(trial.status, metrics, config)
    if trial.status == "ERROR":
        error = _cause(result.error)
    kept = [*(result.best_checkpoints or []), (result.checkpoint, metrics)]
    return TrialResult(
        number=trial.config[NUMBER],
        trial_id=trial.trial_id,
        status=status,
        config=config,
        mrr=float(metrics.get(METRIC, 0.0)),
        recall=float(metrics.get("recall@20", 0.0)),
        best_epoch=int(metrics.get("best_epoch", 0)),
        epochs=int(metrics.get("epoch", 0)),
        seconds=float(metrics.get("seconds", 0.0)),
        metrics=metrics,
        history=json.loads(metrics.get(HISTORY, "[]")),
        error=error,
        checkpoints={int(about["epoch"]): saved for saved, about in kept if "epoch" in about and _is_there(saved)},
    )


def _is_there(checkpoint: Any) -> bool:
    """Whether a checkpoint has not been deleted since Ray wrote down that there is one."""
    if checkpoint is None:
        return False
    found: bool = checkpoint.filesystem.get_file_info(checkpoint.path).type.name == "Directory"
    return found


def _cause(error: Any) -> str:
    """What ended a trial, in a line: Ray gives an exception, or the text of its traceback."""
    cause = getattr(error, "cause", None)
    if cause is not None:
        return " ".join([f"{type(cause).__name__}:", *str(cause).strip().splitlines()[:1]])
    lines = [line for line in str(error or "").splitlines() if re.match(r"[\w.]+(Error|Exception|Exit)\b", line)]
    return lines[-1].strip() if lines else UNKNOWN_ERROR


def _status(ray_status: str, metrics: dict[str, Any], config: TrainConfig) -> Status:
    if ray_status == "ERROR":
        return "failed"
    if ray_status != "TERMINATED":
        return "unfinished"
    if metrics.get("outcome") == "diverged":
        return "diverged"
    if metrics.get("outcome") == "failed":
        return "failed"
    return "finished" if metrics.get("epoch", 0) >= config.n_epochs else "stopped"


def rank(trials: Iterable[TrialResult]) -> list[TrialResult]:
    """The trials, best MRR@20 first; of equals the earlier one."""
    return sorted(trials, key=lambda trial: (-trial.mrr, trial.number))


def winner(trials: Sequence[TrialResult]) -> TrialResult:
    """The trial with the best validation MRR@20 over all epochs.

    Raises:
        UserError: no trial got as far as the end of an epoch.
    """
    best = next((trial for trial in rank(trials) if trial.best_epoch), None)
    if best is None:
        reason = next((trial.error for trial in trials if trial.error), "its time was up; the same command goes on")
        raise UserError(f"no trial finished an epoch, so there is no model to keep; the first reason: {reason}")
    return best


def winning_config(trial: TrialResult, *, refit: bool = True) -> TrainConfig:
    """The configuration of the winner's model.

    Its number of epochs is that after which the winner was best. But where it is kept as it was, and its learning rate
    fell towards the last epoch (adamw), it is the trial's: another would not give the same model.

    Args:
        trial: the winner.
        refit: whether it is trained again on everything.
    """
    if trial.config.optimizer == "adamw" and not refit:
        return trial.config
    return trial.config.replace(n_epochs=trial.best_epoch)


def describe_model(config: TrainConfig) -> str:
    """A model in a few words: its loss, what it samples, its size and rates."""
    sampling = f"{config.n_sample} samples" + ("" if config.alpha is None else f" α {config.alpha:g}")
    way = "" if config.batching == SESSION_PARALLEL else f"{config.batching}, "
    sampler = "" if config.sampler == "popularity" else f"{config.sampler} "
    return (
        f"{way}{config.loss}, {sampler}{sampling}, layers {'/'.join(map(str, config.layers))}, "
        f"batch {config.batch_size}, lr {config.learning_rate:g}"
    )
