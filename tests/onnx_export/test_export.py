import dataclasses
import json
import types

import numpy as np
import onnx
import pytest
import torch

from gru4rec.config.train_config import TrainConfig
from gru4rec.model.network import Network
from gru4rec.onnx_export.exporter import export
from gru4rec.onnx_export.parity import TOLERANCE, check_parity
from inference.model.artifact import Artifact
from inference.model.recommender import Recommender
from inference.shared.errors import UserError
from inference.shared.vocabulary import Vocabulary
from tests.support.tiny_models import TERMS, build_model, plain_scores, random_weights, save_model

N = len(TERMS)
ARCHITECTURES = {
    "constrained": {"widths": (8,)},
    "two layers": {"widths": (8, 8)},
    "layers that narrow": {"widths": (8, 5, 3)},
    "layers that widen": {"widths": (3, 9)},
    "separate": {"widths": (6,), "embedding": 4},
    "one-hot": {"widths": (5, 4), "embedding": 0},
    "one unit": {"widths": (1,)},
    "recent clicks": {"widths": (8,), "n_recent": 3},
    "more recent clicks than units": {"widths": (4, 2), "n_recent": 6},
}


def zero_state(batch, widths, n_recent=0, **_):
    return np.zeros((len(widths) + bool(n_recent), batch, max(*widths, n_recent)), np.float32)


def run(session, items, lengths, h0, exclude=None, k=N):
    values = {
        "items": np.array(items, np.int64),
        "lengths": np.array(lengths, np.int64),
        "h0": h0,
        "exclude": np.empty((len(items), 0), np.int64) if exclude is None else np.array(exclude, np.int64),
        "k": np.array([k], np.int64),
    }
    return session.run(["ids", "scores", "hidden"], values)


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_the_graph_computes_the_gru_as_written_in_numpy(tmp_path, architecture):
    weights = random_weights(**architecture)
    session = Artifact(save_model(tmp_path / "model.onnx", weights)).create_session()
    widths = architecture["widths"]
    items = np.array([[3, 1, 4, 1, 5], [9, N, N, N, N], [N, N, N, N, N]])
    ids, scores, hidden = run(session, items, [5, 1, 0], zero_state(3, **architecture))
    for row, clicks in enumerate(([3, 1, 4, 1, 5], [9], [])):
        expected, states = plain_scores(weights, clicks)
        np.testing.assert_allclose(scores[row], expected[ids[row]], atol=1e-5)
        assert sorted(ids[row]) == list(range(N))
        assert (np.diff(scores[row]) <= 0).all()
        for number, width in enumerate(widths):
            np.testing.assert_allclose(hidden[number, row, :width], states[number], atol=1e-5)
            assert not hidden[number, row, width:].any()


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_single_clicks_with_the_state_carried_equal_the_whole_session(tmp_path, architecture):
    session = Artifact(save_model(tmp_path / "model.onnx", random_weights(**architecture))).create_session()
    start = zero_state(1, **architecture)
    clicks = [3, 1, 4, 1, 5, 9, 2, 6]
    whole = run(session, [clicks], [len(clicks)], start)
    state = start
    for click in clicks:
        ids, scores, state = run(session, [[click]], [1], state)
    for stepwise, at_once in zip((ids, scores, state), whole, strict=True):
        np.testing.assert_array_equal(stepwise, at_once)


def test_an_empty_row_is_ranked_from_its_state_and_keeps_it(tmp_path):
    weights = random_weights()
    session = Artifact(save_model(tmp_path / "model.onnx", weights)).create_session()
    state = np.random.default_rng(1).normal(size=(1, 2, 8)).astype(np.float32)
    ids, scores, hidden = run(session, [[N], [2]], [0, 1], state)
    np.testing.assert_array_equal(hidden[0, 0], state[0, 0])
    expected = weights.output_table @ state[0, 0] + weights.output_bias
    np.testing.assert_allclose(scores[0], expected[ids[0]], atol=1e-5)


