"""Plots of a search: how trials learned, what they were, and which parameters mattered.

A loss has the same colour in all plots. Every function takes trials and gives a figure, or None if there is nothing to
show (a parameter that was not varied, too few trials). No screen is needed.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from tune.space.search_space import SearchSpace
from tune.trials.results import TrialResult, rank
from tune.trials.searchers import add_trials
from tune.trials.trial import EPOCH_METRIC

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#555555")
"""Colour-blind readers can distinguish them (Okabe and Ito)."""
WIDTH, HEIGHT = 8.0, 4.2  # inches
FEWEST_FOR_IMPORTANCE = 10
"""Trials; with fewer, the importance of parameters is chance."""
PARAMETERS = (
    *("batching", "loss", "sampler", "n_sample", "sample_alpha", "layers", "batch_size", "learning_rate", "momentum"),
    *("temperature", "dropout_p_embed", "dropout_p_hidden"),
)


def all_plots(trials: Sequence[TrialResult], space: SearchSpace) -> dict[str, Figure]:
    """Every plot that has something to show, by name.

    Args:
        trials: of the search.
        space: that they were drawn from.
    """
    trials = [trial for trial in trials if trial.history]
    if not trials:
        return {}
    figures = {
        "learning-curves": learning_curves(trials),
        "n-sample": quality_against(trials, "n_sample", "additional samples"),
        "sample-alpha": quality_against(trials, "sample_alpha", "sample_alpha"),
        "importance": importance(trials, space),
        "parallel-coordinates": parallel_coordinates(trials),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def learning_curves(trials: Sequence[TrialResult]) -> Figure:
    """MRR@20 of every epoch of every trial, the best trial in bold."""
    figure, axes = _figure()
    colours = _colours(trials)
    best = rank(trials)[0]
    for trial in trials:
        is_best = trial is best
        axes.plot(
            [epoch["epoch"] for epoch in trial.history],
            [epoch[EPOCH_METRIC] for epoch in trial.history],
            color=colours[trial.config.loss],
            linewidth=2.5 if is_best else 1.0,
            alpha=1.0 if is_best else 0.55,
            marker="o",
            markersize=4 if is_best else 2.5,
        )
    last = best.history[-1]
    axes.annotate(
        f"trial {best.number}",
        (last["epoch"], last[EPOCH_METRIC]),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
    )
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation MRR@20")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes, colours)
    return figure


def quality_against(trials: Sequence[TrialResult], name: str, label: str) -> Figure | None:
    """Best MRR@20 of every trial against a parameter; a line joins the best values of each loss.

    Args:
        trials: that finished an epoch.
        name: of the parameter; n_sample has a log scale, with a place of its own for 0.
        label: of the axis.
    """
    points = [(trial, value) for trial in trials if (value := _parameter(trial, name)) is not None]
    values = sorted({value for _, value in points})
    if len(values) < 2:
        return None
    place = _log_scale(values) if name == "n_sample" else {value: float(value) for value in values}
    figure, axes = _figure()
    colours = _colours(trials)
    for loss, colour in colours.items():
        own = [(value, trial.mrr) for trial, value in points if trial.config.loss == loss]
        axes.scatter([place[value] for value, _ in own], [mrr for _, mrr in own], color=colour, s=22, alpha=0.7)
        peaks = {value: max(mrr for other, mrr in own if other == value) for value, _ in sorted(own)}
        axes.plot([place[value] for value in peaks], list(peaks.values()), color=colour, linewidth=1.2)
    if name == "n_sample":
        axes.set_xticks([place[value] for value in values], [f"{value:,}" for value in values])
    axes.set_xlabel(label)
    axes.set_ylabel("best validation MRR@20")
    _legend(axes, colours)
    return figure


def importance(trials: Sequence[TrialResult], space: SearchSpace) -> Figure | None:
    """How much each parameter influences whether a trial is among the best (PED-ANOVA)."""
    weights = parameter_importance(trials, space)
    if not weights:
        return None
    figure, axes = _figure()
    names = list(weights)[::-1]
    axes.barh(names, [weights[name] for name in names], color=COLOURS[0], height=0.65)
    axes.set_xlabel("importance (share of all)")
    return figure


def parameter_importance(trials: Sequence[TrialResult], space: SearchSpace) -> Mapping[str, float]:
    """The importance of each searched parameter, the largest first; empty if it is unknown.

    Source: Watanabe et al., PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces.
    """
    if len(trials) < FEWEST_FOR_IMPORTANCE or len({trial.mrr for trial in trials}) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    add_trials(study, space, trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about parameters that few trials have
        try:
            weights = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
        except (ValueError, RuntimeError):  # no parameter is common to enough trials
            return {}
    short = [name.split("/")[-1] for name in weights]
    names = [
        last if short.count(last) == 1 else name.split("/", 1)[1] for name, last in zip(weights, short, strict=True)
    ]
    return {name: weight for name, weight in zip(names, weights.values(), strict=True) if np.isfinite(weight)}


def parallel_coordinates(trials: Sequence[TrialResult]) -> Figure | None:
    """Every trial as a line through its parameters, the better the darker."""
    columns = {name: [_parameter(trial, name) for trial in trials] for name in PARAMETERS}
    varied = {name: values for name, values in columns.items() if len({*values} - {None}) > 1}
    if len(varied) < 2 or len(trials) < 2:
        return None
    figure, axes = _figure()
    axis_places = [_heights(name, values) for name, values in varied.items()]
    scale = Normalize(min(trial.mrr for trial in trials), max(trial.mrr for trial in trials))
    for row, trial in sorted(enumerate(trials), key=lambda entry: entry[1].mrr):
        share = float(scale(trial.mrr)) if scale.vmax != scale.vmin else 1.0
        line = [heights[row] for heights, _ in axis_places]
        axes.plot(line, color=COLOURS[0], alpha=0.15 + 0.85 * share**2, linewidth=0.8 + 1.8 * share**2)
    for place, (_, ticks) in enumerate(axis_places):
        axes.axvline(place, color="#bbbbbb", linewidth=0.8, zorder=0)
        for height, text in ticks:
            paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
            axes.annotate(
                text, (place, height), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7, bbox=paper
            )
    axes.set_xticks(range(len(varied)), list(varied), rotation=25, ha="right")
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return figure


def _parameter(trial: TrialResult, name: str) -> Any:
    """A trial's value of a parameter; None if it has none."""
    if name == "layers":
        return trial.config.layers[0] if len(trial.config.layers) == 1 else str(trial.config.layers)
    return getattr(trial.config, {"sample_alpha": "alpha"}.get(name, name))


