"""`gru4rec evaluate`: how good a model is, and whether simple methods or another model are better.

All arguments and input files are checked before anything is ranked, which takes long.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from gru4rec.commands.column_flags import ColumnFlags
from gru4rec.commands.terminal import progress_bar, use_threads
from gru4rec.data.events import encode, read_events
from gru4rec.data.sessions import EncodedLog, Sessions
from gru4rec.evaluation.assessment import Assessment, Group, Settings, assess, compare
from gru4rec.evaluation.baselines.registry import BASELINES, rank_with_baseline
from gru4rec.evaluation.metrics import Interval
from gru4rec.evaluation.rankings import Rankings, Targets
from inference.shared.atomic import atomic_file
from inference.shared.errors import UserError
from inference.shared.vocabulary import Vocabulary


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
        versus: another model of the same items; reports the difference and whether it is more than chance
        baselines: the training log; reports popularity, Markov, item-kNN, V-SKNN and others counted from it
        cutoffs: the N of Recall@N and the other metrics
        ties: how to rank the target among equal scores
        bootstrap: resamples of the sessions for the intervals
        seed: of the resamples
        json_file: also write the figures to this file
        threads: CPU threads
        device: auto, cpu or cuda
    """
    use_threads(threads)
    if device not in ("auto", "cpu") and all(path.suffix == ".onnx" for path in (model, versus) if path is not None):
        raise UserError(f"device: exported models are evaluated with onnxruntime on the CPU, got {device!r}")
    settings = Settings(_parse_cutoffs(cutoffs), ties, bootstrap, seed)
    with atomic_file(json_file) if json_file is not None else nullcontext() as file:
        clicks = read_events(test, columns.as_columns(), part="test")
        vocabulary, rank = _load(model, threads, device)
        others, rank_other = (vocabulary, None) if versus is None else _load(versus, threads, device)
        if others != vocabulary:
            raise UserError(
                f"{versus}: expected a model of the same items as {model}, got other items; ranks in different "
                "catalogues cannot be compared: train both models on the same log"
            )
        log, train = encode(clicks, vocabulary), None
        if baselines is not None:
            train = encode(read_events(baselines, columns.as_columns(), part="train"), log.vocabulary)
            if not train.sessions.n_pairs:
                raise UserError(
                    f"{baselines}: expected the log that {model} was trained on, got none of the model's items"
                )
            settings = replace(settings, support=train.support)
        n_items, targets = len(log.vocabulary), Targets.of(log.sessions)
        rankings = rank(log.sessions, settings)
        result = assess(rankings, targets, n_items, settings)
        figures = result.as_dict()
        _print_assessment(result)
        if clicks.height > log.sessions.n_clicks:
            n_unknown = clicks.height - log.sessions.n_clicks
            print(f"{n_unknown:,} of {clicks.height:,} clicks were left out: the model does not know their items")
        if rank_other is not None:
            other = rank_other(log.sessions, settings)
            difference = compare(rankings, other, targets, settings)
            figures["versus"] = _figures(assess(other, targets, n_items, settings), difference)
            _print_difference(str(model), str(versus), difference)
        if train is not None:
            figures["baselines"] = _compare_baselines(train, log.sessions, rankings, result)
        if file is not None:
            file.write_text(json.dumps(figures, indent=1) + "\n")


def _load(path: Path, threads: int | None, device: str) -> tuple[Vocabulary, Callable[[Sessions, Settings], Rankings]]:
    """The items of a model, and a function that ranks sessions with it."""
    rank: Callable[..., Rankings]
    if path.suffix == ".onnx":
        from gru4rec.evaluation.onnx_ranking import rank_with_artifact
        from inference.model.recommender import Recommender

        recommender = Recommender.load(path, threads=threads)
        vocabulary, rank = recommender.vocabulary, partial(rank_with_artifact, recommender)
    else:
        from gru4rec.evaluation.network_ranking import rank_with_network
        from gru4rec.model.device import choose_device
        from gru4rec.training.checkpoint import load_model

        loaded = load_model(path, device=str(choose_device(device)))
        vocabulary, rank = loaded.vocabulary, partial(rank_with_network, loaded.network)

    def rank_all(sessions: Sessions, settings: Settings) -> Rankings:
        with _show_progress(str(path), sessions.n_pairs) as progress:
            return rank(sessions, n_best=max(settings.cutoffs), progress=progress)

    return vocabulary, rank_all


