"""Everything that can be said of a model from how it ranked a test: how good, how sure, where, and at what price.

* metrics at several cutoffs, with intervals over sessions (`metrics`);
* by the clicks that a session had so far, and by how often the item to be found was clicked in training;
* coverage: the share of the catalogue that is recommended to anybody at all;
* popularity: how often the recommended items were clicked in training, on average, beside the items that really came
  next. A model that recommends what is popular anyway has the larger number;
* ties: where many targets score exactly as other items do, the scores have collapsed, and what is measured is how ties
  are ranked: all of them in the target's favour, such a model looks perfect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gru4rec.evaluation.metrics import METRICS, Interval, check_cutoffs, intervals, worth
from gru4rec.evaluation.rankings import Events, Rankings, Ties
from inference.shared.errors import UserError

USUAL_CUTOFF = 20
TIES_THAT_MATTER = 0.01
"""Recall that hangs on how ties are ranked, from which on it is reported."""
POSITION_BOUNDS = (1, 2, 3, 4, 5, 10, 20)
SUPPORT_BOUNDS = (0, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000)


@dataclass(frozen=True)
class Setting:
    """How rankings are judged.

    Attributes:
        cutoffs: the N of the metrics.
        ties: how to rank a target among items of its score.
        resamples, seed: of the bootstrap.
        support: int64 [N], clicks per item in training; None where that is not known.
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
        return USUAL_CUTOFF if USUAL_CUTOFF in self.cutoffs else max(self.cutoffs)


@dataclass(frozen=True)
class Group:
    """The events of one kind.

    Attributes:
        label: of what kind.
        events: how many.
        recall, mrr: at the headline cutoff.
    """

    label: str
    events: int
    recall: float
    mrr: float


@dataclass(frozen=True)
class Assessment:
    """What a model did on a test.

    Attributes:
        setting: how it was judged.
        events, sessions: how many were ranked.
        metrics: by name, such as "recall@20".
        coverage: by cutoff, the share of the catalogue that is recommended.
        popularity: by cutoff, mean support of what is recommended; empty where the support is not known.
        clicked_popularity: mean support of what came next; None where the support is not known.
        tied: share of events whose target ranks within the largest cutoff, ties in its favour, and scores as another
            item does. Beyond that, an exported model is not asked for scores.
        tie_spread: recall at the headline cutoff with ties in the target's favour, less that with ties against it.
        by_position: by the session's clicks so far.
        by_support: by the clicks, in training, of what came next; empty where the support is not known.
    """

    setting: Setting
    events: int
    sessions: int
    metrics: dict[str, Interval]
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
        return self.tie_spread >= TIES_THAT_MATTER

    def as_dict(self) -> dict[str, Any]:
        """For a JSON file: figures such as "recall@20" at the top, intervals and groups below."""
        figures: dict[str, Any] = {name: interval.mean for name, interval in self.metrics.items()}
        for cutoff in self.setting.cutoffs:
            figures[f"map@{cutoff}"] = figures[f"mrr@{cutoff}"]  # one relevant item: see `metrics`
            figures[f"coverage@{cutoff}"] = self.coverage[cutoff]
            if self.popularity:
                figures[f"popularity@{cutoff}"] = self.popularity[cutoff]
        if self.clicked_popularity is not None:
            figures["popularity of clicked"] = self.clicked_popularity
        return figures | {
            "events": self.events,
            "sessions": self.sessions,
            "ties": self.setting.ties,
            "tied": self.tied,
            "intervals": {name: [interval.low, interval.high] for name, interval in self.metrics.items()},
            "by_position": _rows(self.by_position, self.setting.headline),
            "by_support": _rows(self.by_support, self.setting.headline),
        }


def assess(rankings: Rankings, events: Events, n_items: int, setting: Setting) -> Assessment:
    """Judge how the events of a test were ranked.

    Args:
        rankings: of those events, with at least as many best items as the largest cutoff or the catalogue has.
        events: of the test.
        n_items: size of the catalogue.
        setting: how to judge.

    Raises:
        UserError: there is no event, or no such way of ranking ties.
    """
    if not len(events.target):
        raise UserError("expected sessions with at least two items that the model knows, got none")
    ranks = rankings.ranks(setting.ties)
    names = [f"{metric}@{cutoff}" for metric in METRICS for cutoff in setting.cutoffs]
    found = intervals(_values(ranks, setting), events.session, resamples=setting.resamples, seed=setting.seed)

    support, headline = setting.support, setting.headline
    favoured, disfavoured = (worth("recall", rankings.ranks(ties), headline).mean() for ties in _EXTREMES)
    return Assessment(
        setting,
        len(ranks),
        len(np.unique(events.session)),
        dict(zip(names, found, strict=True)),
        {cutoff: len(np.unique(rankings.best[:, :cutoff])) / n_items for cutoff in setting.cutoffs},
        {} if support is None else {n: float(support[rankings.best[:, :n]].mean()) for n in setting.cutoffs},
        None if support is None else float(support[events.target].mean()),
        float(((rankings.tied > 1) & (rankings.above < max(setting.cutoffs))).mean()),
        float(favoured - disfavoured),
        _groups(events.n_clicks, POSITION_BOUNDS, ranks, headline),
        [] if support is None else _groups(support[events.target], SUPPORT_BOUNDS, ranks, headline),
    )


_EXTREMES: tuple[Ties, Ties] = ("standard", "conservative")


def differences(first: Rankings, second: Rankings, events: Events, setting: Setting) -> dict[str, Interval]:
    """How much better the first of two models is, by the name of the metric, with paired intervals over sessions.

    Args:
        first, second: of the same events.
        events: of the test.
        setting: how to judge.
    """
    names = [f"{metric}@{cutoff}" for metric in METRICS for cutoff in setting.cutoffs]
    values = _values(first.ranks(setting.ties), setting) - _values(second.ranks(setting.ties), setting)
    found = intervals(values, events.session, resamples=setting.resamples, seed=setting.seed)
    return dict(zip(names, found, strict=True))


def _values(ranks: np.ndarray, setting: Setting) -> np.ndarray:
    """What every event is worth, [E, metrics · cutoffs]."""
    return np.stack([worth(metric, ranks, cutoff) for metric in METRICS for cutoff in setting.cutoffs], axis=1)


def _groups(quantity: np.ndarray, bounds: Sequence[int], ranks: np.ndarray, cutoff: int) -> list[Group]:
    """Events by the half-open range that their quantity [E] lies in; ranges without any are left out."""
    place = np.searchsorted(bounds, quantity, "right") - 1
    groups = []
    for number in np.unique(place):
        inside = ranks[place == number]
        recall, mrr = (float(worth(metric, inside, cutoff).mean()) for metric in ("recall", "mrr"))
        groups.append(Group(_range(bounds, int(number)), len(inside), recall, mrr))
    return groups


def _range(bounds: Sequence[int], number: int) -> str:
    begin = bounds[number]
    if number + 1 == len(bounds):
        return f"{begin:,}+"
    last = bounds[number + 1] - 1
    return f"{begin:,}" if begin == last else f"{begin:,}–{last:,}"


def _rows(groups: Sequence[Group], cutoff: int) -> list[dict[str, Any]]:
    return [
        {"group": group.label, "events": group.events, f"recall@{cutoff}": group.recall, f"mrr@{cutoff}": group.mrr}
        for group in groups
    ]
