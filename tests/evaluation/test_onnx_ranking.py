"""An exported model is evaluated from its own answers and agrees with the network it was made from."""

import numpy as np
import pytest
import torch

from gru4rec.config.train_config import TrainConfig
from gru4rec.data.sessions import Sessions
from gru4rec.evaluation.assessment import Settings, assess
from gru4rec.evaluation.evaluator import evaluate
from gru4rec.evaluation.network_ranking import rank_with_network
from gru4rec.evaluation.onnx_ranking import rank_with_artifact
from gru4rec.evaluation.rankings import Targets
from gru4rec.model.network import Network
from gru4rec.onnx_export.exporter import export
from inference.model.recommender import Recommender
from inference.shared.vocabulary import Vocabulary

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
    ours = evaluate(exported(network, tmp_path / "model.onnx"), sessions, cutoffs=[1, 5, 20], ties=ties)
    assert ours.as_dict() == pytest.approx(evaluate(network, sessions, cutoffs=[1, 5, 20], ties=ties).as_dict())


@pytest.mark.parametrize(("levels", "in_reach"), [(1, 1), (2, 1), (30, 3)])  # 60, 30 or 2 items of a level, 5 ranks
def test_as_many_targets_are_tied_as_for_the_network_and_the_alarm_is_the_same(levels, in_reach, network, tmp_path):
    network.output_table.zero_()
    network.output_bias.copy_(torch.arange(N_ITEMS) % levels)
    sessions = Sessions.from_lists(np.random.default_rng(1).integers(0, N_ITEMS, size=(40, 6)).tolist())
    recommender, targets, settings = exported(network, tmp_path / "model.onnx"), Targets.of(sessions), Settings((1, 5))
    ours = assess(rank_with_artifact(recommender, sessions, n_best=5), targets, N_ITEMS, settings)
    theirs = assess(rank_with_network(network, sessions, n_best=5), targets, N_ITEMS, settings)
    assert (ours.tied, ours.tie_spread) == (theirs.tied, theirs.tie_spread)
    assert ours.tied == pytest.approx((targets.item % levels >= levels - in_reach).mean())


def test_cutoff_beyond_the_catalogue_ranks_everything(network, tmp_path):
    sessions = Sessions.from_lists([[1, 2, 3], [4, 5]])
    ours = evaluate(exported(network, tmp_path / "model.onnx"), sessions, cutoffs=[1000])
    assert ours.recall[1000] == 1.0
