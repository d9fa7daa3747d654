"""The finals: the best of a search again with other seeds, by which the winner is named."""

import json
from dataclasses import replace

import polars as pl
import pytest

from gru4rec.config.files import read_config
from gru4rec.config.train_config import TrainConfig, from_mapping
from tests.tune.outcome.test_report import trial_of
from tests.tune.studies.test_resume import command_of, log_file
from tune.search import main
from tune.studies.finals import Finals, average_runs
from tune.trials.recovery import write_manifest
from tune.trials.searchers import ModelList

CONFIG = TrainConfig(n_epochs=3, seed=7)


def run_with(number, *curve):
    """A run whose MRR@20 after each epoch is given."""
    history = [
        {"epoch": epoch, "epoch_mrr@20": mrr, "epoch_recall@20": 2 * mrr} for epoch, mrr in enumerate(curve, start=1)
    ]
    return replace(trial_of(number, CONFIG, lambda _: max(curve, default=0.0)), history=history)


def test_a_finalist_is_best_after_the_epoch_with_the_best_mean():
    finalist = average_runs(run_with(1, 0.9), [run_with(1, 0.1, 0.3, 0.2), run_with(2, 0.1, 0.2, 0.5)])
    assert finalist.best_epoch == 3  # means 0.1, 0.25, 0.35
    assert finalist.mrr == pytest.approx(0.35)
    assert finalist.recall == pytest.approx(0.7)
    assert finalist.spread == pytest.approx(0.3 / 2**0.5)  # of 0.2 and 0.5
    assert finalist.repeats == 2


def test_epochs_that_a_run_did_not_reach_count_as_nothing():
    finalist = average_runs(run_with(1, 0.9), [run_with(1, 0.2, 0.4, 0.6), run_with(2, 0.2), run_with(3)])
    assert (finalist.best_epoch, finalist.mrr) == (3, pytest.approx(0.2))  # means 0.4 / 3, 0.4 / 3, 0.6 / 3


def test_finalists_are_the_best_that_finished_an_epoch_and_their_seeds_are_new():
    trials = [
        replace(run_with(number, 0.1 * number), config=replace(CONFIG, momentum=0.1 * number)) for number in (1, 2, 3)
    ]
    finals = Finals([*trials, replace(run_with(4), best_epoch=0, mrr=0.9)], n_finalists=2, repeats=2)
    assert [(config.momentum, config.seed) for config in finals.missing] == [
        (pytest.approx(0.3), 8),
        (pytest.approx(0.3), 9),
        (pytest.approx(0.2), 8),
        (pytest.approx(0.2), 9),
    ]
    assert finals.name == Finals(trials, 2, 2).name != Finals(trials, 2, 3).name


def final_of(trial, repeat, *curve):
    return replace(run_with(repeat, *curve), config=trial.config.replace(seed=trial.config.seed + repeat))


def test_finalists_are_ranked_by_their_means_alone():
    first, second = run_with(1, 0.9), replace(run_with(2, 0.8), config=replace(CONFIG, momentum=0.1))
    finals = Finals(
        [first, second], n_finalists=2, repeats=1, known=[final_of(first, 1, 0.1), final_of(second, 1, 0.2)]
    )
    assert [finalist.trial.number for finalist in finals.results()] == [2, 1]


def test_finals_that_are_enlarged_run_only_what_is_missing():
    first, second = run_with(1, 0.9), replace(run_with(2, 0.8), config=replace(CONFIG, momentum=0.1))
    known = [final_of(first, 1, 0.1), final_of(first, 2, 0.3)]
    more = Finals([first, second], 2, 3, known)
    assert [(config.momentum, config.seed) for config in more.missing] == [
        (0.0, 10),
        *((pytest.approx(0.1), seed) for seed in (8, 9, 10)),
    ]
    (fewer,) = Finals([first, second], 1, 2, known).results()
    assert (fewer.mrr, fewer.repeats) == (pytest.approx(0.2), 2)


def test_of_runs_that_were_stopped_early_only_what_all_reached_counts():
    stopped = [replace(run_with(number, 0.26), status="stopped", epochs=1) for number in (2, 3)]
    finalist = average_runs(run_with(1, 0.9), [run_with(1, 0.25, 0.28, 0.30), *stopped])
    assert (finalist.best_epoch, finalist.mrr) == (1, pytest.approx(0.77 / 3))


def test_given_models_come_in_their_order_also_after_an_interruption(tmp_path):
    models = [{"seed": seed} for seed in (1, 2, 3)]
    searcher = ModelList(models)
    assert [searcher.suggest(name)["model"]["seed"] for name in ("a", "b")] == [1, 2]
    searcher.save(str(tmp_path / "state"))
    another = ModelList(models)
    another.restore(str(tmp_path / "state"))
    assert another.suggest("c") == {"number": 3, "model": {"seed": 3}}
    assert another.suggest("d") == "FINISHED"


def test_a_search_with_finals_names_its_winner_by_them_and_runs_them_once(tmp_path, capsys, ray_here):
    log, out = log_file(tmp_path, 60), tmp_path / "out"
    command = command_of(log, out, trials=3, epochs=2, finalists=2, repeats=2)
    assert main(command) == 0
    said = capsys.readouterr()
    assert "the best 2 once more, each with 2 other seeds" in said.err
    assert "mean of 2 runs" in said.out

    rows = pl.read_parquet(out / "results.parquet")
    finalists = rows.filter(pl.col("repeats") == 2).sort("repeat_mrr@20", descending=True)
    assert finalists.height == 2
    assert set(finalists["trial"]) == set(rows.sort("mrr@20", descending=True)["trial"][:2])
    best = finalists.row(0, named=True)
    config = from_mapping(read_config(out / "best.toml"))
    assert (config.loss, config.layers) == (best["loss"], (int(best["layers"]),))
    assert (config.n_epochs, config.seed) == (best["repeat_best_epoch"], 42)
    assert "with several seeds" in (out / "report.html").read_text()

    assert main(command) == 0  # nothing is run again
    assert "once more" not in capsys.readouterr().err

    (state,) = (out / "trials").glob("finals-*/experiment_state-*.json")  # as if one of the runs had failed
    content = json.loads(state.read_text())
    metadata = content["trial_data"][0][1]
    assert '"outcome": ""' in metadata
    metadata = metadata.replace('"outcome": ""', '"outcome": "failed"').replace(
        '"error": ""', '"error": "out of memory"'
    )
    content["trial_data"][0][1] = metadata
    state.write_text(json.dumps(content))
    write_manifest(state.parent, state.stem.removeprefix("experiment_state-"))
    assert main(command) == 3
    said = "1 of 2 runs failed and count as 0 in its mean; the first reason: out of memory"
    assert said in capsys.readouterr().err
    assert sorted(pl.read_parquet(out / "results.parquet")["repeats_failed"]) == [0, 0, 1]
    assert "one failed: out of memory" in (out / "report.html").read_text()

    assert main(command_of(log, out, trials=3, epochs=2, finalists=2, repeats=3, time_budget="0.01s")) == 0
    assert "the time is up in the finals, after all 3 trials; the same command resumes them" in capsys.readouterr().err
