"""An exported model is evaluated from its own answers and agrees with the network it was made from."""

import numpy as np
import pytest
import torch

from gru4rec.artifact_evaluation import evaluate_artifact
from gru4rec.config import TrainConfig
from gru4rec.evaluation import evaluate
from gru4rec.export import export
from gru4rec.model import Network
from gru4rec.sessions import Sessions
from inference.recommender import Recommender
from inference.vocabulary import Vocabulary

N_ITEMS = 60


@pytest.fixture
def network():
    network = Network(N_ITEMS, TrainConfig(layers=(8,)))
    for tensor in network.tensors().values():
        tensor.uniform_(-0.8, 0.8, generator=torch.Generator().manual_seed(0))
    return network


def exported(network, path) -> Recommender:
    vocabulary = Vocabulary(f"item-{number:06d}" for number in range(N_ITEMS))
    export(network, vocabulary, path, config={}, metrics={})
    return Recommender.load(path)


@pytest.mark.parametrize("ties", ["standard", "conservative", "median"])
@pytest.mark.parametrize("bias_levels", [None, 2, 1])
def test_exported_model_has_the_metrics_of_its_network(network, tmp_path, ties, bias_levels):
    """With all weights zero and few different biases, nearly everything ties."""
    if bias_levels is not None:
        network.output_table.zero_()
        network.output_bias.copy_(torch.arange(N_ITEMS) % bias_levels)
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 9, size=30)
    sessions = Sessions.from_lists([generator.integers(0, N_ITEMS, size=size).tolist() for size in lengths])
    ours = evaluate_artifact(exported(network, tmp_path / "model.onnx"), sessions, cutoffs=[1, 5, 20], ties=ties)
    assert ours.as_dict() == pytest.approx(evaluate(network, sessions, cutoffs=[1, 5, 20], ties=ties).as_dict())


def test_cutoff_beyond_the_catalogue_ranks_everything(network, tmp_path):
    sessions = Sessions.from_lists([[1, 2, 3], [4, 5]])
    ours = evaluate_artifact(exported(network, tmp_path / "model.onnx"), sessions, cutoffs=[1000])
    assert ours.recall[1000] == 1.0
