"""A training run from the first epoch to the model directory.

Every epoch is trained, validated if there are validation sessions, and saved. The model is the best epoch by MRR@20, or
the last epoch of a run without validation. The latest epoch is kept, too, so that an interrupted run, or one with more
epochs, resumes exactly where it stopped: the parameters are the same, bit for bit.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gru4rec.config.files import read_config
from gru4rec.config.train_config import TrainConfig, from_mapping, to_mapping
from gru4rec.data.sessions import EncodedLog, Sessions
from gru4rec.evaluation.evaluator import evaluate
from gru4rec.model.device import choose_device
from gru4rec.training import checkpoint, memory
from gru4rec.training.plugins import import_plugins
from gru4rec.training.trainer import EpochReport, Trainer
from gru4rec.training.warm_start import WarmStart
from inference.shared.atomic import lock, write_errors
from inference.shared.errors import UserError

SELECTION_METRIC = "mrr@20"
LOCK_FILE = ".lock"


@dataclass(frozen=True)
class EpochResult:
    """One line of a run's history.

    Attributes:
        epoch: numbered from 1.
        loss: mean over the trained pairs.
        seconds: of the training, without validation.
        pairs_per_second: of the training.
        recall, mrr: at 20 on the validation sessions; None without them.
    """

    epoch: int
    loss: float
    seconds: float
    pairs_per_second: float
    recall: float | None
    mrr: float | None

    @classmethod
    def of(cls, report: EpochReport, trainer: Trainer, valid: Sessions | None) -> "EpochResult":
        """The result of the epoch that a trainer has just finished, validated if there are validation sessions."""
        recall = mrr = None
        if valid is not None:
            quality = evaluate(trainer.network, valid, cutoffs=[20])
            recall, mrr = quality.recall[20], quality.mrr[20]
        speed = report.n_pairs / max(report.seconds, 1e-9)
        return cls(trainer.epoch, report.loss, report.seconds, speed, recall, mrr)

    def as_dict(self) -> dict[str, float | None]:
        """For metrics.json."""
        values = asdict(self)
        values["recall@20"], values[SELECTION_METRIC] = values.pop("recall"), values.pop("mrr")
        return values


class Callback:
    """Methods that a run calls; override those you need."""

    def on_forecast(self, forecast: memory.Forecast) -> None:
        """The memory that the run takes is known; nothing is allocated yet."""

    def on_step_end(self, epoch: int, done: int, total: int) -> None:
        """`done` of `total` steps of an epoch (from 1) are done."""

    def on_epoch_end(self, result: EpochResult) -> None:
        """An epoch is trained, validated and saved."""


def data_digest(log: EncodedLog, valid: Sessions | None = None) -> str:
    """SHA-256 of a log and its validation sessions: equal digests give equal training."""
    digest = hashlib.sha256(log.vocabulary.to_text().encode())
    for sessions in (log.sessions, valid):
        if sessions is not None:
            digest.update(np.ascontiguousarray(sessions.items).data)
            digest.update(np.ascontiguousarray(sessions.offsets).data)
    return digest.hexdigest()


def train(
    log: EncodedLog,
    config: TrainConfig,
    *,
    valid: Sessions | None = None,
    directory: str | Path | None = None,
    resume: bool = False,
    callback: Callback | None = None,
    init: WarmStart | None = None,
) -> checkpoint.Model:
    """Train a model.

    Args:
        log: training sessions and items.
        config: the run's choices.
        valid: sessions, in the item numbers of the log, on which every epoch is validated; the best epoch is kept.
            Without them, the last one is.
        directory: folder of the model; None keeps nothing on disk.
        resume: resume the run in `directory`.
        callback: called after every step and epoch.
        init: a model to start from; the log is then what its `extend_vocabulary` returned.

    Returns:
        The model of the best epoch.

    Raises:
        UserError: the configuration or the data do not allow a run, it does not fit into memory, `directory` is in use,
            holds a run (without `resume`) or another run than this one (with it), or the training diverged.
    """
    if valid is not None and valid.n_pairs == 0:
        raise UserError("expected validation sessions of at least two known items, got none")
    callback = callback or Callback()
    import_plugins(config.plugins)
    device = choose_device(config.device)
    forecast = memory.forecast(log, config, device, validates=valid is not None)
    callback.on_forecast(forecast)
    memory.check(forecast)
    trainer = Trainer(config, log, device)
    if init is not None:
        init.init_trainer(trainer)
    run = _Run(trainer, valid, init.sha256() if init is not None else None)
    if directory is None:
        run.train_epochs(callback)
        return checkpoint.Model(trainer.network, log.vocabulary, config, run.metrics())
    with folder_lock(Path(directory)):
        run.open(Path(directory), resume)
        run.train_epochs(callback)
        run.close()
    del run, trainer  # frees the optimiser and one copy of the model
    return checkpoint.load_model(directory, device=str(device))


@contextmanager
def folder_lock(directory: Path, user: str = "run") -> Iterator[None]:
    """Create an output folder and keep other processes from writing into it.

    Args:
        directory: the folder.
        user: what else may be using it, for the message.

    Raises:
        UserError: it is in use, is a file, or cannot be written to.
    """
    if directory.is_file():
        raise UserError(f"expected a folder to write to, found a file at {directory}")
    with write_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with lock(directory / LOCK_FILE, directory, user):
        with write_errors(directory):
            for leftover in directory.glob(".*.lock"):  # of files whose writer was killed
                leftover.unlink(missing_ok=True)
        yield


class _Run:
    """The history of a run and its folder."""

    def __init__(self, trainer: Trainer, valid: Sessions | None, init_digest: str | None):
        self._trainer = trainer
        self._valid = valid
        self._init_digest = init_digest
        self._history: list[dict[str, Any]] = []
        self._best_arrays: dict[str, np.ndarray] | None = None
        self._directory: Path | None = None
        self._digest = data_digest(trainer.log, valid)

    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json."""
        return {
            "best_epoch": self._best_epoch(),
            "last_epoch": len(self._history),
            "data_sha256": self._digest,
            "start_sha256": self._init_digest,
            "n_items": len(self._trainer.log.vocabulary),
            "n_sessions": self._trainer.log.sessions.n_sessions,
            "n_pairs": self._trainer.log.sessions.n_pairs,
            "history": self._history,
        }

    def _best_epoch(self) -> int:
        if self._valid is None or not self._history:
            return len(self._history)
        best = max(self._history, key=lambda result: (result[SELECTION_METRIC], -result["epoch"]))
        return int(best["epoch"])

    def open(self, directory: Path, resume: bool) -> None:
        self._directory = directory
        checkpoint.check_folder(directory)
        if not (directory / checkpoint.METRICS_FILE).exists():
            checkpoint.write_description(directory, self._trainer.config, self._trainer.log.vocabulary)
            return  # a new run, or one killed in its first epoch
        if not resume:
            raise UserError(f"{directory} holds a model already; resume it (--resume) or choose another folder")
        metrics = checkpoint.read_metrics(directory)
        if metrics.get("start_sha256") != self._init_digest:
            raise UserError(f"{directory}: cannot resume: it started from another model, or none; give the same --init")
        _check_same_run(directory, self._trainer.config, metrics, self._digest)
        if metrics["last_epoch"] > self._trainer.config.n_epochs:
            raise UserError(f"n_epochs: {metrics['last_epoch']} epochs are done already; give at least as many")
        self._history = metrics["history"]
        if metrics["last_epoch"] < self._trainer.config.n_epochs:
            latest = checkpoint.epoch_folder(directory, metrics["last_epoch"])
            checkpoint.load_training_state(latest, self._trainer)
            checkpoint.write_description(directory, self._trainer.config, self._trainer.log.vocabulary)
        else:
            self._trainer.epoch = metrics["last_epoch"]

    def train_epochs(self, callback: Callback) -> None:
        trainer = self._trainer
        while (number := trainer.epoch + 1) <= trainer.config.n_epochs:
            report = trainer.run_epoch(partial(callback.on_step_end, number, total=trainer.n_steps))
            result = EpochResult.of(report, trainer, self._valid)
            self._history.append(result.as_dict())
            if self._directory is not None:
                checkpoint.write_epoch(self._directory, trainer, self.metrics())
            elif self._valid is not None and self._best_epoch() == trainer.epoch:
                self._best_arrays = {name: t.cpu().numpy().copy() for name, t in trainer.network.tensors().items()}
            callback.on_epoch_end(result)
        if self._best_arrays is not None:
            trainer.network.load(self._best_arrays)

    def close(self) -> None:
        """Keep the best epoch, and the latest one if more epochs could be trained later."""
        assert self._directory is not None
        latest = {len(self._history)} if "n_epochs" in _may_change(self._trainer.config) else set()
        checkpoint.keep_epochs(self._directory, {self._best_epoch(), *latest})


def _may_change(config: TrainConfig) -> tuple[str, ...]:
    # adamw's schedule ends with the last epoch, so the number of epochs must stay
    return ("n_epochs", "device") if config.optimizer == "adagrad" else ("device",)


def _check_same_run(directory: Path, config: TrainConfig, metrics: dict[str, Any], digest: str) -> None:
    before = to_mapping(from_mapping(read_config(directory / checkpoint.CONFIG_FILE)))
    now = to_mapping(config)
    may_change = _may_change(config)
    for name in sorted(before.keys() | now.keys()):
        if name not in may_change and before.get(name) != now.get(name):
            raise UserError(
                f"{directory}: cannot resume: {name} was {before.get(name)!r} and is now {now.get(name)!r}; "
                "give the same configuration or choose another folder"
            )
    if metrics["data_sha256"] != digest:
        raise UserError(f"{directory}: cannot resume: the training or validation data are not those it started with")
