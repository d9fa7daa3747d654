"""Run the authors' PyTorch code from a user's own clone of github.com/hidasib/GRU4Rec_PyTorch_Official.

It is licensed for research only, so none of it is here: the clone is imported from where it lies and is not changed.
Two things in it do not work with numpy 2 and pandas 3 and are patched in memory: `torch.tensor` of a pandas Series, and
the initial weights of its compatibility mode (float64 with numpy 2), which are replaced by its ordinary ones, from the
same distribution.
"""

import argparse
import contextlib
import importlib
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import packages_first  # noqa: F401
from torch import Tensor

from gru4rec.config.files import read_config
from gru4rec.model.network import Network
from inference.shared.errors import UserError
from inference.shared.vocabulary import Vocabulary

MODULE = "gru4rec_pytorch"
PARAMETER_FILES = {
    "rsc15": "rsc15_xe_shared_100_best.py",
    "retailrocket": "retailrocket_bprmax_shared_best.py",
    "diginetica": "diginetica_bprmax_shared_best.py",
}
"""The parameter files of the official repository that the benchmarks use, by the name of the data they are for."""
EVALUATION_BATCH_SIZE = 512
SAME = 1e-4
"""Rounding may change some ranks: Recall@20 and MRR@20 of their evaluation and of ours may differ by this much."""


def add_flags(parser: argparse.ArgumentParser, *, official_required: bool = True) -> None:
    """Add the flags of every benchmark that trains on one log and ranks another."""
    parser.add_argument("--official", type=Path, required=official_required, help="a clone of the official repository")
    parser.add_argument("--train", type=Path, required=True, help="training log: SessionId, ItemId, Time")
    parser.add_argument("--test", type=Path, required=True, help="test log")


def published_parameters(directory: Path, name: str) -> dict[str, Any]:
    """The parameters of one of the files in the clone's `paramfiles`, parsed, not executed.

    Args:
        directory: the clone.
        name: a key of `PARAMETER_FILES`, or the name of another file in that folder.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    return read_config(directory / "paramfiles" / PARAMETER_FILES.get(name, name))


def read_clicks(path: Path) -> Any:
    """A log as a pandas DataFrame with SessionId, ItemId and Time, from parquet or tab-separated text.

    Raises:
        UserError: the file cannot be read or lacks a column.
    """
    import pandas as pd

    columns = ["SessionId", "ItemId", "Time"]
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path, columns=columns)
        return pd.read_csv(path, sep="\t", usecols=columns)
    except Exception as error:  # pandas and pyarrow raise errors of many types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"cannot read {path}: {reason}; expected parquet or TSV with the columns {columns}") from None


@dataclass(frozen=True)
class OfficialCode:
    """The imported clone.

    Attributes:
        training: its module `gru4rec_pytorch`.
        evaluation: its module `evaluation`.
    """

    training: types.ModuleType
    evaluation: types.ModuleType

    def model(self, parameters: Mapping[str, Any], *, device: str = "cpu", seed: int = 1) -> Any:
        """An untrained model of theirs; `seed` seeds torch's global generator, which it draws from."""
        import torch

        torch.manual_seed(seed)
        model = self.training.GRU4Rec(device=torch.device(device))
        with silence():
            model.set_params(**parameters)
        return model

    def train(self, model: Any, clicks: Any, on_step: Callable[[int], None] | None = None) -> None:
        """Train a model of theirs on a DataFrame, which is not changed.

        Args:
            model: from `model`.
            clicks: from `read_clicks`.
            on_step: called with the number of rows once in every step, always at the same point, so that the time
                between two calls is that of a whole step; an exception that it raises ends the training.
        """
        if on_step is not None:
            loss = model.loss_function

            def loss_with_callback(scores: Any, columns: Any, n_valid: int) -> Any:
                on_step(len(scores))
                return loss(scores, columns, n_valid)

            model.loss_function = loss_with_callback
        with silence():
            model.fit(clicks.copy(), compatibility_mode=False)

    def evaluate(self, model: Any, clicks: Any) -> tuple[float, float]:
        """Recall@20 and MRR@20 of a trained model, all items ranked, ties in the target's favour."""
        n_sessions = int(clicks.loc[clicks["ItemId"].isin(model.data_iterator.itemidmap.index), "SessionId"].nunique())
        with silence():
            recall, mrr = self.evaluation.batch_eval(
                model, clicks.copy(), cutoff=[20], batch_size=min(EVALUATION_BATCH_SIZE, n_sessions), mode="standard"
            )
        return float(recall[20]), float(mrr[20])


def pair_weights(theirs: Any, network: Network, vocabulary: Vocabulary) -> list[tuple[Tensor, Tensor, np.ndarray]]:
    """Match the weights of a network of ours with those of a model of theirs.

    Args:
        theirs: a model built by their code, for the same log.
        network, vocabulary: ours, with one layer, a constrained embedding and dot scores.

    Returns:
        For each weight theirs, ours, and the row of ours for each row of theirs.

    Raises:
        UserError: ours has another architecture or other items.
    """
    if len(network.widths) != 1 or not network.constrained or network.temperature is not None:
        raise UserError("expected a model of one layer with a constrained embedding and dot scores, got another")
    numbers = theirs.data_iterator.itemidmap
    items = vocabulary.numbers([str(item) for item in numbers.index])
    if len(numbers) != network.n_items or (items < 0).any():
        raise UserError("train: expected the log that the model was trained on, got one with other items")
    layer, cell = network.layers[0], theirs.model.G[0]
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [
        (theirs.model.Wy.weight, network.output_table, items),
        (theirs.model.By.weight, network.output_bias.unsqueeze(1), items),
        *((own := getattr(cell, name), getattr(layer, name), np.arange(len(own))) for name in names),
    ]


def load(directory: Path) -> OfficialCode:
    """Import the clone.

    Raises:
        UserError: the folder is not such a clone, or one of its modules cannot be imported.
    """
    if not (directory / f"{MODULE}.py").is_file():
        raise UserError(
            f"{directory}: expected a clone of github.com/hidasib/GRU4Rec_PyTorch_Official, found no {MODULE}.py there"
        )
    with _put_first_on_path(directory):
        try:
            training = importlib.import_module(MODULE)
            evaluation = importlib.import_module("evaluation")
        except ImportError as error:
            raise UserError(
                f"{directory}: {error}; the official code needs pandas: pip install pandas pyarrow"
            ) from None
    training.torch = _torch_for_pandas()  # type: ignore[attr-defined]
    return OfficialCode(training, evaluation)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Discard what the official code prints."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


@contextlib.contextmanager
def _put_first_on_path(directory: Path) -> Iterator[None]:
    """Import from this folder, and leave no compiled files in it."""
    wrote_no_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(directory.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(directory.resolve()))
        sys.dont_write_bytecode = wrote_no_bytecode


def _torch_for_pandas() -> types.ModuleType:
    """The names of torch, with a `tensor` that accepts a pandas Series."""
    import pandas as pd
    import torch

    def tensor(values: Any, **options: Any) -> torch.Tensor:
        return torch.tensor(values.to_numpy() if isinstance(values, pd.Series) else values, **options)

    stand_in = types.ModuleType("torch")
    stand_in.__dict__.update(torch.__dict__)
    stand_in.tensor = tensor  # type: ignore[attr-defined]
    return stand_in
