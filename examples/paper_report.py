"""The tables, pictures and page of `paper_figures`."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paper_claims as claims
from matplotlib.figure import Figure

from inference.shared.atomic import atomic_file
from tune.outcome.plots import COLOURS

MARKERS = "osD^vP*"
SAMPLES = "additional samples"
Row = Mapping[str, Any]
Curve = dict[float, float]


@dataclass(frozen=True)
class Results:
    """All measurements, as rows.

    Attributes:
        rates: loss, learning_rate, recall@20, mrr@20, on held-out training sessions.
        samples: loss, n_sample, recall@20, mrr@20, seconds per epoch.
        alphas: loss, n_sample, sample_alpha, recall@20, mrr@20.
        gradients: loss, n_sample, epochs, on_target, carrying.
    """

    rates: Sequence[Row]
    samples: Sequence[Row]
    alphas: Sequence[Row]
    gradients: Sequence[Row]


def write_report(out: Path, results: Results, run: str) -> None:
    """Write a CSV table and a PNG picture for every figure, and figures.md.

    Args:
        out: folder for them.
        results: the measurements.
        run: description of the run.
    """
    tables = {
        "learning-rates": results.rates,
        "samples": results.samples,
        "alpha": results.alphas,
        "gradients": results.gradients,
    }
    for name, rows in tables.items():
        _write(out / f"{name}.csv", rows)
    recall, mrr, seconds = (
        by_loss(results.samples, "n_sample", y) for y in ("recall@20", "mrr@20", "seconds per epoch")
    )
    draw(out / "a-samples.png", [(SAMPLES, "Recall@20", recall), (SAMPLES, "MRR@20", mrr)])
    draw(out / "b-time.png", [(SAMPLES, "seconds per epoch", seconds)])

    numbers = sorted({row["n_sample"] for row in results.alphas})
    of_alpha = {
        n: by_loss([row for row in results.alphas if row["n_sample"] == n], "sample_alpha", "mrr@20") for n in numbers
    }
    panels = [("alpha", f"MRR@20 with {n:,} samples", of_alpha[n]) for n in numbers]
    draw(out / "c-alpha.png", panels, log_scale=False)

    names = {"on_target": "gradient on the target", "carrying": "share of negatives that carry gradient"}
    probes = results.gradients
    panels = [("epochs", names[y], collect_lines(probes, y)) for y in names]
    draw(out / "d-gradients.png", panels, log_scale=False, in_pairs=True)
    end = max(row["epochs"] for row in probes)
    on_target, carrying = (by_loss([row for row in probes if row["epochs"] == end], "n_sample", y) for y in names)
    claims.write_page(
        out / "figures.md",
        [
            ("Quality against the number of additional samples", "a-samples.png", claims.check_quality(mrr)),
            ("Training time against the number of additional samples", "b-time.png", claims.check_time(seconds)),
            ("Quality against alpha", "c-alpha.png", claims.check_alpha(of_alpha)),
            ("The gradient while a model learns", "d-gradients.png", claims.check_gradients(on_target, carrying)),
        ],
        run,
    )


def by_loss(rows: Iterable[Row], x: str, y: str) -> dict[str, Curve]:
    """One quantity of the rows against another, by loss."""
    found: dict[str, Curve] = {}
    for row in rows:
        found.setdefault(row["loss"], {})[row[x]] = row[y]
    return found


def collect_lines(probes: Sequence[Row], quantity: str) -> dict[str, Curve]:
    """A quantity against the epochs trained, by loss, with the fewest and with the most samples."""
    numbers = {min(probe["n_sample"] for probe in probes), max(probe["n_sample"] for probe in probes)}
    lines: dict[str, Curve] = {}
    for probe in probes:
        if probe["n_sample"] in numbers:
            label = f"{probe['loss']}, {probe['n_sample']:,} samples"
            lines.setdefault(label, {})[probe["epochs"]] = probe[quantity]
    return lines


def draw(
    file: Path,
    panels: Sequence[tuple[str, str, Mapping[str, Curve]]],
    *,
    log_scale: bool = True,
    in_pairs: bool = False,
) -> None:
    """Draw panels side by side, with the same labels in each.

    Args:
        file: the PNG file.
        panels: for each, the labels of its axes and the lines by label.
        log_scale: whether the horizontal axis is logarithmic; it is linear near 0.
        in_pairs: whether two successive lines form a pair: one colour, the first dashed.
    """
    figure = Figure(figsize=(5.2 * len(panels), 4.2), layout="constrained")
    for axes, (x, y, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for number, (label, curve) in enumerate(lines.items()):
            places, kind = sorted(curve), number // 2 if in_pairs else number
            dashed = in_pairs and number % 2 == 0
            axes.plot(
                places,
                [curve[place] for place in places],
                label=label,
                marker=MARKERS[kind % len(MARKERS)],
                color=COLOURS[kind % len(COLOURS)],
                linestyle="--" if dashed else "-",
                fillstyle="none" if dashed else "full",
            )
        if log_scale:
            axes.set_xscale("symlog", base=2, linthresh=16)
        axes.set(xlabel=x, ylabel=y)
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
    with atomic_file(file) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _write(file: Path, rows: Sequence[Row]) -> None:
    with atomic_file(file) as temporary, open(temporary, "w", newline="", encoding="utf-8") as text:
        table = csv.DictWriter(text, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
