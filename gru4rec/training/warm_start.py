"""Warm start: training on new clicks that starts from an older model.

The new run has the items of its log and, unless they are dropped, those of the old model. Items that the old model
knows keep their rows and their optimiser state, and so do the weights of the GRU. A new item starts at the mean of the
rows of the items clicked just before and after it in the new log, plus a random row of the usual initial scale, so that
items with the same neighbours differ. New items whose neighbours are all new follow, round by round, once those have
rows. An item that no chain of clicks connects to an old item starts at random.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gru4rec.config.train_config import TrainConfig, format_value
from gru4rec.data.encoded_log import file_digest
from gru4rec.data.sessions import EncodedLog, Sessions
from gru4rec.evaluation.rankings import Targets
from gru4rec.training import checkpoint
from gru4rec.training.trainer import Trainer
from inference.shared.errors import UserError
from inference.shared.vocabulary import MISSING, Vocabulary

MUST_AGREE = ("layers", "embedding", "constrained_embedding", "score", "optimizer", "n_recent")
"""Fields that decide the shape and the meaning of the parameters."""
TABLES = ("output_table", "output_bias", "input_table")
"""The parameters that have a row per item."""


@dataclass(frozen=True)
class WarmStart:
    """A model to start from.

    Attributes:
        directory: its folder.
        config: its configuration.
        vocabulary: its items.
        folder: of its best epoch.
        steps: updates that its optimiser has made.
    """

    directory: Path
    config: TrainConfig
    vocabulary: Vocabulary
    folder: Path
    steps: int

    @classmethod
    def read(cls, directory: str | Path) -> "WarmStart":
        """The best epoch of a model directory.

        Raises:
            UserError: the folder is no model directory, or is damaged.
        """
        directory = Path(directory)
        config, vocabulary, metrics = checkpoint.read_description(directory)
        folder = checkpoint.epoch_folder(directory, metrics["best_epoch"])
        return cls(directory, config, vocabulary, folder, checkpoint.read_progress(folder)["steps"])

    def sha256(self) -> str:
        """A digest of its items and parameters."""
        digest = hashlib.sha256(self.vocabulary.sha256().encode())
        for file in sorted(self.folder.glob("*.npy")):
            digest.update(f"{file.name} {file_digest(file)}\n".encode())
        return digest.hexdigest()

    def extend_vocabulary(self, log: EncodedLog, *, drop_gone: bool = False) -> EncodedLog:
        """The log with this model's items added to its vocabulary.

        Args:
            log: what to train on.
            drop_gone: leave out the model's items that do not occur in the log; they are never recommended again.
        """
        if drop_gone:
            return log
        vocabulary = Vocabulary({*log.vocabulary.terms(), *self.vocabulary.terms()})
        if len(vocabulary) == len(log.vocabulary):
            return log
        number = vocabulary.numbers(log.vocabulary.terms()).astype(np.int32)
        return EncodedLog(Sessions(number[log.sessions.items], log.sessions.offsets, vocabulary), vocabulary)

    def count_items(self, vocabulary: Vocabulary) -> tuple[int, int, int]:
        """How many items of a new run are kept and how many are new, and how many of the model's are dropped."""
        kept = int((self.vocabulary.numbers(vocabulary.terms()) != MISSING).sum())
        return kept, len(vocabulary) - kept, len(self.vocabulary) - kept

    @torch.no_grad()
    def init_trainer(self, trainer: Trainer) -> None:
        """Set the parameters and the optimiser state of a new trainer.

        Args:
            trainer: of the extended log, before its first epoch.

        Raises:
            UserError: its configuration describes another network, or a file is missing or damaged.
        """
        for name in MUST_AGREE:
            old, new = (format_value(getattr(config, name)) for config in (self.config, trainer.config))
            if old != new:
                raise UserError(
                    f"{name}: expected {old} as the model in {self.directory} has, got {new}; leave {name} out, or "
                    "train without a model to start from"
                )
        rows = torch.from_numpy(self.vocabulary.numbers(trainer.log.vocabulary.terms()))
        known = torch.nonzero(rows != MISSING).squeeze(1)
        rows = rows[known]

        def copy_into(tensors: dict[str, Tensor]) -> None:
            for name, array in checkpoint.load_arrays(self.folder, list(tensors)).items():
                tensor, old = tensors[name], torch.from_numpy(np.array(array))
                per_item = name.rpartition(".")[2] in TABLES
                expected = (len(self.vocabulary), *tensor.shape[1:]) if per_item else tuple(tensor.shape)
                if tuple(old.shape) != expected:
                    raise UserError(
                        f"{self.folder}: {name}: expected shape {expected}, got {tuple(old.shape)}; the file is damaged"
                    )
                if per_item:
                    tensor.index_copy_(0, known.to(tensor.device), old.index_select(0, rows).to(tensor.device))
                else:
                    tensor.copy_(old)

        copy_into(trainer.network.tensors())
        has_velocity = bool(self.config.momentum)  # otherwise it starts at zero
        state = trainer.optimiser.tensors().items()
        copy_into({name: tensor for name, tensor in state if has_velocity or not name.startswith("velocity.")})
        trainer.optimiser.steps_before = self.steps
        is_known = torch.zeros(len(trainer.log.vocabulary), dtype=torch.bool).index_fill_(0, known, True)
        tables = [tensor for name, tensor in trainer.network.tensors().items() if name in TABLES]
        init_new_items(tables, trainer.log.sessions, is_known.numpy())


def init_new_items(tables: list[Tensor], sessions: Sessions, known: np.ndarray) -> None:
    """Add to the rows of new items the mean row of the items clicked just before and after them.

    Args:
        tables: each [N, …]; changed in place. Every click counts in the mean.
        sessions: of the new log.
        known: bool [N], the items that the model knows.
    """
    targets = Targets.of(sessions)
    pairs = np.stack([targets.last, targets.item])
    pairs = np.concatenate([pairs, pairs[::-1]], axis=1)  # [2, 2 P]: an item and a neighbour
    known = known.copy()
    while True:
        pairs = pairs[:, ~known[pairs[0]]]
        item, neighbour = pairs[:, known[pairs[1]]]
        if not len(item):
            return
        placed, row = np.unique(item, return_inverse=True)
        count = torch.from_numpy(np.bincount(row)).unsqueeze(1)
        index = torch.from_numpy(np.stack([row, neighbour]).astype(np.int64))
        sums = torch.sparse_coo_tensor(index, torch.ones(len(row)), (len(placed), len(known)), check_invariants=False)
        for table in tables:
            flat = table.view(len(known), -1)
            mean = torch.sparse.mm(sums.to(table.device), flat) / count.to(table.device)
            flat.index_add_(0, torch.from_numpy(placed).to(table.device, torch.int64), mean)
        known[placed] = True
