"""The examples run, do what they say, and take a user's mistakes well."""

import importlib
import json
import re
import sys

import numpy as np
import polars as pl
import pytest
import torch

from examples import bulk_scoring, streaming, train_and_score
from gru4rec.cli import main as gru4rec
from gru4rec.config.files import read_config
from gru4rec.model.losses import LOSSES
from gru4rec.training.samplers import SAMPLERS
from inference import Recommender
from inference.cli import main as infer
from tests.support.small_logs import frame_of, markov_sessions
from tests.support.tiny_models import random_weights, save_model
from tune.search import main as search

SMALL = ["--layers", "8", "--n-sample", "16", "--batch-size", "8"]
ITEMS = [f"{number:03}" for number in range(40)]


@pytest.fixture(scope="module")
def plugins():
    """The loss and the sampler of the examples; what they register is forgotten afterwards."""
    names = ("examples.custom_loss", "examples.custom_sampler")
    yield tuple(importlib.import_module(name) for name in names)
    del LOSSES["gbce"], SAMPLERS["mixed"]
    for name in names:
        del sys.modules[name]


@pytest.fixture(scope="module")
def clicks(tmp_path_factory):
    """A folder with clicks.tsv."""
    folder = tmp_path_factory.mktemp("examples")
    frame_of(markov_sessions(60, 30, seed=2)).write_csv(folder / "clicks.tsv", separator="\t")
    return folder


@pytest.mark.parametrize(
    ("scores", "excluded", "beta", "expected"),
    [
        ([0.0, 0.0, 0.0], None, 1.0, np.log(2)),  # three times −log ½, over three columns
        ([0.0, 0.0, 0.0], None, 0.5, 2.5 / 3 * np.log(2)),
        ([0.0, 0.0, 0.0], [False, True, False], 0.5, 1.5 / 2 * np.log(2)),
        ([-np.log(3), np.log(3)], None, 0.25, (0.25 + 1) / 2 * np.log(4)),  # σ(−log 3) = 1 − σ(log 3) = ¼
        ([-1e4, 1e4], None, 0.5, 7.5e3),
    ],
)
def test_gbce_is_the_formula(plugins, scores, excluded, beta, expected):
    rows = torch.tensor([scores], dtype=torch.float64, requires_grad=True)
    mask = None if excluded is None else torch.tensor([excluded])
    (loss,) = plugins[0].gbce(rows, torch.tensor([0]), mask, beta=beta)
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    assert rows.grad.isfinite().all()
    assert excluded is None or rows.grad[mask].eq(0).all()


def test_mixed_negatives_have_the_chances_that_are_said(plugins):
    sampler = plugins[1].MixedSampler(np.array([1, 3, 0]), n_sample=50, sample_alpha=1.0, share=0.6)
    chance = [0.4 / 4 + 0.2, 0.4 * 3 / 4 + 0.2, 0.2]
    np.testing.assert_allclose(np.exp(sampler.log_weight), chance, rtol=1e-6)
    drawn = sampler.draw(4000, np.random.default_rng(1))
    assert (drawn.shape, drawn.dtype) == ((4000, 50), np.int32)
    np.testing.assert_allclose(np.bincount(drawn.ravel()) / drawn.size, chance, atol=0.005)  # five deviations


def test_popularity_alone_never_draws_what_has_no_clicks(plugins):
    sampler = plugins[1].MixedSampler(np.array([1, 3, 0]), n_sample=50, sample_alpha=1.0, share=0.0)
    assert set(sampler.draw(100, np.random.default_rng(1)).ravel()) == {0, 1}


@pytest.mark.parametrize("number", [0, 1])
def test_commands_of_the_plugins_train(plugins, clicks, monkeypatch, number):
    monkeypatch.chdir(clicks)
    command, _ = re.findall(r"^    (?:gru4rec|python) (.*)$", plugins[number].__doc__, re.MULTILINE)
    out = ["--out", f"model-{number}", "--n-epochs", "1", *SMALL]
    assert gru4rec([*command.replace(" --out model", "").split(), *out]) == 0
    assert ("gbce", "mixed")[number] in (clicks / f"model-{number}" / "config.toml").read_text()


