"""Exports that scan large catalogues in 8 bits before they score the best items exactly."""

import json
import re

import numpy as np
import onnx
import polars as pl
import pytest
import torch
from onnx import numpy_helper

from gru4rec.cli import main
from gru4rec.config.train_config import TrainConfig
from gru4rec.model.network import Network
from gru4rec.onnx_export.exporter import export, export_with_scan
from gru4rec.onnx_export.int8_scan import CANDIDATES, LARGEST_BIAS, quantize
from inference.cli import main as infer
from inference.model.format import SCAN_BLOCK, SCAN_SCALE, SCAN_WEIGHT
from inference.model.recommender import Recommender
from inference.shared.errors import UserError
from inference.shared.vocabulary import Vocabulary

N = 3000  # many more than the candidates
TERMS = [f"item-{number:04}" for number in range(N)]


@pytest.fixture(autouse=True)
def few_turns(monkeypatch):
    """Times are not what is tested."""
    monkeypatch.setattr("gru4rec.onnx_export.scan_report.SECONDS", 0.0)


def network_of(n_items=N, bias=True, **config):
    network = Network(n_items, TrainConfig(**({"layers": (12,)} | config)))
    generator = torch.Generator().manual_seed(1)
    network.output_table.normal_(0, 0.5, generator=generator)
    if bias:
        network.output_bias.normal_(0, 0.5, generator=generator)
    for name, tensor in network.tensors().items():
        if name.startswith("recent"):
            tensor.normal_(0, 0.5, generator=generator)
    return network


def sessions_of(count=60, n_items=N, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.integers(0, n_items, generator.integers(1, 8)) for _ in range(count)]


def both(folder, network, terms=TERMS):
    """Recommenders of the exact and of the scanning file."""
    description = {"config": {}, "metrics": {}}
    export(network, Vocabulary(terms), folder / "exact.onnx", **description)
    sessions = sessions_of(n_items=len(terms))
    export_with_scan(network, Vocabulary(terms), folder / "scan.onnx", **description, calibration=sessions)
    return Recommender.load(folder / "exact.onnx"), Recommender.load(folder / "scan.onnx")


def assert_equal_up_to_near_ties(scan, exact):
    for left, right in zip(scan, exact, strict=True):
        assert left.scores == pytest.approx(right.scores, abs=2e-5)
        assert len(set(left.items)) == len(left.items) == len(right.items)
        assert len(set(left.items) & set(right.items)) >= len(right.items) - 1
        assert (left.unknown, left.n_known) == (right.unknown, right.n_known)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"bias": False},
        {"layers": (6, 9), "constrained_embedding": False, "embedding": 5},
        {"layers": (12,), "score": "cosine", "temperature": 9.0, "bias": False},
        {"layers": (12,), "batching": "whole-session", "bias": False, "n_recent": 4},
        {"layers": (12,), "batching": "whole-session", "score": "dot", "optimizer": "adagrad", "n_recent": 4},
    ],
    ids=["constrained", "no bias", "two layers", "cosine", "recent clicks", "recent clicks and bias"],
)
def test_a_scan_recommends_what_exact_scores_recommend(tmp_path, config):
    exact, scan = both(tmp_path, network_of(**config))
    sessions = [[TERMS[number] for number in session] for session in sessions_of(40, seed=5)] + [[], ["??", TERMS[3]]]
    allowed = tuple(TERMS[100:400])
    excluded = [item for one in exact.recommend(sessions[:5], k=5) for item in one.items]
    for options in ({}, {"k": 1}, {"k": 300}, {"exclude_seen": True, "exclude": excluded}, {"allow": allowed}):
        results = scan.recommend(sessions, **options)
        assert_equal_up_to_near_ties(results, exact.recommend(sessions, **options))
        assert not {item for result in results for item in result.items} & set(options.get("exclude", ()))


def test_a_scan_is_the_same_click_by_click_and_whatever_else_is_in_the_batch(tmp_path):
    _, scan = both(tmp_path, network_of())
    sessions = [[TERMS[number] for number in session] for session in sessions_of(20, seed=6)]
    together = scan.recommend(sessions, batch_size=20)
    for session, whole in zip(sessions, together, strict=True):
        state = scan.new_state()
        for item in session:
            state, answer = scan.step(state, item)
        assert answer.items == whole.items
        assert answer.scores == pytest.approx(whole.scores, abs=1e-6)