def test_excluded_items_score_minus_infinity(tmp_path):
    session = Artifact(save_model(tmp_path / "model.onnx")).create_session()
    ids, scores, _ = run(session, [[1], [1]], [1, 1], np.zeros((1, 2, 8), np.float32), [[0, 5], [N, N]])
    assert {0, 5} == set(ids[0][np.isneginf(scores[0])])
    assert np.isfinite(scores[1]).all()


def test_the_graph_passes_the_onnx_checker_and_needs_no_other_domain(tmp_path):
    model = onnx.load(save_model(tmp_path / "model.onnx", random_weights(widths=(4, 6))))
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
    assert model.ir_version == 10


def test_a_constrained_embedding_is_stored_once(tmp_path):
    n_items, width = 3000, 16
    constrained = save_model(
        tmp_path / "one.onnx", random_weights(n_items, (width,)), [f"{i:05}" for i in range(n_items)]
    )
    separate = save_model(
        tmp_path / "two.onnx", random_weights(n_items, (width,), width), [f"{i:05}" for i in range(n_items)]
    )
    difference = separate.stat().st_size - constrained.stat().st_size
    assert difference == pytest.approx(4 * n_items * width, rel=0.01)


def small_network(**config):
    network = Network(N, TrainConfig(layers=(6, 4), seed=3, **config))
    network.output_bias.uniform_(-1, 1)
    return network


def test_an_export_keeps_vocabulary_config_and_metrics(tmp_path):
    path = tmp_path / "model.onnx"
    config = {"loss": "bpr-max", "layers": [6, 4], "note": "日本"}
    difference = export(small_network(), Vocabulary(TERMS), path, config=config, metrics={"recall@20": 0.5})
    assert difference < 1e-5
    artifact = Artifact(path)
    artifact.verify()
    assert artifact.vocabulary.terms() == sorted(TERMS)
    assert artifact.layer_widths == (6, 4)
    assert artifact.config == config
    assert artifact.metrics == {"recall@20": 0.5}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"constrained_embedding": False, "embedding": 5},
        {"constrained_embedding": False},
        {"batching": "whole-session", "n_recent": 9},
    ],
)
@pytest.mark.parametrize("n_items", [1, 2, 37])
def test_every_embedding_and_size_exports(tmp_path, config, n_items):
    network = Network(n_items, TrainConfig(layers=(6, 4), **config))
    network.dense.uniform_(-0.8, 0.8)
    export(network, Vocabulary(map(str, range(n_items))), tmp_path / "model.onnx", config={}, metrics={})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tensor", ["output_table", "output_bias", "gru.1.weight_hh"])
def test_weights_that_are_not_finite_are_refused_and_nothing_is_left(tmp_path, value, tensor):
    network = small_network()
    network.tensors()[tensor].view(-1)[2] = value
    path = tmp_path / "model.onnx"
    path.write_bytes(b"an earlier model")
    with pytest.raises(UserError, match="NaN or infinite"):
        export(network, Vocabulary(TERMS), path, config={}, metrics={})
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("model.onnx", b"an earlier model")]


def test_a_graph_that_differs_from_the_network_is_refused_and_nothing_is_left(tmp_path):
    class Shifted(Network):
        def scoring_weights(self):
            weights = super().scoring_weights()
            return dataclasses.replace(weights, output_bias=weights.output_bias + np.float32(0.01))

    network = Shifted(N, TrainConfig(layers=(6, 4)))
    with pytest.raises(UserError, match="differs from the network"):
        export(network, Vocabulary(TERMS), tmp_path / "model.onnx", config={}, metrics={})
    assert not list(tmp_path.iterdir())


def network_that_scores(score):
    return types.SimpleNamespace(score=score, n_items=N, state_shape=(1, 8), dense=torch.empty(0))


