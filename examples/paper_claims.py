"""Check the claims of the paper about its figures against measured curves.

Every claim of arXiv 1706.03847 is computed from the curves, not read off by eye. A difference of less than one percent
counts as none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.shared.atomic import atomic_file

SAME = 0.01
MAX_LOSSES = ("top1-max", "bpr-max")
FEW_ENOUGH_TO_RISE = 512
"""The paper says that TOP1 rises up to about 128 samples; the next larger number of the grid still counts."""

Curves = Mapping[str, Mapping[float, float]]
"""By loss: a quantity against the number of samples or alpha."""


@dataclass(frozen=True)
class Claim:
    """A statement of the paper and the result here.

    Attributes:
        paper: the statement.
        found: the numbers here.
        agrees: whether they support it.
    """

    paper: str
    found: str
    agrees: bool


def check_quality(mrr: Curves) -> list[Claim]:
    """Figure 4: quality against the number of additional samples."""
    claims = []
    if "top1" in mrr:
        best, (last, end) = _best(mrr["top1"]), _last(mrr["top1"])
        claims.append(
            Claim(
                "TOP1 gains from about a hundred samples, then gets worse with more",
                f"best with {best:,.0f} ({mrr['top1'][best]:.4f}); {end:.4f} with {last:,.0f}",
                0 < best <= FEW_ENOUGH_TO_RISE and end < mrr["top1"][best] * (1 - SAME),
            )
        )
    if len(mrr.get("cross-entropy", ())) > 1:
        curve = mrr["cross-entropy"]
        before, last = sorted(curve)[-2:]
        gain = _ratio(curve[last], curve[before]) - 1
        claims.append(
            Claim(
                "cross-entropy gains from samples until it saturates at a few thousand",
                f"{_ends(curve)}; the last step, from {before:,.0f} to {last:,.0f}, changes it by {gain:+.1%}",
                max(curve.values()) > curve[min(curve)] * (1 + SAME) and abs(gain) <= 2 * SAME,
            )
        )
    for loss in MAX_LOSSES:
        if loss in mrr:
            _, end = _last(mrr[loss])
            claims.append(
                Claim(
                    f"{loss} keeps gaining from more samples",
                    f"{_ends(mrr[loss])}; best {max(mrr[loss].values()):.4f} with {_best(mrr[loss]):,.0f}",
                    end > mrr[loss][min(mrr[loss])] * (1 + SAME) and end >= max(mrr[loss].values()) * (1 - SAME),
                )
            )
    newer = [loss for loss in MAX_LOSSES if loss in mrr]
    if "top1" in mrr and newer:
        ends = {loss: _last(mrr[loss])[1] for loss in (*newer, "top1")}
        claims.append(
            Claim(
                "with many samples the max losses are far better than TOP1",
                ", ".join(f"{loss} {value:.4f}" for loss, value in ends.items()),
                all(ends[loss] > ends["top1"] * 1.1 for loss in newer),
            )
        )
    if "top1" in mrr and len(mrr) > 1:
        old, new = mrr["top1"][min(mrr["top1"])], max(max(curve.values()) for curve in mrr.values())
        claims.append(
            Claim(
                "samples and losses together gain up to a third over the original TOP1 without samples",
                f"{old:.4f} to {new:.4f}, {_ratio(new, old) - 1:+.0%}",
                new >= old * 1.2,
            )
        )
    return claims


def check_time(seconds: Curves) -> list[Claim]:
    """Figure 5: training time against the number of additional samples."""
    claims = []
    for loss, curve in seconds.items():
        numbers = [number for number in sorted(curve) if number <= FEW_ENOUGH_TO_RISE]
        if not numbers:
            continue
        flat, (last, end) = curve[numbers[-1]] / curve[numbers[0]], _last(curve)
        claims.append(
            Claim(
                f"{loss}: hundreds of samples cost next to nothing (on a GPU), thousands cost time",
                f"{numbers[-1]:,.0f} samples take {flat:.1f} times as long as {numbers[0]:,.0f}; "
                f"{last:,.0f} take {end / curve[numbers[0]]:.1f} times as long",
                flat <= 1.25 and end > curve[numbers[0]] * 1.25,
            )
        )
    return claims


def check_alpha(mrr: Mapping[int, Curves]) -> list[Claim]:
    """The best alpha of every loss, with few and with many samples.

    Args:
        mrr: by number of samples, the quality of every loss against alpha.
    """
    few_samples, many_samples = min(mrr), max(mrr)
    claims = []
    for loss in (loss for loss in mrr[few_samples] if loss in mrr[many_samples]):
        few, many = _best(mrr[few_samples][loss]), _best(mrr[many_samples][loss])
        found = f"best alpha {few:g} with {few_samples:,} samples, {many:g} with {many_samples:,}"
        if loss == "cross-entropy":
            claims.append(
                Claim(f"{loss} prefers a high alpha with few samples, a low one with many", found, few > many)
            )
        elif loss in MAX_LOSSES:
            claims.append(Claim(f"{loss} prefers a medium alpha", found, 0 < few < 1 and 0 < many < 1))
    return claims


def check_gradients(on_target: Curves, carrying: Curves) -> list[Claim]:
    """The argument: gradients at the end of the training, with few and with many samples."""
    claims = []
    for loss, curve in on_target.items():
        kept = _ratio(_last(curve)[1], curve[min(curve)])
        found = f"gradient on the target {_ends(curve, '.3g')}: {kept:.2f} times as much"
        if loss in MAX_LOSSES:
            claims.append(
                Claim(f"{loss}: the gradient on the target does not fade with more samples", found, kept >= 0.9)
            )
        elif loss == "top1":
            claims.append(Claim(f"{loss}: the gradient on the target fades with more samples", found, kept < 0.9))
    for loss in (loss for loss in MAX_LOSSES if loss in carrying and "top1" in carrying):
        ours, theirs = _last(carrying[loss])[1], _last(carrying["top1"])[1]
        claims.append(
            Claim(
                f"{loss} puts its gradient on the few negatives that score high, TOP1 spreads it over more of them",
                f"with the most samples {ours:.1%} of the negatives carry gradient, with TOP1 {theirs:.1%}",
                ours < theirs,
            )
        )
    return claims


def write_page(file: Path, parts: Sequence[tuple[str, str, Sequence[Claim]]], run: str) -> None:
    """Write the page: every picture with the claims of the paper and whether they hold here.

    Args:
        file: the page.
        parts: title, name of the picture and claims.
        run: description of the run and its duration.
    """
    every = [claim for _, _, claims in parts for claim in claims]
    lines = ["# The figures of the paper, on this log", "", run, ""]
    lines += [f"Of {len(every)} statements of the paper, {sum(claim.agrees for claim in every)} hold here.", ""]
    for title, picture, claims in parts:
        lines += [f"## {title}", "", f"![{title}]({picture})", ""]
        if claims:
            lines += ["| the paper | here | agrees |", "|---|---|---|"]
            lines += [f"| {claim.paper} | {claim.found} | {'yes' if claim.agrees else '**no**'} |" for claim in claims]
            lines += [""]
    with atomic_file(file) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")


def _best(curve: Mapping[float, float]) -> float:
    """Where the curve is highest; the first of equal places."""
    return max(sorted(curve), key=lambda place: curve[place])


def _last(curve: Mapping[float, float]) -> tuple[float, float]:
    last = max(curve)
    return last, curve[last]


def _ratio(value: float, other: float) -> float:
    """The ratio of two values; infinite if the second is 0."""
    return value / other if other else float("inf")


def _ends(curve: Mapping[float, float], how: str = ".4f") -> str:
    first, last = min(curve), max(curve)
    return f"{curve[first]:{how}} with {first:,.0f}, {curve[last]:{how}} with {last:,.0f}"
