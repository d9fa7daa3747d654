"""From the best trial to a model: trained again on all sessions, or as it was validated.

The winner is trained again for its best number of epochs, on training and validation sessions together: the latest
sessions and their items matter most for the next clicks. (With adamw the learning rate falls towards the last epoch, so
it falls faster in a refit of fewer epochs than the trial had.)
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gru4rec.commands.terminal import print_status, progress_bar
from gru4rec.commands.training_progress import TrainingProgress
from gru4rec.config.files import to_toml
from gru4rec.config.train_config import TrainConfig, to_mapping
from gru4rec.data.events import encode
from gru4rec.data.sessions import EncodedLog
from gru4rec.evaluation.evaluator import evaluate
from gru4rec.onnx_export.exporter import export
from gru4rec.training import checkpoint
from gru4rec.training import run as training
from gru4rec.training.trainer import Trainer
from inference.shared.atomic import atomic_file, write_errors
from inference.shared.errors import UserError
from tune.outcome.folder import BEST_FILE, MODEL_FILE, MODEL_FOLDER
from tune.settings import SearchSettings
from tune.trials.data import SearchData
from tune.trials.results import TrialResult
from tune.trials.trial import EPOCH_METRIC, METRIC, TrialData


def refit(log: EncodedLog, config: TrainConfig, directory: Path, callback: training.Callback | None = None) -> None:
    """Train a model directory; an interrupted refit of the same model is resumed, a finished one left as it is.

    Args:
        log: training and validation sessions.
        config: the winner's, with its best number of epochs.
        directory: of the model; an earlier model is replaced when the new one is complete.
        callback: of the training.

    Raises:
        UserError: the training diverged.
    """
    data = training.data_digest(log)
    if _is_trained(directory, config, data):  # by a process that was killed, or failed, afterwards
        _remove_leftovers(directory)
        return
    identity = json.dumps(to_mapping(config), sort_keys=True) + data
    folder = directory.with_name(f".{directory.name}.{hashlib.sha256(identity.encode()).hexdigest()[:12]}.partial")
    _remove_leftovers(directory, but=folder)
    training.train(log, config, directory=folder, resume=True, callback=callback)
    _put_in_place(folder, directory)


def _is_trained(directory: Path, config: TrainConfig, data: str) -> bool:
    """Whether a model directory has this configuration, and was trained on this data to the last epoch."""
    try:
        model = checkpoint.load_model(directory)
    except UserError:  # missing or damaged
        return False
    metrics = model.metrics
    return model.config == config and metrics["data_sha256"] == data and metrics["last_epoch"] == config.n_epochs


def restore_trainer(
    data: TrialData, config: TrainConfig, trial: TrialResult
) -> tuple[Trainer, list[Mapping[str, float | None]]]:
    """A trial after its best epoch, with the results of its epochs so far.

    It is loaded from a checkpoint. If there is none (after a kill, or because another epoch is the best on average of
    several seeds) it is trained again: on a machine like the trial's, the same configuration gives the same parameters,
    bit for bit.

    Args:
        data: that the trial was trained and validated on.
        config: as `winning_config` gives it without a refit.
        trial: with its best epoch.

    Raises:
        UserError: the checkpoint is damaged.
    """
    trainer = Trainer(config, data.train)
    if trial.best_epoch in trial.checkpoints:
        with trial.checkpoints[trial.best_epoch].as_directory() as saved:
            checkpoint.load_training_state(Path(saved), trainer)
        return trainer, [_rename(epoch) for epoch in trial.history[: trial.best_epoch]]
    history: list[Mapping[str, float | None]] = []
    while trainer.epoch < trial.best_epoch:
        history.append(training.EpochResult.of(trainer.run_epoch(), trainer, data.valid).as_dict())
    return trainer, history


def _rename(epoch: Mapping[str, Any]) -> dict[str, Any]:
    """An epoch that a trial reported, in the form of a training run."""
    names = {"epoch_seconds": "seconds", "events_per_second": "pairs_per_second", "epoch_recall@20": "recall@20"}
    names[EPOCH_METRIC] = METRIC
    return {names.get(name, name): value for name, value in epoch.items() if name != "memory_mib"}


def save_model(trainer: Trainer, history: Sequence[Mapping[str, float | None]], directory: Path) -> None:
    """Write the model of a trainer.

    Args:
        trainer: after its best epoch.
        history: of its epochs.
        directory: of the model; an earlier model is replaced.
    """
    log = trainer.log
    folder = directory.with_name(f".{directory.name}.kept.partial")
    _remove_leftovers(directory)
    with write_errors(folder):
        folder.mkdir()
    checkpoint.write_description(folder, trainer.config, log.vocabulary)
    checkpoint.write_epoch(
        folder,
        trainer,
        {
            "best_epoch": trainer.epoch,
            "last_epoch": trainer.epoch,
            "data_sha256": training.data_digest(log),
            "n_items": len(log.vocabulary),
            "n_sessions": log.sessions.n_sessions,
            "n_pairs": log.sessions.n_pairs,
            "history": list(history),
        },
    )
    _put_in_place(folder, directory)


def _remove_leftovers(directory: Path, but: Path | None = None) -> None:
    """Remove unfinished models: of another winner, of a killed process, of a refit that diverged."""
    for other in directory.parent.glob(f".{directory.name}.*.partial"):
        if other != but and other.is_dir():  # files are of an export (.model.onnx.…), which removes its own
            shutil.rmtree(other)


def _put_in_place(folder: Path, directory: Path) -> None:
    before = directory.with_name(f".{directory.name}.before.partial")
    with write_errors(directory):
        if directory.exists():
            os.replace(directory, before)
        os.replace(folder, directory)
    shutil.rmtree(before, ignore_errors=True)


def make_model(
    settings: SearchSettings, data: SearchData, best: TrialResult, config: TrainConfig, threads: int
) -> dict[str, dict[str, Any]]:
    """Write best.toml, the model directory and model.onnx of the winner.

    Args:
        settings: of the search.
        data: of the search.
        best: the winner.
        config: of its model, as `winning_config` gives it.
        threads: CPU threads, unless the settings name others.

    Returns:
        Its figures on the "validation" and the "test" log; the latter are empty without a test log.

    Raises:
        Diverged: the winner diverged when it was trained again.
    """
    torch.set_num_threads(settings.threads or settings.cpus_per_trial or threads)
    directory = settings.out / MODEL_FOLDER
    on_cpu = settings.gpus_per_trial != "auto" and float(settings.gpus_per_trial) == 0
    here = config.replace(device="cpu") if on_cpu else config
    if settings.refit:
        print_status(f"training the best model (trial {best.number}) on training and validation sessions together")
        with progress_bar() as bar:
            progress = TrainingProgress(bar, config.n_epochs)
            refit(data.everything, here, directory, progress)
    else:
        save_model(*restore_trainer(data.trial, here, best), directory)
    model = checkpoint.load_model(directory)
    figures: dict[str, dict[str, Any]] = {"validation": {METRIC: best.mrr, "recall@20": best.recall}, "test": {}}
    if data.test is not None:
        figures["test"] = dict(evaluate(model.network, encode(data.test, model.vocabulary).sessions).as_dict())
    metrics = {**model.metrics, **{log: values for log, values in figures.items() if values}}
    export(model.network, model.vocabulary, settings.out / MODEL_FILE, config=to_mapping(config), metrics=metrics)
    with atomic_file(settings.out / BEST_FILE) as file:
        file.write_text(to_toml(config), encoding="utf-8")
    return figures