@pytest.mark.parametrize("mistake", ["gates swapped", "biases swapped", "state ignored", "padding walked", "NaN"])
def test_the_comparison_notices(tmp_path, mistake):
    weights = random_weights()
    session = Artifact(save_model(tmp_path / "model.onnx", weights)).create_session()
    (layer,) = weights.layers
    if mistake == "gates swapped":
        layer = dataclasses.replace(layer, weight_hh=np.roll(layer.weight_hh, 8, axis=0))
    elif mistake == "biases swapped":
        layer = dataclasses.replace(layer, bias_ih=layer.bias_hh, bias_hh=layer.bias_ih)
    wrong = dataclasses.replace(weights, layers=(layer,))

    def score(items, lengths, hidden):
        rows = []
        for clicks, length, start in zip(items.tolist(), lengths.tolist(), hidden[0].numpy(), strict=True):
            walked = [click % N for click in clicks] if mistake == "padding walked" else clicks[:length]
            begin = np.zeros(8) if mistake == "state ignored" else start.astype(np.float64)
            rows.append(plain_scores(wrong, walked, [begin]))
        scores = torch.tensor(np.array([row[0] for row in rows]))
        if mistake == "NaN":
            scores[0, 0] = torch.nan
        return scores, torch.tensor(np.array([[row[1][0] for row in rows]]))

    with pytest.raises(UserError, match=r"differs|NaN"):
        check_parity(session, network_that_scores(score))


def test_the_comparison_accepts_the_gru_as_written_in_numpy(tmp_path):
    weights = random_weights()
    session = Artifact(save_model(tmp_path / "model.onnx", weights)).create_session()

    def score(items, lengths, hidden):
        rows = [
            plain_scores(weights, clicks[:length], [start.astype(np.float64)])
            for clicks, length, start in zip(items.tolist(), lengths.tolist(), hidden[0].numpy(), strict=True)
        ]
        return torch.tensor(np.array([row[0] for row in rows])), torch.tensor(np.array([[row[1][0] for row in rows]]))

    assert check_parity(session, network_that_scores(score)) < TOLERANCE / 10


def test_a_vocabulary_of_another_size_is_refused():
    with pytest.raises(UserError, match="expected 2 rows"):
        build_model(random_weights(), ["a", "b"])


def test_a_metric_that_is_no_number_becomes_null():
    model = build_model(random_weights(), metrics={"mrr@20": float("nan")})
    assert '{"mrr@20": null}' in [entry.value for entry in model.metadata_props]


def test_k_of_zero_gives_the_state_alone(tmp_path):
    session = Artifact(save_model(tmp_path / "model.onnx", random_weights(widths=(8, 5)))).create_session()
    start = np.zeros((2, 2, 8), np.float32)
    ids, scores, hidden = run(session, [[3, 1], [4, N]], [2, 1], start, k=0)
    assert (ids.shape, scores.shape) == ((2, 0), (2, 0))
    np.testing.assert_array_equal(hidden, run(session, [[3, 1], [4, N]], [2, 1], start)[2])


@pytest.fixture
def small_files(monkeypatch):
    monkeypatch.setattr("gru4rec.onnx_export.onnx_writer.LARGEST_FILE", 1000)
    monkeypatch.setattr("gru4rec.onnx_export.onnx_writer.SMALLEST_OUTSIDE", 100)


def test_weights_that_do_not_fit_into_one_file_go_beside_it(tmp_path, small_files, monkeypatch):
    network = small_network(constrained_embedding=False)
    path = tmp_path / "model.onnx"
    export(network, Vocabulary(TERMS), path, config={}, metrics={})
    model, data = sorted(tmp_path.iterdir())
    artifact = Artifact(path)
    assert (model, data.name) == (path, f"model.onnx.{artifact.digests()['weights_sha256'][:16]}.data")
    onnx.checker.check_model(str(path), full_check=True)
    monkeypatch.undo()
    (tmp_path / "inline").mkdir()
    export(network, Vocabulary(TERMS), tmp_path / "inline" / "model.onnx", config={}, metrics={})
    inline = Artifact(tmp_path / "inline" / "model.onnx")
    assert artifact.digests() == inline.digests()
    inputs = [[3, 1, 4]], [3], np.zeros((2, 1, 6), np.float32)
    for outside, inside in zip(
        run(artifact.create_session(), *inputs), run(inline.create_session(), *inputs), strict=True
    ):
        np.testing.assert_array_equal(outside, inside)


