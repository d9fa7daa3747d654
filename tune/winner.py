"""From the best trial to a model: trained again on everything, or kept as it was.

The winner's configuration is known to be good after its best number of epochs. Trained again on training and validation
sessions together, it also learns from the latest sessions and their items, which matter most for what comes next.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

from gru4rec import checkpoint, training
from gru4rec.config import TrainConfig, to_mapping
from gru4rec.sessions import EncodedLog
from gru4rec.trainer import Trainer
from tune.trial import EPOCH_METRIC, read_history


def refit(log: EncodedLog, config: TrainConfig, directory: Path, watcher: training.Watcher | None = None) -> None:
    """Train a model directory; an interrupted refit of the same model goes on.

    Args:
        log: training and validation sessions.
        config: the winner's, with its best number of epochs.
        directory: where the model goes; a model that is there is replaced when the new one is whole.
        watcher: is told how it goes on.

    Raises:
        UserError: the training diverged.
    """
    what = json.dumps(to_mapping(config), sort_keys=True) + training.data_digest(log)
    folder = directory.with_name(f".{directory.name}.{hashlib.sha256(what.encode()).hexdigest()[:12]}.partial")
    for other in directory.parent.glob(f".{directory.name}.*.partial"):
        if other != folder:
            shutil.rmtree(other)
    training.train(log, config, directory=folder, resume=True, watcher=watcher)
    _put_in_place(folder, directory)


def keep(log: EncodedLog, config: TrainConfig, saved: Path, directory: Path) -> None:
    """Make a model directory of a trial's checkpoint.

    Args:
        log: what the trial was trained on.
        config: the trial's.
        saved: folder of the checkpoint.
        directory: where the model goes; a model that is there is replaced.

    Raises:
        UserError: the checkpoint is damaged.
    """
    trainer = Trainer(config, log)
    checkpoint.load_training_state(saved, trainer)
    epochs = [
        training.EpochResult(
            epoch["epoch"],
            epoch["loss"],
            epoch["epoch_seconds"],
            epoch["events_per_second"],
            epoch["epoch_recall@20"],
            epoch[EPOCH_METRIC],
        ).as_dict()
        for epoch in read_history(saved)
    ]
    folder = directory.with_name(f".{directory.name}.kept.partial")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    checkpoint.write_description(folder, config, log.vocabulary)
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
            "history": epochs,
        },
    )
    _put_in_place(folder, directory)


def _put_in_place(folder: Path, directory: Path) -> None:
    before = directory.with_name(f".{directory.name}.before.partial")
    if directory.exists():
        shutil.rmtree(before, ignore_errors=True)
        os.replace(directory, before)
    os.replace(folder, directory)
    shutil.rmtree(before, ignore_errors=True)
