"""Models of the authors' code next to ours: every weight in its place, whatever order their items are in."""

import importlib
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from gru4rec.config.train_config import TrainConfig
from gru4rec.model.network import Network
from inference.shared.errors import UserError
from inference.shared.vocabulary import Vocabulary
from tests.support.paths import ROOT

FOLDER = ROOT / "examples" / "benchmarks"
ITEMS = ["a", "b", "c"]


@pytest.fixture
def official_code(monkeypatch):
    """The module, which needs no clone for this."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("official_code")
    sys.modules.pop("official_code", None)


def theirs(*items, units=4):
    """What a built model of theirs has, its items in an order of its own."""
    model = SimpleNamespace(
        G=[torch.nn.GRUCell(units, units)],
        Wy=torch.nn.Embedding(len(items), units),
        By=torch.nn.Embedding(len(items), 1),
    )
    return SimpleNamespace(model=model, data_iterator=SimpleNamespace(itemidmap=pd.Series(range(len(items)), items)))


def test_rows_of_theirs_become_the_rows_of_the_same_items(official_code):
    model, network = theirs("c", "a", "b"), Network(3, TrainConfig(layers=(4,)))
    with torch.no_grad():
        for from_theirs, ours, rows in official_code.pair_weights(model, network, Vocabulary(ITEMS)):
            ours[torch.from_numpy(rows)] = from_theirs
        cell = model.model.G[0]
        for place, item in enumerate(["c", "a", "b"]):
            row = ITEMS.index(item)
            assert torch.equal(network.output_table[row], model.model.Wy.weight[place])
            assert network.output_bias[row] == model.model.By.weight[place, 0]
        inputs, state = network.output_table, torch.rand(3, 4)
        torch.testing.assert_close(network.layers[0](inputs, state), cell(inputs, state))


@pytest.mark.parametrize(
    ("config", "items", "message"),
    [
        (TrainConfig(layers=(4, 4)), ITEMS, "expected a model of one layer"),
        (TrainConfig(layers=(4,), score="cosine"), ITEMS, "expected a model of one layer"),
        (TrainConfig(layers=(4,), constrained_embedding=False), ITEMS, "expected a model of one layer"),
        (TrainConfig(layers=(4,)), ["a", "b", "d"], "expected the log that the model was trained on"),
    ],
)
def test_models_of_another_kind_or_of_other_items_are_refused(official_code, config, items, message):
    with pytest.raises(UserError, match=message):
        official_code.pair_weights(theirs(*items), Network(3, config), Vocabulary(ITEMS))