def test_an_export_replaces_the_weights_of_the_model_that_was_there(tmp_path, small_files):
    bystander = tmp_path / "other.onnx.0123456789abcdef.data"
    bystander.write_bytes(b"of another model")
    network = small_network()
    for _ in range(2):
        export(network, Vocabulary(TERMS), tmp_path / "model.onnx", config={}, metrics={})
        artifact = Artifact(tmp_path / "model.onnx")
        artifact.verify()
        assert len(list(tmp_path.iterdir())) == 3
        network.output_bias.add_(1)


def test_an_export_that_fails_leaves_no_weights(tmp_path, small_files, monkeypatch):
    monkeypatch.setattr("gru4rec.onnx_export.parity.TOLERANCE", 0.0)
    with pytest.raises(UserError, match="differs"):
        export(small_network(), Vocabulary(TERMS), tmp_path / "model.onnx", config={}, metrics={})
    assert not list(tmp_path.iterdir())


def test_a_place_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        export(small_network(), Vocabulary(TERMS), tmp_path / "no" / "model.onnx", config={}, metrics={})


def test_metrics_are_plain_json_in_the_file(tmp_path):
    model = onnx.load(save_model(tmp_path / "model.onnx", metrics={"mrr@20": 0.25}))
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(properties["metrics"]) == {"mrr@20": 0.25}
    assert properties["vocab"].split("\n") == sorted(TERMS)


@pytest.mark.parametrize(
    "choices",
    [
        {"layers": (8,)},
        {"layers": (6, 8), "constrained_embedding": False, "embedding": 5},
        {"layers": (8,), "constrained_embedding": False},
        {"layers": (8,), "batching": "whole-session", "n_recent": 2},
    ],
)
def test_cosine_scores_survive_the_export_for_all_items_and_for_allowed_ones(choices, tmp_path):
    network = Network(len(TERMS), TrainConfig(score="cosine", temperature=9.0, **choices))
    generator = torch.Generator().manual_seed(0)
    for tensor in network.tensors().values():
        tensor.uniform_(-0.8, 0.8, generator=generator)
    network.output_bias.zero_()
    export(network, Vocabulary(TERMS), tmp_path / "model.onnx", config={}, metrics={})
    recommender = Recommender.load(tmp_path / "model.onnx")
    assert recommender.artifact.temperature == 9.0
    terms = recommender.vocabulary.terms()
    sessions = [[], [terms[2]], [terms[1], terms[0], terms[3]]]
    for session, everything in zip(sessions, recommender.recommend(sessions, k=len(terms)), strict=True):
        numbers = torch.from_numpy(recommender.vocabulary.numbers(session)).reshape(1, -1)
        hidden = torch.zeros(network.state_shape[0], 1, network.state_shape[1])
        scores, _ = network.score(numbers, torch.tensor([len(session)]), hidden)
        expected = {term: scores[0, number].item() for number, term in enumerate(terms)}
        assert dict(zip(everything.items, everything.scores, strict=True)) == pytest.approx(expected, abs=1e-5)
        assert max(map(abs, everything.scores)) <= 9.0 + 1e-5 or network.n_recent
        (some,) = recommender.recommend([session], k=2, allow=terms[:2])
        best_two = sorted(terms[:2], key=lambda term: -expected[term])
        assert some.scores == pytest.approx([expected[term] for term in best_two], abs=1e-5)
