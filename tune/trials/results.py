"""The results of a search: its trials, in order of quality.

They are always read from the files that Ray Tune leaves, never from memory, so a search that was interrupted, or that
ran in another process, is read the same way.
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
from tune.space.search_space import MODEL
from tune.trials.recovery import newest_state
from tune.trials.trial import HISTORY, METRIC, NUMBER, error_file

Status = Literal["finished", "stopped", "diverged", "failed", "unfinished"]
"""`stopped` early by the scheduler, `failed` in every attempt, `unfinished` when the search ended."""


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
        metrics: its last report.
        history: its epochs in order, as `tune.trials.trial` reports them.
        error: why it diverged or failed, with the file of the traceback if there is one; empty otherwise.
        checkpoints: those that still exist, by epoch.
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
    """The trials of an experiment of Ray Tune, by number; none if Ray has not saved a state there.

    Args:
        location: of the experiment, an absolute path or a URI.

    Raises:
        UserError: the location cannot be reached.
    """
    try:
        state = newest_state(location)
        if state is None:
            return []
        analysis = ray_tune.ExperimentAnalysis(state)
        for trial in analysis.trials:
            trial.run_metadata.pickled_error_filename = None  # a full disk may have cut it off; error.txt says the same
        pairs = zip(analysis.trials, ray_tune.ResultGrid(analysis), strict=True)
        return sorted((_trial_result(location, trial, result) for trial, result in pairs), key=lambda row: row.number)
    except OSError as error:
        raise UserError(
            f"cannot read the trials in {location}: {one_line(error)}; make it readable and run the same command again"
        ) from error


def _trial_result(location: str | Path, trial: Any, result: Any) -> TrialResult:
    metrics = dict(result.metrics or {})
    config = from_mapping(trial.config[MODEL])
    error = str(metrics.get("error") or "")
    status = _status(trial.status, metrics, config)
    if trial.status == "ERROR":
        error = last_error(str(result.error or ""))
    if trial.status == "ERROR" or metrics.get("traceback"):
        error += f"; traceback: {error_file(location, trial)}"
    saved = [*(result.best_checkpoints or []), (result.checkpoint, metrics)]
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
        checkpoints={
            int(about["epoch"]): checkpoint for checkpoint, about in saved if "epoch" in about and _exists(checkpoint)
        },
    )


def _exists(checkpoint: Any) -> bool:
    """Whether a checkpoint that Ray's state lists has not been deleted since."""
    return checkpoint is not None and checkpoint.filesystem.get_file_info(checkpoint.path).type.name == "Directory"


def last_error(text: str) -> str:
    """The line of a trial's tracebacks that names the last exception.

    >>> last_error("Failure # 1 …\\nTraceback …\\n  File …\\nValueError: two\\nlines")
    'ValueError: two'
    """
    lines = [line for line in text.splitlines() if re.match(r"[\w.]+(Error|Exception|Exit)\b", line)]
    return lines[-1].strip() if lines else "the trial's process ended without an error message"


def _status(ray_status: str, metrics: dict[str, Any], config: TrainConfig) -> Status:
    if ray_status == "ERROR" or metrics.get("outcome") == "failed":
        return "failed"
    if ray_status != "TERMINATED":
        return "unfinished"
    if metrics.get("outcome") == "diverged":
        return "diverged"
    return "finished" if metrics.get("epoch", 0) >= config.n_epochs else "stopped"


def rank(trials: Iterable[TrialResult]) -> list[TrialResult]:
    """The trials, best MRR@20 first; of equals the earlier one."""
    return sorted(trials, key=lambda trial: (-trial.mrr, trial.number))


def winner(trials: Sequence[TrialResult]) -> TrialResult:
    """The trial with the best validation MRR@20 over all epochs.

    Raises:
        UserError: no trial finished an epoch.
    """
    best = next((trial for trial in rank(trials) if trial.best_epoch), None)
    if best is None:
        reason = next((trial.error for trial in trials if trial.error), "the time was up; the same command resumes")
        raise UserError(f"no trial finished an epoch, so there is no model; the first reason: {reason}")
    return best


def winning_config(trial: TrialResult, *, refit: bool = True) -> TrainConfig:
    """The configuration of the winner's model.

    Its number of epochs is the winner's best epoch. But if the model is not trained again and its learning rate falls
    towards the last epoch (adamw), it is the trial's number: another one would give another model.

    Args:
        trial: the winner.
        refit: whether the model is trained again on all sessions.
    """
    if trial.config.optimizer == "adamw" and not refit:
        return trial.config
    return trial.config.replace(n_epochs=trial.best_epoch)


def describe_model(config: TrainConfig) -> str:
    """A model in one line: its loss, samples, size and rates."""
    sampling = f"{config.n_sample} samples" + ("" if config.alpha is None else f" α {config.alpha:g}")
    batching = "" if config.batching == SESSION_PARALLEL else f"{config.batching}, "
    sampler = "" if config.sampler == "popularity" else f"{config.sampler} "
    return (
        f"{batching}{config.loss}, {sampler}{sampling}, layers {'/'.join(map(str, config.layers))}, "
        f"batch {config.batch_size}, lr {config.learning_rate:g}"
    )
