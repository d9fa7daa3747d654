"""report.html: the results of a search in one self-contained file.

It shows the winner and how to train it again, every trial, and the plots of `tune.outcome.plots` as vector graphics. It
loads nothing and contains no scripts. The same plots are in plots/ as PNG files.
"""

import io
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from gru4rec.config.train_config import TrainConfig, to_mapping
from inference.shared.atomic import atomic_file, write_errors
from tune.outcome.overhead import Overhead
from tune.outcome.plots import all_plots
from tune.settings import SearchSettings
from tune.space.search_space import SearchSpace
from tune.studies.finals import Finalist
from tune.trials.results import TrialResult, describe_model, rank

REPORT_FILE = "report.html"
PLOTS_FOLDER = "plots"
TITLES = {
    "learning-curves": "Learning curves",
    "n-sample": "Quality by number of additional samples",
    "sample-alpha": "Quality by sampling distribution (0 = uniform, 1 = popularity)",
    "importance": "Importance of the parameters",
    "parallel-coordinates": "All trials (the better the darker)",
}
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.figures { display: flex; gap: 2.5rem; margin: 1rem 0; } .figures b { display: block; font-size: 1.5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .87rem; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #e6e6e6; vertical-align: top; }
.number { text-align: right; } .wide { overflow-x: auto; } svg { width: 100%; height: auto; }
pre { background: #f5f5f5; padding: .7rem 1rem; overflow-x: auto; font-size: .85rem; }
"""


def write_report(
    settings: SearchSettings,
    space: SearchSpace,
    trials: Sequence[TrialResult],
    finalists: Sequence[Finalist],
    made: TrainConfig | None,
    test: Mapping[str, Any],
    effort: Overhead,
) -> None:
    """Write report.html and plots/ into the folder of a search.

    Args:
        settings: of the search.
        space: that the trials were drawn from.
        trials: all of them.
        finalists: those that were run again with other seeds, the winner first.
        made: the configuration of the winner's model, if there is one.
        test: figures of the final model on the test log; empty without one.
        effort: the overhead of the trials.
    """
    figures = all_plots(trials, space)
    _write_plots(settings.out / PLOTS_FOLDER, figures)
    sections = [_summary(trials, finalists, test, effort), *([_winner(settings, made)] if made else [])]
    sections += [*([_finals(finalists)] if finalists else []), _table(trials)]
    sections += [f"<h2>{escape(TITLES[name])}</h2>{_svg(figure, name)}" for name, figure in figures.items()]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>GRU4Rec search</title>'
        f"<style>{STYLE}</style></head><body><h1>GRU4Rec search</h1>{''.join(sections)}</body></html>\n"
    )
    with atomic_file(settings.out / REPORT_FILE) as file:
        file.write_text(page, encoding="utf-8")


def train_command(settings: SearchSettings) -> str:
    """The command that trains the winner again."""
    remark = ""
    if settings.refit and settings.valid is not None:
        remark = "  # with the sessions of both logs in one file"
    elif not settings.refit and settings.valid is None:
        remark = "  # also on the last tenth of the sessions, which the model of this search has not seen"
    command = ["gru4rec", "train", "--train", str(settings.train), "--config", str(settings.out / "best.toml")]
    for column in fields(settings.columns):
        name = getattr(settings.columns, column.name)
        if name != column.default:
            command += [f"--{column.name}-column", name]
    return shlex.join([*command, "--out", "MODEL"]) + remark


def _summary(
    trials: Sequence[TrialResult], finalists: Sequence[Finalist], test: Mapping[str, Any], effort: Overhead
) -> str:
    best = finalists[0].as_winner if finalists else rank(trials)[0]
    counts = {status: sum(trial.status == status for trial in trials) for status in (trial.status for trial in trials)}
    parts = ", ".join(f"{count} {status}" for status, count in counts.items())
    figures = [("validation MRR@20", f"{best.mrr:.4f}"), ("validation Recall@20", f"{best.recall:.4f}")]
    if test:
        figures += [("test MRR@20", f"{test['mrr@20']:.4f}"), ("test Recall@20", f"{test['recall@20']:.4f}")]
    boxes = "".join(f"<div><b>{value}</b>{escape(name)}</div>" for name, value in figures)
    text = f"{len(trials)} trials ({parts}); the best is trial {best.number}: {describe_model(best.config)}."
    text += f" The {effort}." if effort.available else ""
    return f"<p>{escape(text)}</p><div class=figures>{boxes}</div>"


def _winner(settings: SearchSettings, made: TrainConfig) -> str:
    values = {name: value for name, value in to_mapping(made).items() if value not in ({}, [], "auto")}
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(_plain(value))}</td></tr>" for name, value in values.items()
    )
    commands = [
        train_command(settings),
        f"gru4rec-infer --model {settings.out / 'model.onnx'} --session SESSIONS.tsv",
    ]
    return (
        f"<h2>The best configuration</h2><table>{rows}</table>"
        f"<p>Train it again, or use it:</p><pre>{escape(chr(10).join(commands))}</pre>"
    )


def _table(trials: Sequence[TrialResult]) -> str:
    head = ("trial", "MRR@20", "Recall@20", "best epoch", "epochs", "seconds", "status", "model", "error")
    rows = [
        (
            str(trial.number),
            f"{trial.mrr:.4f}",
            f"{trial.recall:.4f}",
            str(trial.best_epoch),
            str(trial.epochs),
            f"{trial.seconds:.0f}",
            trial.status,
            describe_model(trial.config),
            trial.error,
        )
        for trial in rank(trials)
    ]
    return f"<h2>Trials</h2><div class=wide>{_format_table(head, rows)}</div>"


def _finals(finalists: Sequence[Finalist]) -> str:
    head = ("trial", "mean MRR@20", "standard deviation", "mean Recall@20", "runs", "best epoch", "model")
    rows = [
        (
            str(finalist.trial.number),
            f"{finalist.mrr:.4f}",
            f"{finalist.spread:.4f}",
            f"{finalist.recall:.4f}",
            str(finalist.repeats) + "".join(f"; one failed: {reason}" for reason in finalist.failures),
            str(finalist.best_epoch),
            describe_model(finalist.trial.config),
        )
        for finalist in finalists
    ]
    return f"<h2>Finalists, with several seeds</h2>{_format_table(head, rows)}"


def _format_table(head: Sequence[str], rows: Sequence[Sequence[str]], n_numbers: int = 6) -> str:
    """A table whose first columns are numbers, aligned to the right."""
    table = ""
    for row in (head, *rows):
        tag = "th" if row is head else "td"
        opening = [f"<{tag} class=number>"] * n_numbers + [f"<{tag}>"] * (len(row) - n_numbers)
        table += f"<tr>{''.join(start + escape(value) for start, value in zip(opening, row, strict=True))}</tr>"
    return f"<table>{table}</table>"


def _plain(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)


def _svg(figure: Figure, name: str) -> str:
    """A figure as an element of a page, with ids that are unique in the page."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    element = text.getvalue()
    element = element[element.index("<svg") :]
    ids = {found: f"{name}-{found}" for found in re.findall(r'\bid="([^"]+)"', element)}
    return re.sub(r'(\bid="|url\(#|href="#)([^")]+)', lambda found: found[1] + ids.get(found[2], found[2]), element)


def _write_plots(folder: Path, figures: Mapping[str, Figure]) -> None:
    with write_errors(folder):
        folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        with atomic_file(folder / f"{name}.png") as file:
            figure.savefig(file, format="png", dpi=150)
    for other in folder.glob("*.png"):
        if other.stem not in figures:
            other.unlink()
