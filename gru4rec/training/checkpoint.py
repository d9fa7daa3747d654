"""The model directory: what a training run leaves on disk.

    MODEL_DIR/
      config.toml       the complete configuration
      vocabulary.txt    item ids, one per line, in the order of their numbers
      metrics.json      schema_version, history, best and last epoch, digests of the data and the vocabulary
      epoch-0007/       parameters and the optimiser's state, one .npy file each

An epoch's folder is written under a temporary name and renamed. Then metrics.json is replaced, which names the best and
the last epoch, and only then are other epochs removed. So a reader, or a run that resumes after it was killed, always
finds a whole model. Arrays are stored without pickling.
"""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from gru4rec.config.files import read_config, to_toml
from gru4rec.config.train_config import TrainConfig, from_mapping, to_mapping
from gru4rec.data.npy import map_array, save_array
from gru4rec.model.network import Network
from gru4rec.training.optimizers import RowOptimiser
from gru4rec.training.trainer import Trainer
from inference.shared.atomic import atomic_file, atomic_folder
from inference.shared.errors import UserError
from inference.shared.vocabulary import Vocabulary

SCHEMA_VERSION = 1
CONFIG_FILE = "config.toml"
VOCABULARY_FILE = "vocabulary.txt"
METRICS_FILE = "metrics.json"
PROGRESS_FILE = "epoch.json"


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes:
        network: its parameters.
        vocabulary: its items.
        config: how it was trained.
        metrics: the content of metrics.json.
    """

    network: Network
    vocabulary: Vocabulary
    config: TrainConfig
    metrics: Mapping[str, Any]


def save_arrays(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write every tensor as {name}.npy into an existing folder."""
    for name, tensor in tensors.items():
        save_array(folder / f"{name}.npy", tensor.detach().cpu().numpy())