def test_an_impossible_share_is_one_line(plugins, clicks, capsys):
    command = ["train", "--train", str(clicks / "clicks.tsv"), "--out", str(clicks / "none"), "--sampler", "mixed"]
    assert gru4rec([*command, "--sampler-options.share", "2", *SMALL]) == 2
    assert capsys.readouterr().err.endswith("error: sampler_options: share: expected a number from 0 to 1, got 2\n")


@pytest.mark.slow
def test_a_search_draws_the_options_of_the_plugins(plugins, clicks, ray_here):
    command = ["--train", str(clicks / "clicks.tsv"), "--out", str(clicks / "search"), "--search", "random"]
    chosen = ["--plugin", "examples.custom_loss", "--plugin", "examples.custom_sampler", "--loss", "gbce"]
    short = ["--sampler", "mixed", "--trials", "1", "--epochs", "1", "--no-refit", "--no-seeds"]
    assert search([*command, *chosen, *short, *SMALL]) == 0
    best = read_config(clicks / "search" / "best.toml")
    assert 0.05 <= best["loss_options"]["beta"] < 1
    assert 0 <= best["sampler_options"]["share"] <= 1
    assert (best["loss_options"]["beta"], best["sampler_options"]["share"]) != (0.5, 0.5)  # not the defaults


def test_training_and_scoring_from_python(clicks, tmp_path, capsys):
    flags = ["--out", str(tmp_path / "model.onnx"), "--epochs", "1"]
    assert train_and_score.main([*flags, "--train", str(clicks / "clicks.tsv")]) == 0
    shown = capsys.readouterr()
    recommended = re.findall(r"^  (item-\d+) +-?\d+\.\d+$", shown.out, re.MULTILINE)
    (session,) = re.findall(r"^after (.*):$", shown.out, re.MULTILINE)
    model = Recommender.load(tmp_path / "model.onnx")
    assert list(model.recommend([session.split(" → ")], k=5, exclude_seen=True)[0].items) == recommended
    assert train_and_score.main([*flags, "--train", str(clicks / "no.tsv")]) == 2
    assert re.fullmatch(r"error: .*no\.tsv\n", capsys.readouterr().err)


@pytest.fixture(scope="module")
def bulk(tmp_path_factory):
    """A folder with a model and the clicks of 3,000 sessions, mixed with one another; some items are unknown."""
    folder = tmp_path_factory.mktemp("bulk")
    save_model(folder / "model.onnx", random_weights(len(ITEMS)), ITEMS)
    generator = np.random.default_rng(3)
    rows = [
        (f"s{session}", f"{generator.integers(44):03}", int(generator.integers(10)))
        for session in range(3000)
        for _ in range(generator.integers(1, 6))
    ]
    frame = pl.DataFrame(rows, schema=["SessionId", "ItemId", "Time"], orient="row").sample(
        fraction=1, shuffle=True, seed=1
    )
    frame.write_csv(folder / "clicks.tsv", separator="\t")
    flags = ["--model", str(folder / "model.onnx"), "--session", str(folder / "clicks.tsv"), "--group", "--top-k", "7"]
    assert infer([*flags, "--exclude-seen", "--output", str(folder / "expected.jsonl")]) == 0
    lines = map(json.loads, (folder / "expected.jsonl").read_text().splitlines())
    return folder, [*flags, "--exclude-seen"], {line["session"]: line for line in lines}


RAY_WARNS_ITSELF = pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning:ray.data.*")


class Idle:
    """An actor that does nothing but hold a processor."""