def _heights(name: str, values: Sequence[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """Where values are on an axis from 0 to 1 (NaN for none), and the labels of the axis."""
    present = {*values} - {None}
    numbers = all(isinstance(value, (int, float)) for value in present)
    distinct = sorted(present) if numbers else sorted(present, key=str)
    if name in ("n_sample", "layers") and numbers:
        place = _log_scale(distinct)
    elif numbers:
        place = {value: float(value) for value in distinct}
    else:
        place = {value: float(row) for row, value in enumerate(distinct)}
    low, high = place[distinct[0]], place[distinct[-1]]
    height = {value: (place[value] - low) / (high - low) for value in distinct}
    labelled = distinct if not numbers else [distinct[0], distinct[-1]]
    ticks = [(height[value], f"{value:g}" if numbers else str(value)) for value in labelled]
    return [height[value] if value is not None else float("nan") for value in values], ticks


def _log_scale(values: Sequence[float]) -> dict[float, float]:
    """Places of values on a log scale; 0 is one step below the smallest other value."""
    smallest = min(value for value in values if value > 0)
    return {value: float(np.log2(value)) if value > 0 else float(np.log2(smallest)) - 1 for value in values}


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _colours(trials: Sequence[TrialResult]) -> dict[str, str]:
    losses = sorted({trial.config.loss for trial in trials})
    return {loss: COLOURS[place % len(COLOURS)] for place, loss in enumerate(losses)}


def _legend(axes: Axes, colours: Mapping[str, str]) -> None:
    for loss, colour in colours.items():
        axes.plot([], [], color=colour, label=loss)
    axes.legend(frameon=False, fontsize=8)
