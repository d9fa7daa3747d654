"""A grid tries every combination of its values, with one seed after the other."""

import polars as pl
import pytest

from gru4rec.config.train_config import TrainConfig, from_mapping
from gru4rec.model.losses import LOSSES
from inference.shared.errors import UserError
from tests.tune.studies.test_resume import log_file
from tune.search import main
from tune.space.builder import build_space
from tune.space.search_space import model_key
from tune.studies.grid import iterate_models, list_grid_models


def grid_of(*names, **narrowed):
    return build_space(narrowed, n_epochs=2, seed=7, grid=names)


def test_a_grid_holds_every_combination_and_nothing_else_varies():
    models = list(iterate_models(grid_of("loss", "n_sample", loss="bpr-max,top1", n_sample="0,32,512", layers="64")))
    assert [(model["loss"], model["n_sample"]) for model in models] == [
        *(("bpr-max", n_sample) for n_sample in (0, 32, 512)),
        *(("top1", n_sample) for n_sample in (0, 32, 512)),
    ]
    for model in models:
        usual = TrainConfig(loss=model["loss"], n_sample=model["n_sample"], layers=(64,), seed=7, n_epochs=2)
        assert from_mapping(model) == usual


def test_without_values_a_dimension_of_a_grid_has_those_of_the_search():
    models = list(iterate_models(grid_of("loss", "n_sample")))
    assert {model["loss"] for model in models} == set(LOSSES)
    assert {model["n_sample"] for model in models} == {0, *(1 << power for power in range(5, 14))}
    assert len(models) == 10 * len(LOSSES)


def test_what_means_nothing_beside_other_values_makes_no_points():
    models = list(iterate_models(grid_of("n_sample", "sample_alpha", n_sample="0,32", sample_alpha="0,0.5,1")))
    assert [(model["n_sample"], model["sample_alpha"]) for model in models] == [(0, 0.5), (32, 0), (32, 0.5), (32, 1)]
    models = list(iterate_models(grid_of("loss", "bpreg", loss="bpr-max,top1", bpreg="0,1,2")))
    assert [(model["loss"], model.get("bpreg")) for model in models] == [
        *(("bpr-max", bpreg) for bpreg in (0, 1, 2)),
        ("top1", None),
    ]


def test_both_batchings_can_be_compared():
    models = list(
        iterate_models(grid_of("batching", batching="session-parallel,whole-session", n_sample="64", layers="32"))
    )
    assert [from_mapping(model).score for model in models] == ["dot", "cosine"]


def test_a_seed_is_run_for_all_points_before_the_next_one():
    models = list_grid_models(grid_of("loss", loss="bpr,top1"), repeats=2)
    assert [(model["loss"], model["seed"]) for model in models] == [("bpr", 7), ("top1", 7), ("bpr", 8), ("top1", 8)]
    assert len({model_key(model) for model in models}) == 2


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        (("loss", "n-layers"), {}, "grid: unknown key 'n-layers'; available: loss, "),
        (("loss",), {"layers": "16,32"}, "layers: expected one value, or its name among those of --grid, got 16, 32"),
        (("learning_rate",), {"learning_rate": "0.1..0.2"}, "learning_rate: a grid has values, got the range 0.1..0.2"),
        (("bpreg",), {"loss": "bpr-max"}, "bpreg: a grid has values, got the range 0..2; list some"),
        (("bpreg",), {"loss": "top1", "bpreg": "0,1"}, "bpreg: no loss of this search has such an option"),
        (("temperature",), {}, "temperature: no score of this search has such an option"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(names, given, message):
    with pytest.raises(UserError) as refusal:
        grid_of(*names, **given)
    assert message in str(refusal.value)


@pytest.mark.parametrize("flag", ["--trials=3", "--search=random", "--finalists=2", "--seeds", "--no-seeds"])
def test_flags_of_a_search_are_refused_for_a_grid(flag, tmp_path, capsys):
    assert main(["--train=x.tsv", f"--out={tmp_path / 'out'}", "--grid=loss", flag]) == 2
    assert "a grid tries every combination, each with --repeats seeds; leave it out" in capsys.readouterr().err


def test_a_grid_is_a_row_per_point_and_seed_and_takes_more_seeds(tmp_path, capsys, ray_here):
    out = tmp_path / "out"
    command = [f"--train={log_file(tmp_path, 60)}", f"--out={out}", "--grid", "loss", "n-sample", "--epochs=1"]
    command += ["--loss=bpr-max,top1", "--n-sample=0,16", "--layers=8", "--batch-size=8", "--threads=1", "--no-refit"]
    assert main(command) == 0
    before = pl.read_parquet(out / "results.parquet")
    points = [(loss, n_sample) for loss in ("bpr-max", "top1") for n_sample in (0, 16)]
    assert before.select("loss", "n_sample").rows() == points
    assert set(before["seed"]) == {42}
    assert set(before["status"]) == {"finished"}
    assert before["seconds"].min() > 0

    assert main([*command, "--repeats=2"]) == 0
    after = pl.read_parquet(out / "results.parquet")
    assert after[:4].select("trial", "mrr@20", "seconds").equals(before.select("trial", "mrr@20", "seconds"))
    assert after.select("loss", "n_sample", "seed").rows() == [(*point, seed) for seed in (42, 43) for point in points]
    means = after.group_by("loss", "n_sample").agg(pl.col("mrr@20").mean()).sort("mrr@20", descending=True)
    best = after.filter(pl.col("repeats") == 2).sort("repeat_mrr@20", descending=True)
    assert best.select("loss", "n_sample").rows() == means.select("loss", "n_sample").rows()
    assert best["repeat_mrr@20"].to_list() == pytest.approx(means["mrr@20"].to_list())
    assert "mean of 2 runs" in capsys.readouterr().out

    assert main(command) == 2
    assert "has 8 trials; give that many, or more" in capsys.readouterr().err
