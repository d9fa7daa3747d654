"""The report of a search: one self-contained page, whatever the trials were."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import optuna
import pytest

from gru4rec.commands.column_flags import ColumnFlags
from gru4rec.config.train_config import from_mapping
from inference.shared.errors import UserError
from tune.outcome.overhead import Overhead
from tune.outcome.plots import all_plots, parameter_importance
from tune.outcome.report import train_command, write_report
from tune.settings import SearchSettings
from tune.space.builder import build_space
from tune.space.search_space import MODEL
from tune.trials.results import TrialResult, winner, winning_config

SPACE = build_space({"loss": "bpr-max,cross-entropy", "sampler": "popularity"}, n_epochs=3, seed=0)
SPENT = Overhead(seconds=60.0, available=120.0, worked=90.0)
SETTINGS = SearchSettings(
    train=Path("my clicks.tsv"), out=Path("out"), column_flags=ColumnFlags(item_column="Product"), trials=4, epochs=3
)


def trials_of(count, quality):
    """Trials at random points of the space; `quality` gives the MRR of a configuration."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    return [trial_of(number, from_mapping(SPACE(study.ask())[MODEL]), quality) for number in range(1, count + 1)]


def trial_of(number, config, quality):
    mrr = quality(config)
    history = [{"epoch": epoch, "epoch_mrr@20": mrr * epoch / 3} for epoch in (1, 2, 3)]
    return TrialResult(
        number=number,
        trial_id=f"id{number}",
        status="finished",
        config=config,
        mrr=mrr,
        recall=2 * mrr,
        best_epoch=3,
        epochs=3,
        seconds=1.0,
        metrics={},
        history=history,
        error="",
        checkpoints={},
    )


class Page(HTMLParser):
    """What a page refers to, and the ids in it."""

    def __init__(self, text):
        super().__init__()
        self.references, self.ids, self.tags = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href"):
                self.references.append(value)
            if name == "id":
                self.ids.append(value)


def test_the_page_refers_to_nothing_outside_and_every_reference_inside_is_there(tmp_path):
    trials = trials_of(14, lambda config: config.learning_rate)
    settings = replace(SETTINGS, out=tmp_path)
    write_report(settings, SPACE, trials, [], winning_config(winner(trials)), {"mrr@20": 0.25, "recall@20": 0.5}, SPENT)
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert page.references
    assert all(reference.startswith("#") for reference in page.references)
    assert {reference[1:] for reference in page.references} <= set(page.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert "script" not in page.tags
    assert page.tags.count("svg") == 5
    assert "0.2500" in text
    assert "The trials took 60 s, 25% of it neither training nor validation." in text
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == {
        *("learning-curves", "n-sample", "sample-alpha", "importance", "parallel-coordinates")
    }


def test_what_users_wrote_is_escaped(tmp_path):
    (trial,) = trials_of(1, lambda config: 0.1)
    trial = replace(trial, status="failed", error="<script>alert(1)</script>")
    write_report(replace(SETTINGS, out=tmp_path), SPACE, [trial], [], trial.config, {}, Overhead())
    text = (tmp_path / "report.html").read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_trials_make_a_report_too(tmp_path, count):
    write_report(replace(SETTINGS, out=tmp_path), SPACE, trials_of(count, lambda config: 0.1), [], None, {}, Overhead())
    assert (tmp_path / "plots" / "learning-curves.png").exists()


def test_trials_that_finished_no_epoch_have_no_pictures(tmp_path):
    trials = [replace(trial, history=[], mrr=0.0, best_epoch=0) for trial in trials_of(3, lambda config: 0.1)]
    assert all_plots(trials, SPACE) == {}
    write_report(replace(SETTINGS, out=tmp_path), SPACE, trials, [], None, {}, Overhead())
    assert "3 trials (3 finished)" in (tmp_path / "report.html").read_text()


def test_a_place_where_no_pictures_can_be_is_one_line(tmp_path):
    (tmp_path / "plots").write_text("a file of this name")
    with pytest.raises(UserError, match=r"cannot write .*plots: File exists$"):
        write_report(replace(SETTINGS, out=tmp_path), SPACE, trials_of(1, lambda config: 0.1), [], None, {}, Overhead())


def test_pictures_of_an_earlier_report_do_not_stay(tmp_path):
    settings = replace(SETTINGS, out=tmp_path)
    write_report(settings, SPACE, trials_of(14, lambda config: config.learning_rate), [], None, {}, Overhead())
    write_report(settings, SPACE, trials_of(1, lambda config: 0.1), [], None, {}, Overhead())
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["learning-curves.png"]


def test_the_parameter_that_decides_is_the_most_important():
    generator = np.random.default_rng(0)
    trials = trials_of(60, lambda config: config.momentum + 0.001 * generator.random())
    weights = parameter_importance(trials, SPACE)
    assert next(iter(weights)) == "momentum"
    assert parameter_importance(trials[:5], SPACE) == {}


def test_the_command_to_train_the_winner_again_is_complete():
    assert train_command(SETTINGS) == (
        "gru4rec train --train 'my clicks.tsv' --config out/best.toml --item-column Product --out MODEL"
    )
    with_valid = replace(SETTINGS, valid=Path("valid.tsv"))
    assert train_command(with_valid).endswith(" --out MODEL  # with the sessions of both logs in one file")
    assert train_command(replace(with_valid, refit=False)).endswith(" --out MODEL")  # it was trained on this log alone
    assert "last tenth" in train_command(replace(SETTINGS, refit=False))