@pytest.mark.parametrize("n_items", [1, SCAN_BLOCK - 1, SCAN_BLOCK, CANDIDATES + 1])
def test_catalogues_around_the_sizes_of_blocks_and_candidates_are_ranked_whole(tmp_path, n_items):
    terms = TERMS[:n_items]
    exact, scan = both(tmp_path, network_of(n_items), terms)
    for exclude in ((), tuple(terms[1:]), tuple(terms)):
        results = [one.recommend([[terms[0]], []], k=n_items, exclude=exclude) for one in (scan, exact)]
        assert_equal_up_to_near_ties(*results)
        assert len(results[0][0].items) == n_items - len(exclude)


def test_of_equal_scores_the_smaller_number_comes_first(tmp_path):
    network = network_of()
    network.output_table[:] = network.output_table[0]
    network.output_bias[:] = 0.25
    _, scan = both(tmp_path, network)
    assert scan.recommend([[TERMS[7]]], k=4)[0].items == tuple(TERMS[:4])


def test_only_open_items_are_found_where_nearly_everything_is_excluded(tmp_path):
    exact, scan = both(tmp_path, network_of())
    exclude = [term for number, term in enumerate(TERMS) if number % 500]
    assert_equal_up_to_near_ties(*(one.recommend([TERMS[:3]], k=20, exclude=exclude) for one in (scan, exact)))


def test_rounding_is_off_by_no_more_than_half_a_step_for_each_number():
    generator = np.random.default_rng(3)
    table = generator.normal(size=(150, 7)).astype(np.float32)
    table[70] *= 30  # an unusual row makes the steps of its own block wide, not those of the others
    bias = generator.normal(size=150).astype(np.float32)
    scan = quantize(table, bias, largest_query=2.0)
    by_row = np.repeat(scan.scale / scan.query_scale, SCAN_BLOCK)[:150]
    assert (np.abs(scan.weight[:7, :150].T * by_row[:, None] - table) <= by_row[:, None] * 0.5001).all()
    of_bias = scan.weight[7:, :150].astype(int).T @ [63, 63, 63, 1] * by_row * scan.query_scale
    assert (np.abs(of_bias - bias) <= by_row * scan.query_scale * 0.5001).all()
    assert by_row[:64].max() < by_row[70] / 5
    assert not scan.weight[:, 150:].any()


def test_large_biases_widen_the_steps_instead_of_overflowing():
    bias = np.array([500.0, -500.0, 0.0], np.float32)
    scan = quantize(np.full((3, 2), 0.01, np.float32), bias, largest_query=1.0)
    of_bias = scan.weight[2:, :3].astype(int).T @ [63, 63, 63, 1]
    assert of_bias.tolist() == [LARGEST_BIAS, -LARGEST_BIAS, 0]
    assert of_bias * scan.scale[0] == pytest.approx(bias)


def test_a_scan_that_loses_items_is_refused_with_the_figures_and_nothing_is_left(tmp_path, monkeypatch):
    def coarse(table, bias, largest_query):
        return quantize(np.zeros_like(table), bias, largest_query)

    monkeypatch.setattr("gru4rec.onnx_export.exporter.quantize", coarse)
    with pytest.raises(UserError, match=r"0\.\d+ of the top 20 items of 30 sessions agree .* at least 0\.999"):
        both(tmp_path, network_of())
    assert [file.name for file in tmp_path.iterdir()] == ["exact.onnx"]


def test_without_a_session_of_known_items_there_is_no_scan(tmp_path):
    with pytest.raises(UserError, match="expected sessions"):
        export_with_scan(network_of(), Vocabulary(TERMS), tmp_path / "m.onnx", config={}, metrics={}, calibration=[])
    assert not list(tmp_path.iterdir())


def test_a_place_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        export_with_scan(
            network_of(),
            Vocabulary(TERMS),
            tmp_path / "no" / "m.onnx",
            config={},
            metrics={},
            calibration=sessions_of(4),
        )


