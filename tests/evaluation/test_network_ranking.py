"""Full ranking: ties, unknown items, batches; against a loop written plainly."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from gru4rec.config.train_config import TrainConfig
from gru4rec.data.sessions import Sessions
from gru4rec.evaluation.assessment import summarize
from gru4rec.evaluation.evaluator import evaluate
from gru4rec.evaluation.network_ranking import rank_with_network
from gru4rec.evaluation.rankings import Rankings
from gru4rec.model.network import Network
from inference.shared.errors import UserError
from inference.shared.vocabulary import Vocabulary


def network_of(n_items: int, layers=(8,), seed=0, **config) -> Network:
    network = Network(n_items, TrainConfig(layers=layers, seed=seed, **config))
    generator = torch.Generator().manual_seed(seed)
    for tensor in network.tensors().values():
        tensor.uniform_(-0.8, 0.8, generator=generator)
    return network


def constant_scores(biases: list[float]) -> Network:
    """A network that scores every item by its bias, whatever the session."""
    network = network_of(len(biases))
    network.output_table.zero_()
    network.output_bias.copy_(torch.tensor(biases))
    return network


def ranks_one_session_at_a_time(network: Network, sessions: list[list[int]]) -> list[float]:
    ranked = []
    for session in sessions:
        state = network.zero_state(1)
        for item, target in pairwise(session):
            output = network.input_table[item].unsqueeze(0)
            for number, layer in enumerate(network.layers):
                output = state[number] = layer(output, state[number])
            scores = (output @ network.output_table.T + network.output_bias)[0]
            ranked.append(float((scores > scores[target]).sum() + 1))
    return ranked


@pytest.mark.parametrize("layers", [(8,), (6, 8)])
def test_batched_ranks_equal_a_plain_loop_and_states_start_at_zero(layers, monkeypatch):
    monkeypatch.setattr("gru4rec.evaluation.network_ranking.SESSIONS_PER_BATCH", 7)
    monkeypatch.setattr("gru4rec.evaluation.network_ranking.STATES_AT_ONCE", 40)
    monkeypatch.setattr("gru4rec.evaluation.network_ranking.STATES_PER_CHUNK", 16)
    monkeypatch.setattr("gru4rec.evaluation.network_ranking.ITEMS_PER_BLOCK", 9)
    generator = np.random.default_rng(0)
    sessions = [generator.integers(0, 50, size=size).tolist() for size in generator.integers(1, 12, size=40)]
    network = network_of(50, layers)
    ours = rank_with_network(network, Sessions.from_lists(sessions)).ranks("standard")
    np.testing.assert_array_equal(ours, ranks_one_session_at_a_time(network, sessions))


@pytest.mark.parametrize(("block", "n_best"), [(9, 5), (4, 7), (100, 50), (16, 60)])
def test_best_items_are_those_of_the_whole_catalogue(block, n_best, monkeypatch):
    monkeypatch.setattr("gru4rec.evaluation.network_ranking.ITEMS_PER_BLOCK", block)
    generator = np.random.default_rng(0)
    sessions = [generator.integers(0, 50, size=2).tolist() for _ in range(40)]
    network = network_of(50)
    rankings = rank_with_network(network, Sessions.from_lists(sessions), n_best=n_best)
    assert rankings.best.shape == (40, min(n_best, 50))
    clicked = torch.tensor([[first] for first, _ in sessions])
    scores, _ = network.score(clicked, torch.ones(40, dtype=torch.int64), torch.zeros(1, 40, 8))
    expected = scores.topk(min(n_best, 50)).indices.numpy()
    np.testing.assert_array_equal(rankings.best, expected)


@pytest.mark.parametrize("block", [4, 9, 100])
def test_recent_clicks_have_their_bonus_in_the_ranking(block, monkeypatch):
    monkeypatch.setattr("gru4rec.evaluation.network_ranking.ITEMS_PER_BLOCK", block)
    generator = np.random.default_rng(0)
    sessions = [generator.integers(0, 12, size=size).tolist() for size in generator.integers(2, 9, size=40)]
    network = network_of(12, batching="whole-session", n_recent=3)
    parts, width = network.state_shape
    expected = []
    for session in sessions:
        for end in range(1, len(session)):
            clicks, length = torch.tensor([session[:end]]), torch.tensor([end])
            (scores,), _ = network.score(clicks, length, torch.zeros(parts, 1, width))
            expected.append(float((scores > scores[session[end]]).sum() + 1))
    np.testing.assert_array_equal(rank_with_network(network, Sessions.from_lists(sessions)).ranks("standard"), expected)
    network.tensors()["recent.bias"].add_(100.0)
    assert (
        max(rank_with_network(network, Sessions.from_lists([[3, 7, 3], [5, 5, 1, 5]])).ranks("standard")[[1, 2, 4]])
        <= 2
    )


def test_metrics_do_not_depend_on_the_order_of_sessions():
    generator = np.random.default_rng(1)
    sessions = [generator.integers(0, 50, size=6).tolist() for _ in range(30)]
    network = network_of(50)
    forwards = evaluate(network, Sessions.from_lists(sessions)).as_dict()
    assert evaluate(network, Sessions.from_lists(sessions[::-1])).as_dict() == pytest.approx(forwards)


@pytest.mark.parametrize(("ties", "rank"), [("standard", 2), ("conservative", 4), ("median", 3)])
def test_tied_target_is_ranked_as_the_mode_says(ties, rank):
    """One item is better, the target ties with two others."""
    network = constant_scores([9.0, 5.0, 5.0, 5.0, 1.0])
    assert rank_with_network(network, Sessions.from_lists([[0, 2]])).ranks(ties).tolist() == [rank]


def test_collapsed_scores_look_perfect_only_in_standard_mode():
    network = constant_scores([0.0] * 100)
    sessions = Sessions.from_lists([[1, 2], [3, 4]])
    assert evaluate(network, sessions, ties="standard").recall[20] == 1.0
    assert evaluate(network, sessions, ties="conservative").recall[20] == 0.0
    assert rank_with_network(network, sessions).ranks("median").tolist() == [50.5, 50.5]


def test_recall_and_mrr_by_hand():
    rankings = Rankings(np.array([0, 3, 24, 1]), np.ones(4, int), np.empty((4, 0), np.int32))
    result = summarize(rankings, [1, 5, 20], "standard")
    assert result.recall == {1: 0.25, 5: 0.75, 20: 0.75}
    assert result.mrr == {1: 0.25, 5: (1 + 0.25 + 0.5) / 4, 20: (1 + 0.25 + 0.5) / 4}
    assert result.as_dict()["recall@20"] == 0.75
    assert result.as_dict()["events"] == 4


def test_nothing_to_rank_is_one_clear_line():
    with pytest.raises(UserError, match="at least two items that the model knows"):
        evaluate(network_of(5), Sessions.from_lists([[1], [2]]))


def test_model_that_has_diverged_is_not_ranked_first_everywhere():
    network = network_of(5)
    network.output_bias[3] = float("nan")
    with pytest.raises(UserError, match="expected finite weights to evaluate"):
        evaluate(network, Sessions.from_lists([[1, 2]]))


def test_impossible_cutoffs_and_ties_are_refused():
    sessions = Sessions.from_lists([[1, 2]])
    with pytest.raises(UserError, match="cutoffs: expected positive numbers"):
        evaluate(network_of(5), sessions, cutoffs=[0])
    with pytest.raises(
        UserError, match="unknown way of ranking ties 'best'; available: conservative, median, standard"
    ):
        evaluate(network_of(5), sessions, ties="best")


def test_sessions_of_another_vocabulary_are_refused():
    """The same numbers are other items there, and the ranks would be wrong without a word."""
    network, sessions = network_of(3), Sessions.from_lists([[0, 1, 2]])
    network.vocabulary = Vocabulary(["a", "b", "c"])
    assert evaluate(network, replace(sessions, vocabulary=Vocabulary(["a", "b", "c"]))).events == 2
    with pytest.raises(UserError, match=r"got those of another vocabulary; number them with encode\(events, model"):
        evaluate(network, replace(sessions, vocabulary=Vocabulary(["a", "b", "d"])))