@pytest.mark.slow
@RAY_WARNS_ITSELF
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("output_format", "processors"), [("parquet", 2), ("jsonl", 1)])
def test_bulk_recommendations_are_those_of_the_command_also_on_one_processor(
    bulk,
    ray_here,
    output_format,
    processors,
):
    import ray

    folder, flags, expected = bulk
    out = folder / output_format
    others = [ray.remote(num_cpus=1)(Idle).remote() for _ in range(2 - processors)]
    try:
        command = [*flags, "--out", str(out), "--format", output_format, "--actors", str(processors)]
        assert bulk_scoring.main(command) == 0
    finally:
        for other in others:
            ray.kill(other)
    files = list(out.iterdir())
    assert len(files) > 1
    read = pl.read_parquet if output_format == "parquet" else pl.read_ndjson
    rows = [row for file in files for row in read(file).to_dicts()]
    assert {row["session"]: row["unknown"] for row in rows} == {
        name: line["unknown"] for name, line in expected.items()
    }
    assert len(rows) == len(expected) == 3000  # no session in two parts
    assert any(row["from_zero_state"] for row in rows)
    for row in rows:
        line = expected[row["session"]]
        assert row["from_zero_state"] is line.get("from_zero_state", False)
        ours, theirs = ([ranked[key] for ranked in row["recommendations"]] for key in ("item", "score"))
        assert ours == [ranked["item"] for ranked in line["recommendations"]]
        np.testing.assert_allclose(theirs, [ranked["score"] for ranked in line["recommendations"]], rtol=1e-5)


@RAY_WARNS_ITSELF
def test_mistakes_end_in_one_line_and_leave_nothing(bulk, ray_here, capsys):
    folder, flags, _ = bulk
    mixed = [flag for flag in flags if flag != "--group"]
    for changes, told in (
        (["--session", str(folder / "no.tsv")], "expected a file of sessions, found none at"),
        (["--model", str(folder / "clicks.tsv")], "is not an ONNX file"),
        (["--top-k", "41"], "expected k between 1 and the 40 items of the model, got 41"),
        (["--actors", "0"], "actors: expected at least 1, got 0"),
        (["--item-column", "sku"], "no column 'sku'"),
        ([], "continues after other sessions; sort the rows by session and time, or use --group"),  # found by a worker
        (["--out", str(folder)], "it exists already"),
    ):
        assert bulk_scoring.main([*mixed, "--out", str(folder / "failed"), *changes]) == 2
        error = capsys.readouterr().err
        assert re.fullmatch(r"error: .+\n", error), error
        assert told in error
    assert not list(folder.glob("*failed*"))
    assert not list(folder.glob(".*"))


def test_a_time_column_of_another_name_is_remarked_on_and_rows_that_are_to_be_sorted_need_no_order(
    bulk, tmp_path, capsys
):
    folder, flags, _ = bulk
    (tmp_path / "clicks.csv").write_text("SessionId,ItemId,when\na,001,2\na,002,1\n")
    command = [*flags, "--session", str(tmp_path / "clicks.csv"), "--out", str(folder)]  # a folder that is refused
    assert bulk_scoring.main(command) == 2
    remark, refusal = capsys.readouterr().err.splitlines()
    assert "clicks.csv has no column 'Time', so its rows count as being in order; if one of 'when' is" in remark
    assert "it exists already" in refusal
    assert bulk_scoring.main([*command, "--time-column", "when"]) == 2
    assert re.fullmatch(r"error: .* it exists already; .*\n", capsys.readouterr().err)


@pytest.mark.parametrize("script", [bulk_scoring, streaming, train_and_score], ids=lambda script: script.__name__)
def test_help_of_a_script_has_commands_that_it_takes(script):
    commands = re.findall(
        r"^ +python examples/\w+\.py((?: [-.\w]+)*)", script.build_parser().format_help(), re.MULTILINE
    )
    assert commands
    for words in commands:
        script.build_parser().parse_args(words.split())