def _compare_baselines(train: EncodedLog, test: Sessions, rankings: Rankings, model: Assessment) -> dict[str, Any]:
    """Rank with every baseline, print them next to the model, and warn of those that beat it."""
    targets, settings, n = Targets.of(test), model.settings, model.settings.headline
    header = ["", f"Recall@{n}", f"MRR@{n}", f"coverage@{n}", "clicks of recommended", "seconds"]
    rows = [["this model", *_summary(model), ""]]
    figures: dict[str, Any] = {}
    warnings: list[str] = []
    for name, count in BASELINES.items():
        with _show_progress(name, test.n_pairs) as progress:
            start = time.perf_counter()
            baseline = count(train.sessions, train.support)
            theirs = rank_with_baseline(baseline, test, train.support, n_best=max(settings.cutoffs), progress=progress)
            seconds = time.perf_counter() - start
        result = assess(theirs, targets, len(train.vocabulary), settings)
        difference = compare(rankings, theirs, targets, settings)
        figures[name] = _figures(result, difference) | {"seconds": round(seconds, 3)}
        rows.append([name, *_summary(result), f"{seconds:.1f}"])
        warnings += _warnings(name, model, result, difference)
    _print_table(f"baselines counted from {train.sessions.n_clicks:,} clicks", header, rows)
    for line in warnings or [f"no baseline beats the model at Recall@{n} or MRR@{n}"]:
        print(line)
    return figures


def _warnings(name: str, model: Assessment, baseline: Assessment, difference: dict[str, Interval]) -> Iterator[str]:
    n = model.settings.headline
    for metric in ("recall", "mrr"):
        theirs, ours = getattr(baseline, metric)[n], getattr(model, metric)[n]
        if theirs > ours:
            doubt = "" if difference[f"{metric}@{n}"].high < 0 else ", which may be chance"
            yield f"WARNING: {name} beats the model at {metric}@{n}: {theirs:.4f}, model {ours:.4f}{doubt}"


def _summary(result: Assessment) -> list[str]:
    n = result.settings.headline
    popularity = f"{result.popularity[n]:.1f}" if result.popularity else ""
    return [f"{result.recall[n]:.4f}", f"{result.mrr[n]:.4f}", f"{result.coverage[n]:.1%}", popularity]


def _print_assessment(result: Assessment) -> None:
    settings, n = result.settings, result.settings.headline
    names = {"recall": "Recall", "mrr": "MRR", "ndcg": "NDCG"}
    rows = [
        [
            str(cutoff),
            *(_format_interval(result.intervals[f"{metric}@{cutoff}"]) for metric in names),
            f"{result.coverage[cutoff]:.1%}",
        ]
        for cutoff in settings.cutoffs
    ]
    title = f"{result.events:,} events in {result.sessions:,} sessions, {settings.ties} ties"
    _print_table(title, ["N", *(f"{name}@N" for name in names.values()), "coverage@N"], rows)
    print(
        f"in brackets: 95 % intervals from {settings.resamples:,} resamples of the sessions; MAP@N equals MRR@N, since "
        "one item is relevant"
    )
    if result.clicked_popularity is not None:
        print(
            f"mean clicks in training: {result.popularity[n]:.1f} of the recommended items (N = {n}), "
            f"{result.clicked_popularity:.1f} of the items that came next"
        )
    if result.ties_decide:
        print(
            f"WARNING: ties decide: {result.tied:.1%} of the targets score exactly as other items do, and Recall@{n} "
            f"is {result.tie_spread:.4f} higher with ties in the model's favour than with ties against it; the scores "
            "have collapsed: trust only the figures of --ties conservative"
        )
    _print_groups("by clicks in the session so far", result.by_position, n)
    _print_groups("by clicks in training of the item that came next", result.by_support, n)


def _print_groups(title: str, groups: Sequence[Group], cutoff: int) -> None:
    if groups:
        rows = [[group.label, f"{group.events:,}", f"{group.recall:.4f}", f"{group.mrr:.4f}"] for group in groups]
        _print_table(title, ["clicks", "events", f"Recall@{cutoff}", f"MRR@{cutoff}"], rows)


def _print_difference(first: str, second: str, difference: dict[str, Interval]) -> None:
    rows = [
        [name, f"{it.mean:+.4f}", f"{it.low:+.4f} … {it.high:+.4f}", _winner(it)] for name, it in difference.items()
    ]
    _print_table(f"{first} minus {second}, on the same sessions", ["", "difference", "95 % interval", "better"], rows)


def _winner(difference: Interval) -> str:
    if difference.low > 0:
        return "the first"
    return "the second" if difference.high < 0 else "unclear"


def _format_interval(interval: Interval) -> str:
    return f"{interval.mean:.4f} ({interval.low:.4f}–{interval.high:.4f})"


def _figures(result: Assessment, difference: dict[str, Interval]) -> dict[str, Any]:
    """For the JSON file: a model that is compared with the first one."""
    return result.as_dict() | {"difference": {name: list(it) for name, it in difference.items()}}


def _print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    print(f"{title}:")
    for row in (header, *rows):
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@contextmanager
def _show_progress(what: str, n_targets: int) -> Iterator[Callable[[int], None]]:
    """A bar of the targets ranked so far, shown only on a terminal."""
    with progress_bar() as bar:
        task = bar.add_task(what, total=n_targets)
        yield lambda done: bar.update(task, completed=done)


def _parse_cutoffs(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise UserError(f"cutoffs: expected numbers such as 5,20, got {text!r}") from None
