"""`gru4rec evaluate`: how good a model is, whether simple methods are better, and whether another model is."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from gru4rec.commands.column_flags import ColumnFlags
from gru4rec.commands.terminal import use_threads
from gru4rec.data.events import encode, read_events
from gru4rec.data.sessions import EncodedLog, Sessions
from gru4rec.evaluation.assessment import Assessment, Group, Setting, assess, differences
from gru4rec.evaluation.baselines.registry import BASELINES, rank_with_baseline
from gru4rec.evaluation.metrics import Interval
from gru4rec.evaluation.rankings import Events, Rankings
from inference.shared.atomic import atomic_file
from inference.shared.errors import UserError
from inference.shared.vocabulary import Vocabulary

REPORTED = ("recall", "mrr")
"""The metrics by which models are compared in words."""


def evaluate(
    model: Annotated[Path, Parameter(name="model")],
    /,
    *,
    test: Path,
    versus: Path | None = None,
    baselines: Path | None = None,
    cutoffs: str = "1,5,10,20",
    ties: Literal["standard", "conservative", "median"] = "standard",
    bootstrap: int = 1000,
    seed: int = 0,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    columns: ColumnFlags = ColumnFlags(),
    threads: int | None = None,
    device: str = "auto",
) -> None:
    """Recall, MRR, NDCG and more on a test log, every item ranked.

    Example: gru4rec evaluate model --test test.tsv --baselines train.tsv --cutoffs 5,20

    Args:
        model: model directory, or exported model.onnx
        test: click log or prepared folder; items that the model does not know are left out
        versus: another model of the same items: what is the difference, and is it more than chance?
        baselines: the training log; popularity, Markov, item-kNN, V-SKNN and others are counted from it and compared
        cutoffs: the N of Recall@N and the other metrics
        ties: how to rank the target among equal scores
        bootstrap: resamples of the sessions, for the intervals
        seed: of the resamples
        json_file: write the figures here, too
        threads: CPU threads
        device: auto, cpu or cuda
    """
    use_threads(threads)
    if device not in ("auto", "cpu") and all(path.suffix == ".onnx" for path in (model, versus) if path is not None):
        raise UserError(f"device: an exported model is evaluated with onnxruntime on the CPU, got {device!r}")
    setting = Setting(_cutoffs(cutoffs), ties, bootstrap, seed)
    with atomic_file(json_file) if json_file is not None else nullcontext() as file:
        clicks = read_events(test, columns.columns(), part="test")
        first = _Judged.read(model, threads, device)
        second = _Judged.read(versus, threads, device) if versus is not None else None
        if second is not None and second.vocabulary != first.vocabulary:
            raise UserError(
                f"{versus}: expected a model of the same items as {model}, got others; ranks among different "
                "catalogues cannot be compared: train both on the same log"
            )
        log, train = encode(clicks, first.vocabulary), None
        if baselines is not None:
            train = encode(read_events(baselines, columns.columns(), part="train"), log.vocabulary)
            if not train.sessions.n_pairs:
                raise UserError(
                    f"{baselines}: expected the log that {model} was trained on, got none of the model's items"
                )
            setting = replace(setting, support=train.support)
        # all that can be refused is refused by now: from here on, it takes long
        n_items, events = len(log.vocabulary), Events.of(log.sessions)
        ranked = first.ranked(log.sessions, setting)
        result = assess(ranked, events, n_items, setting)
        figures = result.as_dict()
        _show_assessment(result)
        _say_left_out(clicks.height, log.sessions.n_clicks)
        if second is not None:
            other = second.ranked(log.sessions, setting)
            difference = differences(ranked, other, events, setting)
            figures["versus"] = assess(other, events, n_items, setting).as_dict() | {"difference": _as_json(difference)}
            _show_difference(str(model), str(versus), difference, setting)
        if train is not None:
            figures["baselines"] = _compared(train, log, ranked, result)
        if file is not None:
            file.write_text(json.dumps(figures, indent=1) + "\n")


@dataclass(frozen=True)
class _Judged:
    """A model to be judged.

    Attributes:
        path: where it lies.
        vocabulary: its items.
        rank: ranks sessions, to a cutoff, and is told whom to tell how far it is.
    """

    path: Path
    vocabulary: Vocabulary
    rank: Callable[[Sessions, int, Callable[[int], None]], Rankings]

    @classmethod
    def read(cls, path: Path, threads: int | None, device: str) -> "_Judged":
        if path.suffix == ".onnx":
            from gru4rec.evaluation.onnx_ranking import rank_with_artifact
            from inference.model.recommender import Recommender

            recommender = Recommender.load(path, threads=threads)
            return cls(path, recommender.vocabulary, partial(rank_with_artifact, recommender))
        from gru4rec.evaluation.network_ranking import rank_all
        from gru4rec.model.device import choose_device
        from gru4rec.training.checkpoint import load_model

        loaded = load_model(path, device=str(choose_device(device)))
        return cls(
            path,
            loaded.vocabulary,
            lambda sessions, cutoff, report: rank_all(loaded.network, sessions, n_best=cutoff, progress=report),
        )

    def ranked(self, sessions: Sessions, setting: Setting) -> Rankings:
        """How it ranks the events of some sessions, with a bar that shows how far it is."""
        with _progress(str(self.path), sessions.n_pairs) as report:
            return self.rank(sessions, max(setting.cutoffs), report)


def _compared(train: EncodedLog, test: EncodedLog, ranked: Rankings, network: Assessment) -> dict[str, Any]:
    """Rank with every baseline, show them beside the network and say which of them beats it."""
    events, setting, n = Events.of(test.sessions), network.setting, network.setting.headline
    header = ["", f"Recall@{n}", f"MRR@{n}", f"coverage@{n}", "clicks of recommended", "seconds"]
    rows = [["this model", *_summary(network), ""]]
    figures: dict[str, Any] = {}
    verdicts: list[str] = []
    for name, make in BASELINES.items():
        with _progress(name, test.sessions.n_pairs) as report:
            began = time.perf_counter()
            baseline = make(train.sessions, train.support)
            rankings = rank_with_baseline(
                baseline, test.sessions, train.support, n_best=max(setting.cutoffs), progress=report
            )
            seconds = time.perf_counter() - began
        result = assess(rankings, events, len(train.vocabulary), setting)
        difference = differences(ranked, rankings, events, setting)
        figures[name] = result.as_dict() | {"difference": _as_json(difference), "seconds": round(seconds, 3)}
        rows.append([name, *_summary(result), f"{seconds:.1f}"])
        verdicts += _defeats(name, network, result, difference)
    _show(f"baselines counted from {train.sessions.n_clicks:,} clicks", header, rows)
    for verdict in verdicts or [f"no baseline beats the model at Recall@{n} or MRR@{n}"]:
        print(verdict)
    return figures


def _defeats(name: str, network: Assessment, baseline: Assessment, difference: dict[str, Interval]) -> Iterator[str]:
    for metric in REPORTED:
        key = f"{metric}@{network.setting.headline}"
        theirs, ours = baseline.metrics[key].mean, network.metrics[key].mean
        if theirs > ours:
            sure = "" if difference[key].high < 0 else ", which may be chance"
            yield f"WARNING: {name} beats the model at {key}: {theirs:.4f}, model {ours:.4f}{sure}"


def _summary(result: Assessment) -> list[str]:
    n = result.setting.headline
    support = f"{result.popularity[n]:.1f}" if result.popularity else ""
    return [
        *(f"{result.metrics[f'{metric}@{n}'].mean:.4f}" for metric in REPORTED),
        f"{result.coverage[n]:.1%}",
        support,
    ]


def _show_assessment(result: Assessment) -> None:
    setting, n = result.setting, result.setting.headline
    names = {"recall": "Recall", "mrr": "MRR", "ndcg": "NDCG"}
    rows = [
        [
            str(cutoff),
            *(_with_ends(result.metrics[f"{metric}@{cutoff}"]) for metric in names),
            f"{result.coverage[cutoff]:.1%}",
        ]
        for cutoff in setting.cutoffs
    ]
    title = f"{result.events:,} events in {result.sessions:,} sessions, {setting.ties} ties"
    _show(title, ["N", *(f"{name}@N" for name in names.values()), "coverage@N"], rows)
    print(
        f"in brackets: 95 % of {setting.resamples:,} resamples of the sessions; MAP@N equals MRR@N (one item is right)"
    )
    if result.clicked_popularity is not None:
        print(
            f"clicks in training of an item: {result.popularity[n]:.1f} on average of those recommended (N = {n}), "
            f"{result.clicked_popularity:.1f} of those that came next"
        )
    if result.ties_decide:
        print(
            f"WARNING: ties decide: {result.tied:.1%} of the targets score exactly as other items do, and Recall@{n} "
            f"is {result.tie_spread:.4f} higher with ties in the model's favour than with ties against it; its scores "
            "have collapsed, the honest figures are those of --ties conservative"
        )
    _show_groups("by clicks of the session so far", result.by_position, n)
    _show_groups("by clicks in training of the item that came next", result.by_support, n)


def _show_groups(title: str, groups: Sequence[Group], cutoff: int) -> None:
    if groups:
        rows = [[group.label, f"{group.events:,}", f"{group.recall:.4f}", f"{group.mrr:.4f}"] for group in groups]
        _show(title, ["clicks", "events", f"Recall@{cutoff}", f"MRR@{cutoff}"], rows)


def _show_difference(first: str, second: str, difference: dict[str, Interval], setting: Setting) -> None:
    rows = [
        [name, f"{it.mean:+.4f}", f"{it.low:+.4f} … {it.high:+.4f}", _meaning(it)] for name, it in difference.items()
    ]
    _show(f"{first} less {second}, on the same sessions", ["", "difference", "95 % interval", "better"], rows)


def _meaning(difference: Interval) -> str:
    if difference.low > 0:
        return "the first"
    return "the second" if difference.high < 0 else "neither for sure"


def _with_ends(interval: Interval) -> str:
    return f"{interval.mean:.4f} ({interval.low:.4f}–{interval.high:.4f})"


def _as_json(intervals: dict[str, Interval]) -> dict[str, list[float]]:
    return {name: [interval.mean, interval.low, interval.high] for name, interval in intervals.items()}


def _say_left_out(n_clicks: int, n_known: int) -> None:
    if n_clicks > n_known:
        print(f"{n_clicks - n_known:,} of {n_clicks:,} clicks were left out: the model does not know their items")


def _show(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal, lines in columns elsewhere."""
    console = Console()
    if console.is_terminal:
        table = Table(*header, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
        return
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    print(f"{title}:")
    for row in (header, *rows):
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@contextmanager
def _progress(what: str, n_events: int) -> Iterator[Callable[[int], None]]:
    """A bar of the events ranked so far, where there is a terminal to draw it on."""
    console = Console(stderr=True)
    parts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*parts, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=n_events)
        yield lambda done: bar.update(task, completed=done)


def _cutoffs(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise UserError(f"cutoffs: expected numbers such as 5,20, got {text!r}") from None