def test_the_file_keeps_its_form(tmp_path):
    _, scan = both(tmp_path, network_of())
    artifact = scan.artifact
    artifact.verify()
    assert artifact.scan == {"kind": "int8", "sessions": 30, "agreement@20": 1.0}
    model = onnx.load(tmp_path / "scan.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [entry.domain for entry in model.opset_import] == [""]
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    n_blocks = -(-(N + 1) // SCAN_BLOCK)
    assert shapes[SCAN_WEIGHT] == (12 + 4, n_blocks * SCAN_BLOCK)
    assert shapes[SCAN_SCALE] == (n_blocks,)


def test_weights_of_a_scan_may_lie_in_another_file(tmp_path, monkeypatch):
    monkeypatch.setattr("gru4rec.onnx_export.onnx_writer.LARGEST_FILE", 1000)
    exact, scan = both(tmp_path, network_of())
    assert len(list(tmp_path.glob("scan.onnx.*.data"))) == 1
    assert_equal_up_to_near_ties(*(one.recommend([TERMS[:3]]) for one in (scan, exact)))


@pytest.mark.slow
def test_a_flipped_bit_is_refused_or_changes_no_recommendation(tmp_path):
    _, scan = both(tmp_path, network_of(300, layers=(4,)), TERMS[:300])
    sessions = [TERMS[:2], []]
    expected = scan.recommend(sessions, k=300)
    path = tmp_path / "scan.onnx"
    content = path.read_bytes()
    generator = np.random.default_rng(0)
    for place, bit in zip(generator.integers(0, len(content), 200), generator.integers(0, 8, 200), strict=True):
        changed = bytearray(content)
        changed[place] ^= 1 << int(bit)
        path.write_bytes(changed)
        try:
            recommender = Recommender.load(path)
            recommender.artifact.verify()
        except UserError:
            continue
        assert recommender.recommend(sessions, k=300) == expected


@pytest.mark.parametrize("name", [SCAN_SCALE, "query_scale"])
def test_steps_that_are_no_numbers_are_refused(tmp_path, name):
    both(tmp_path, network_of(300, layers=(4,)), TERMS[:300])
    model = onnx.load(tmp_path / "scan.onnx")
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(tensor), np.nan), name))
    (tmp_path / "nan.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=f"NaN or infinite weights in '{name}'"):
        Recommender.load(tmp_path / "nan.onnx")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a log and a model directory of it."""
    folder = tmp_path_factory.mktemp("trained")
    assert main(["synth", "--out", str(folder / "clicks.tsv"), "--events", "6000", "--items", "900"]) == 0
    train = ["train", "--train", str(folder / "clicks.tsv"), "--out", str(folder / "model"), "--layers", "16"]
    assert main([*train, "--n-epochs", "1", "--n-sample", "64"]) == 0
    return folder


@pytest.mark.parametrize("kind", ["tsv", "jsonl", "parquet"])
def test_the_command_writes_a_scanning_model_and_says_how_good_and_how_fast_it_is(trained, kind, capsys):
    calibration = trained / f"clicks.{kind}"
    items = [line.split("\t")[1] for line in (trained / "clicks.tsv").read_text().splitlines()[1:]]
    if kind == "jsonl":
        lines = [json.dumps({"session": str(row), "items": [*items[row : row + 4], "??"]}) for row in range(50)]
        calibration.write_text("\n".join(lines))
    elif kind == "parquet":
        pl.read_csv(trained / "clicks.tsv", separator="\t").write_parquet(calibration)
    out = trained / f"{kind}.onnx"
    assert (
        main(["export", str(trained / "model"), "--out", str(out), "--scan", "int8", "--calibration", str(calibration)])
        == 0
    )
    said = capsys.readouterr().out
    assert "1.0000 of the top 20 items of " in said
    assert len(re.findall(r"batch of +\d+: [\d.]+ ms, exact [\d.]+ ms: [\d.]+ times", said)) == 2
    assert infer(["--model", str(out), "--info", "--verify"]) == 0
    assert re.search(r"kind +int8", capsys.readouterr().out)
    assert len(Recommender.load(out).recommend([items[:3]], exclude_seen=True)[0].items) == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scan", "int8"], "go together"),
        (["--calibration", "clicks.tsv"], "go together"),
        (["--scan", "int8", "--calibration", "missing.tsv"], "missing.tsv"),
        (["--scan", "int8", "--calibration", "strangers.jsonl"], "expected sessions"),
        (["--scan", "int4", "--calibration", "clicks.tsv"], "int4"),
    ],
)
def test_a_mistake_in_the_arguments_is_one_line_and_exit_code_2(trained, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(trained)
    (trained / "strangers.jsonl").write_text('{"session": "s", "items": ["??"]}\n')
    assert main(["export", "model", "--out", "refused.onnx", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert not (trained / "refused.onnx").exists()
