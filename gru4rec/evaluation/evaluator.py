"""Recall@N, MRR@N and NDCG@N with every item ranked.

Every consecutive pair of a session is one event: the item that really came next is ranked among all items of the
catalogue, given the session so far (`full_ranking`). Recall@N is the share of events whose rank is at most N, MRR@N the
mean of 1 / rank over all events, counting 0 beyond N. No sampled negatives, no leave-one-out. What else can be said of
a model is in `assessment`.

Source: Hidasi & Czapp, Widespread Flaws in Offline Evaluation of Recommender Systems, arXiv 2307.14951.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gru4rec.data.sessions import Sessions
from gru4rec.evaluation.metrics import check_cutoffs, worth
from gru4rec.evaluation.network_ranking import rank_all
from gru4rec.evaluation.rankings import Ties, check_ties
from gru4rec.model.network import Network
from inference.shared.errors import UserError

DEFAULT_CUTOFFS = (1, 5, 10, 20)


@dataclass(frozen=True)
class Evaluation:
    """The quality of a model on some sessions.

    Attributes:
        recall, mrr, ndcg: by cutoff.
        events: number of pairs ranked.
        ties: how ties were ranked.
    """

    recall: dict[int, float]
    mrr: dict[int, float]
    ndcg: dict[int, float]
    events: int
    ties: Ties

    def as_dict(self) -> dict[str, float | int | str]:
        """Flat: {"recall@20": …, "mrr@20": …, "ndcg@20": …, "events": …, "ties": …}."""
        by_metric = {"recall": self.recall, "mrr": self.mrr, "ndcg": self.ndcg}
        figures = {
            f"{metric}@{cutoff}": value for metric, values in by_metric.items() for cutoff, value in values.items()
        }
        return {**figures, "events": self.events, "ties": self.ties}


def evaluate(
    network: Network,
    sessions: Sessions,
    *,
    cutoffs: Sequence[int] = DEFAULT_CUTOFFS,
    ties: Ties = "standard",
) -> Evaluation:
    """Rank every next item of the sessions.

    Args:
        network: a model; dropout plays no part.
        sessions: in the item numbers of the model's vocabulary.
        cutoffs: the N of Recall@N, MRR@N and NDCG@N.
        ties: how to rank the target among items of the same score.

    Raises:
        UserError: there is no pair to rank, a cutoff is not positive, `ties` is none of the three, or the network has
            weights that are not finite.
    """
    check_cutoffs(cutoffs)
    return metrics_of(ranks(network, sessions, ties=ties), cutoffs=cutoffs, ties=ties)


def metrics_of(ranked: np.ndarray, *, cutoffs: Sequence[int], ties: Ties) -> Evaluation:
    """Recall, MRR and NDCG of ranks [events], which begin at 1.

    Raises:
        UserError: no event, or a cutoff that is not positive.

    >>> metrics_of(np.array([1.0, 2.0, 50.0]), cutoffs=[20], ties="standard").mrr[20]  # (1 + 1/2 + 0) / 3
    0.5
    """
    check_cutoffs(cutoffs)
    if not len(ranked):
        raise UserError("expected sessions with at least two items that the model knows, got none")

    def means(metric: str) -> dict[int, float]:
        return {cutoff: float(worth(metric, ranked, cutoff).mean()) for cutoff in cutoffs}

    return Evaluation(means("recall"), means("mrr"), means("ndcg"), len(ranked), ties)


def ranks(
    network: Network,
    sessions: Sessions,
    *,
    ties: Ties = "standard",
) -> np.ndarray:
    """The rank of every next item, float64 [pairs], session after session in their order.

    Raises:
        UserError: `ties` is none of the three, or the network has weights that are not finite.
    """
    check_ties(ties)
    return rank_all(network, sessions).ranks(ties)
