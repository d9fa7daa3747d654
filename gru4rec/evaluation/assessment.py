"""All figures of a ranking: how good it is, how certain that is, and for which sessions and items.

* metrics at several cutoffs, with intervals over sessions (`metrics`);
* the same by the number of clicks before the target, and by how often the target was clicked in training;
* coverage: the share of the catalogue that is recommended at least once;
* popularity: how often the recommended items were clicked in training, on average, next to the same figure for the
  targets. A model that mostly recommends popular items has the larger number;
* ties: when many targets score exactly as other items do, the scores have collapsed, and the figures depend on how ties
  are ranked. With all ties in the target's favour, such a model looks perfect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gru4rec.evaluation.metrics import METRICS, Interval, bootstrap, check_cutoffs, compute_metric
from gru4rec.evaluation.rankings import Rankings, Targets, Ties
from inference.shared.errors import UserError

HEADLINE_CUTOFF = 20
MIN_TIE_SPREAD = 0.01
"""From this difference in recall on, ties are reported to decide."""
POSITION_BOUNDS = (1, 2, 3, 4, 5, 10, 20)
SUPPORT_BOUNDS = (0, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000)


@dataclass(frozen=True)
class Settings:
    """How to assess rankings.

    Attributes:
        cutoffs: the N of the metrics.
        ties: how to rank a target among items of its score.
        resamples, seed: of the bootstrap.
        support: int64 [N], clicks per item in training; None if unknown.
    """

    cutoffs: tuple[int, ...]
    ties: Ties = "standard"
    resamples: int = 1000
    seed: int = 0
    support: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_cutoffs(self.cutoffs)
        if self.resamples < 1:
            raise UserError(f"bootstrap: expected at least 1 resample, got {self.resamples}")
        if self.seed < 0:
            raise UserError(f"seed: expected at least 0, got {self.seed}")

    @property
    def headline(self) -> int:
        """The cutoff at which groups and models are compared."""
        return HEADLINE_CUTOFF if HEADLINE_CUTOFF in self.cutoffs else max(self.cutoffs)


@dataclass(frozen=True)
class Evaluation:
    """The quality of a model on a test.

    Attributes:
        recall, mrr, ndcg: means over all targets, by cutoff.
        events: number of targets ranked.
        ties: how ties were ranked.
    """

    recall: dict[int, float]
    mrr: dict[int, float]
    ndcg: dict[int, float]
    events: int
    ties: Ties

    def as_dict(self) -> dict[str, Any]:
        """Flat: {"recall@20": …, "mrr@20": …, "ndcg@20": …, "events": …, "ties": …}."""
        figures = {f"{metric}@{n}": value for metric in METRICS for n, value in getattr(self, metric).items()}
        return figures | {"events": self.events, "ties": self.ties}


@dataclass(frozen=True)
class Group:
    """The targets of one kind.

    Attributes:
        label: of the kind.
        events: number of targets.
        recall, mrr: at the headline cutoff.
    """

    label: str
    events: int
    recall: float
    mrr: float


@dataclass(frozen=True)
class Assessment(Evaluation):
    """The quality of a model on a test, with intervals, groups and warnings.

    Attributes:
        settings: how it was assessed.
        sessions: number of sessions with a target.
        intervals: by name, such as "recall@20".
        coverage: by cutoff, the share of the catalogue that is recommended.
        popularity: by cutoff, mean support of the recommended items; empty if the support is unknown.
        clicked_popularity: mean support of the targets; None if the support is unknown.
        tied: share of targets that score as another item does and rank within the largest cutoff with ties in their
            favour. Beyond that cutoff an exported model does not give scores.
        tie_spread: recall at the headline cutoff with ties in the target's favour, minus that with ties against it.
        by_position: by the number of clicks before the target.
        by_support: by the clicks on the target in training; empty if the support is unknown.
    """

    settings: Settings
    sessions: int
    intervals: dict[str, Interval]
    coverage: dict[int, float]
    popularity: dict[int, float]
    clicked_popularity: float | None
    tied: float
    tie_spread: float
    by_position: list[Group]
    by_support: list[Group]

    @property
    def ties_decide(self) -> bool:
        """Whether the figures depend on how ties are ranked."""
        return self.tie_spread >= MIN_TIE_SPREAD

    def as_dict(self) -> dict[str, Any]:
        """For a JSON file: figures such as "recall@20" at the top, intervals and groups below."""
        figures = super().as_dict()
        figures |= {f"map@{n}": value for n, value in self.mrr.items()}  # one relevant item: see `metrics`
        figures |= {f"coverage@{n}": value for n, value in self.coverage.items()}
        figures |= {f"popularity@{n}": value for n, value in self.popularity.items()}
        if self.clicked_popularity is not None:
            figures["popularity of clicked"] = self.clicked_popularity
        return figures | {
            "sessions": self.sessions,
            "tied": self.tied,
            "intervals": {name: [interval.low, interval.high] for name, interval in self.intervals.items()},
            "by_position": self._group_rows(self.by_position),
            "by_support": self._group_rows(self.by_support),
        }

    def _group_rows(self, groups: Sequence[Group]) -> list[dict[str, Any]]:
        recall, mrr = (f"{metric}@{self.settings.headline}" for metric in ("recall", "mrr"))
        return [{"group": each.label, "events": each.events, recall: each.recall, mrr: each.mrr} for each in groups]


def summarize(rankings: Rankings, cutoffs: Sequence[int], ties: Ties) -> Evaluation:
    """Recall, MRR and NDCG of a ranking.

    Raises:
        UserError: there is no target, or `ties` is none of the three.

    >>> rankings = Rankings(above=np.array([0, 1, 49]), tied=np.ones(3), best=np.empty((3, 0)))
    >>> summarize(rankings, [20], "standard").mrr[20]  # (1 + 1/2 + 0) / 3
    0.5
    """
    ranks = rankings.ranks(ties)
    if not len(ranks):
        raise UserError("expected sessions with at least two items that the model knows, got none")
    recall, mrr, ndcg = (
        {cutoff: float(compute_metric(metric, ranks, cutoff).mean()) for cutoff in cutoffs} for metric in METRICS
    )
    return Evaluation(recall, mrr, ndcg, len(ranks), ties)


def assess(rankings: Rankings, targets: Targets, n_items: int, settings: Settings) -> Assessment:
    """Compute all figures of a ranking.

    Args:
        rankings: of the targets, with as many best items as the largest cutoff, or as the catalogue if that is less.
        targets: of the test.
        n_items: size of the catalogue.
        settings: how to assess.

    Raises:
        UserError: there is no target, or `ties` is none of the three.
    """
    means = summarize(rankings, settings.cutoffs, settings.ties)
    ranks, support, headline = rankings.ranks(settings.ties), settings.support, settings.headline
    with_ties, without_ties = (
        compute_metric("recall", each, headline).mean()
        for each in (rankings.ranks("standard"), rankings.ranks("conservative"))
    )
    best = {cutoff: rankings.best[:, :cutoff] for cutoff in settings.cutoffs}
    return Assessment(
        **vars(means),
        settings=settings,
        sessions=len(np.unique(targets.session)),
        intervals=_estimate(_metric_values(ranks, settings), targets, settings),
        coverage={cutoff: len(np.unique(items)) / n_items for cutoff, items in best.items()},
        popularity={} if support is None else {n: float(support[items].mean()) for n, items in best.items()},
        clicked_popularity=None if support is None else float(support[targets.item].mean()),
        tied=float(((rankings.tied > 1) & (rankings.above < max(settings.cutoffs))).mean()),
        tie_spread=float(with_ties - without_ties),
        by_position=_groups(targets.n_clicks, POSITION_BOUNDS, ranks, headline),
        by_support=[] if support is None else _groups(support[targets.item], SUPPORT_BOUNDS, ranks, headline),
    )


def compare(first: Rankings, second: Rankings, targets: Targets, settings: Settings) -> dict[str, Interval]:
    """How much better the first of two rankings is, by metric, with paired intervals over sessions.

    Args:
        first, second: of the same targets.
        targets: of the test.
        settings: how to assess.
    """
    ours, theirs = (_metric_values(each.ranks(settings.ties), settings) for each in (first, second))
    return _estimate({name: ours[name] - theirs[name] for name in ours}, targets, settings)


def _metric_values(ranks: np.ndarray, settings: Settings) -> dict[str, np.ndarray]:
    """Every metric of every target, by name, [E]."""
    return {f"{metric}@{n}": compute_metric(metric, ranks, n) for metric in METRICS for n in settings.cutoffs}


def _estimate(values: dict[str, np.ndarray], targets: Targets, settings: Settings) -> dict[str, Interval]:
    return bootstrap(values, targets.session, resamples=settings.resamples, seed=settings.seed)


def _groups(quantity: np.ndarray, bounds: Sequence[int], ranks: np.ndarray, cutoff: int) -> list[Group]:
    """Targets by the half-open range that their quantity [E] lies in; empty ranges are left out."""
    place = np.searchsorted(bounds, quantity, "right") - 1
    groups = []
    for number in np.unique(place):
        inside = ranks[place == number]
        recall, mrr = (float(compute_metric(metric, inside, cutoff).mean()) for metric in ("recall", "mrr"))
        groups.append(Group(_range_label(bounds, int(number)), len(inside), recall, mrr))
    return groups


def _range_label(bounds: Sequence[int], number: int) -> str:
    begin = bounds[number]
    if number + 1 == len(bounds):
        return f"{begin:,}+"
    last = bounds[number + 1] - 1
    return f"{begin:,}" if begin == last else f"{begin:,}–{last:,}"