def load_arrays(folder: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Map the named arrays of a folder into memory.

    Raises:
        UserError: one is missing or damaged.
    """
    return {name: map_array(folder / f"{name}.npy") for name in names}


def save_training_state(folder: Path, trainer: Trainer) -> None:
    """Write the parameters and the optimiser's state into an existing folder: all that an exact resume needs."""
    save_arrays(folder, trainer.network.tensors() | trainer.optimiser.tensors())
    progress = {"epoch": trainer.epoch, "steps": trainer.optimiser.steps_before + trainer.epoch * trainer.n_steps}
    (folder / PROGRESS_FILE).write_text(json.dumps({"schema_version": SCHEMA_VERSION, **progress}))


def read_progress(folder: Path) -> dict[str, int]:
    """The progress of a saved training state: its "epoch", and the "steps" of its optimiser.

    Raises:
        UserError: the file is missing or damaged.
    """
    return _read_json(folder / PROGRESS_FILE, epoch=int, steps=int)


def load_training_state(folder: Path, trainer: Trainer) -> None:
    """Resume from what `save_training_state` wrote, with a trainer of the same configuration and log.

    Raises:
        UserError: a file is missing or damaged, or belongs to another network.
    """
    progress = read_progress(folder)
    _load(folder, trainer.network)
    _load(folder, trainer.optimiser)
    trainer.epoch = progress["epoch"]


def epoch_folder(directory: Path, epoch: int) -> Path:
    """Where the arrays of an epoch (numbered from 1) are."""
    return directory / f"epoch-{epoch:04d}"


def write_description(directory: Path, config: TrainConfig, vocabulary: Vocabulary) -> None:
    """Write config.toml and vocabulary.txt; the configuration first, as it marks the folder as that of a run."""
    with atomic_file(directory / CONFIG_FILE) as file:
        file.write_text(to_toml(config), encoding="utf-8")
    with atomic_file(directory / VOCABULARY_FILE) as file:
        file.write_text(vocabulary.to_text(), encoding="utf-8", newline="\n")


def write_epoch(directory: Path, trainer: Trainer, metrics: Mapping[str, Any]) -> None:
    """Save the trainer's state as an epoch folder, write metrics.json, and remove the folders that it no longer names.

    Args:
        directory: of the model.
        trainer: just after an epoch.
        metrics: with the keys "best_epoch" and "last_epoch", whose folders are kept.
    """
    folder = epoch_folder(directory, trainer.epoch)
    if folder.exists():  # of a run that was killed before it wrote metrics.json
        shutil.rmtree(folder)
    with atomic_folder(folder) as temporary:
        save_training_state(temporary, trainer)
    write_metrics(directory, {**metrics, "vocabulary_sha256": trainer.log.vocabulary.sha256()})
    keep_epochs(directory, {metrics["best_epoch"], metrics["last_epoch"]})


def keep_epochs(directory: Path, epochs: set[int]) -> None:
    """Remove the folders of all other epochs."""
    kept = {epoch_folder(directory, epoch) for epoch in epochs}
    for folder in directory.glob("epoch-*"):
        if re.fullmatch(r"epoch-\d{4,}", folder.name) and folder.is_dir() and folder not in kept:
            shutil.rmtree(folder)


def check_folder(directory: Path) -> None:
    """Refuse a folder that is used for something else than a run.

    A folder without a metrics.json is of an unfinished run if it holds a complete configuration, as `write_description`
    writes it, and nothing but what a run writes.

    Raises:
        UserError: it is neither that nor empty.
    """
    if (directory / METRICS_FILE).exists():
        return
    ours = rf"{CONFIG_FILE}|{VOCABULARY_FILE}|epoch-\d{{4,}}" if _is_complete(directory / CONFIG_FILE) else ""
    for name in sorted(path.name for path in directory.iterdir()):
        if not name.startswith(".") and not re.fullmatch(ours, name):
            raise UserError(f"expected a new or empty folder for the model, found {name!r} in {directory}")


def _is_complete(file: Path) -> bool:
    """Whether a configuration file has a value for every field, as those of runs have."""
    try:
        values = read_config(file)
    except UserError:
        return False
    return to_mapping(from_mapping(values)) == values


def write_metrics(directory: Path, metrics: Mapping[str, Any]) -> None:
    """Replace metrics.json."""
    with atomic_file(directory / METRICS_FILE) as file:
        file.write_text(json.dumps({"schema_version": SCHEMA_VERSION, **metrics}, indent=1), encoding="utf-8")


def read_metrics(directory: Path) -> dict[str, Any]:
    """The content of metrics.json.

    Raises:
        UserError: it is missing, damaged or of another schema.
    """
    return _read_json(directory / METRICS_FILE, best_epoch=int, last_epoch=int, history=list, data_sha256=str)


def read_description(directory: Path) -> tuple[TrainConfig, Vocabulary, dict[str, Any]]:
    """The configuration, the items and the metrics of a model directory.

    Raises:
        UserError: the folder is no model directory or is damaged, or its vocabulary is not the one it was trained with.
    """
    if not (directory / METRICS_FILE).is_file():
        raise UserError(f"expected a model directory with {METRICS_FILE} and {CONFIG_FILE}, found none at {directory}")
    metrics = read_metrics(directory)
    config = from_mapping(read_config(directory / CONFIG_FILE), source=str(directory / CONFIG_FILE))
    try:
        vocabulary = Vocabulary.from_text((directory / VOCABULARY_FILE).read_bytes().decode())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{directory / VOCABULARY_FILE}: expected the model's item ids, got an error: {error}"
        ) from None
    if metrics.get("vocabulary_sha256") not in (None, vocabulary.sha256()):  # older models have no digest
        raise UserError(
            f"{directory / VOCABULARY_FILE}: expected the item ids that the model was trained with, got others; "
            "restore the file or train again"
        )
    return config, vocabulary, metrics


def load_model(directory: str | Path, device: str = "cpu") -> Model:
    """The best epoch of a model directory.

    Raises:
        UserError: the folder is no model directory, or is damaged.
    """
    directory = Path(directory)
    config, vocabulary, metrics = read_description(directory)
    network = Network(len(vocabulary), config, device)
    network.vocabulary = vocabulary
    _load(epoch_folder(directory, metrics["best_epoch"]), network)
    return Model(network, vocabulary, config, metrics)


def _load(folder: Path, target: Network | RowOptimiser) -> None:
    arrays = load_arrays(folder, list(target.tensors()))
    try:
        target.load(arrays)
    except ValueError as error:
        raise UserError(f"{folder}: the arrays do not fit the configuration: {error}") from None


def _read_json(path: Path, **kinds: type) -> dict[str, Any]:
    """An object of our schema, with values of these types."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected JSON of a saved model, got an error: {error}") from None
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        raise UserError(f"{path}: expected schema_version {SCHEMA_VERSION}; the file is damaged or of another release")
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise UserError(f"{path}: expected {key!r} as {kind.__name__}; the file is damaged")
    return content
