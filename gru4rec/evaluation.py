"""Recall@N and MRR@N with every item ranked.

Every consecutive pair of a session is one event: the item that really came next is ranked among all items of the
catalogue, given the session so far. Recall@N is the share of events whose rank is at most N, MRR@N the mean of 1 / rank
over all events, counting 0 beyond N. No sampled negatives, no leave-one-out.

Where scores tie with the target's, "standard" ranks it first among them, "conservative" last, "median" in the middle:

    standard = #(score > target) + 1      conservative = #(score ≥ target)
    median   = #(score > target) + ½ (#(score = target) − 1) + 1

Source: Hidasi & Czapp, Widespread Flaws in Offline Evaluation of Recommender Systems, arXiv 2307.14951.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from gru4rec.model import Network
from gru4rec.sessions import Sessions
from inference.errors import UserError, unknown_choice

Ties = Literal["standard", "conservative", "median"]
DEFAULT_CUTOFFS = (1, 5, 10, 20)

SESSIONS_PER_BATCH = 512
SCORES_PER_CHUNK = 1 << 22  # 16 MiB of float32 scores at a time


@dataclass(frozen=True)
class Evaluation:
    """The quality of a model on some sessions.

    Attributes:
        recall, mrr: by cutoff.
        events: number of pairs ranked.
        ties: how ties were ranked.
    """

    recall: dict[int, float]
    mrr: dict[int, float]
    events: int
    ties: Ties

    def as_dict(self) -> dict[str, float | int | str]:
        """Flat: {"recall@20": …, "mrr@20": …, "events": …, "ties": …}."""
        recalls = {f"recall@{cutoff}": value for cutoff, value in self.recall.items()}
        mrrs = {f"mrr@{cutoff}": value for cutoff, value in self.mrr.items()}
        return {**recalls, **mrrs, "events": self.events, "ties": self.ties}


def evaluate(
    network: Network,
    sessions: Sessions,
    *,
    cutoffs: Sequence[int] = DEFAULT_CUTOFFS,
    ties: Ties = "standard",
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Rank every next item of the sessions.

    Args:
        network: a model; dropout plays no part.
        sessions: in the item numbers of the model's vocabulary.
        cutoffs: the N of Recall@N and MRR@N.
        ties: how to rank the target among items of the same score.
        progress: called with the number of events ranked so far.

    Raises:
        UserError: there is no pair to rank, a cutoff is not positive, `ties` is none of the three, or the network has
            weights that are not finite.
    """
    return metrics_of(ranks(network, sessions, ties=ties, progress=progress), cutoffs=cutoffs, ties=ties)


def metrics_of(ranked: np.ndarray, *, cutoffs: Sequence[int], ties: Ties) -> Evaluation:
    """Recall and MRR of ranks [events], which begin at 1.

    Raises:
        UserError: no event, or a cutoff that is not positive.

    >>> metrics_of(np.array([1.0, 2.0, 50.0]), cutoffs=[20], ties="standard").mrr[20]  # (1 + 1/2 + 0) / 3
    0.5
    """
    if not len(ranked):
        raise UserError("expected sessions with at least two items that the model knows, got none")
    if not cutoffs or min(cutoffs) < 1:
        raise UserError(f"cutoffs: expected positive numbers, got {list(cutoffs)}")
    recall = {cutoff: float((ranked <= cutoff).mean()) for cutoff in cutoffs}
    mrr = {cutoff: float(np.where(ranked <= cutoff, 1.0 / ranked, 0.0).mean()) for cutoff in cutoffs}
    return Evaluation(recall, mrr, len(ranked), ties)


def ranks(
    network: Network,
    sessions: Sessions,
    *,
    ties: Ties = "standard",
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """The rank of every next item, float64 [pairs], session after session in their order.

    Raises:
        UserError: `ties` is none of the three, or the network has weights that are not finite.
    """
    if ties not in get_args(Ties):
        raise unknown_choice("way of ranking ties", ties, list(get_args(Ties)))
    if not network.is_finite():  # comparisons with NaN are false, so every target would be ranked first
        raise UserError("expected finite weights to evaluate, got NaN or infinity; the training has diverged")
    result = np.empty(sessions.n_pairs, dtype=np.float64)
    scoring = network.scoring(network.output_table)
    done = 0
    for places, states, targets in _states(network, sessions):
        rows = max(1, SCORES_PER_CHUNK // network.n_items)
        pieces = [
            _ranks_of(network.query(hidden), target, scoring, network.output_bias, ties)
            for hidden, target in zip(torch.split(states, rows), torch.split(targets, rows), strict=True)
        ]
        result[places] = torch.cat(pieces).cpu().numpy()
        done += len(places)
        if progress is not None:
            progress(done)
    return result


def _states(network: Network, sessions: Sessions) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
    """Batches of pairs: places in the result, the last layer's output [M, H] before the target, and the target [M]."""
    device = network.dense.device
    items = torch.tensor(sessions.items, device=device)
    lengths = sessions.lengths
    place_of_session = np.concatenate([[0], np.cumsum(np.maximum(lengths - 1, 0))])
    longest_last = np.argsort(lengths, kind="stable")
    longest_last = longest_last[lengths[longest_last] > 1]
    for begin in range(0, len(longest_last), SESSIONS_PER_BATCH):
        batch = longest_last[begin : begin + SESSIONS_PER_BATCH]
        pairs = lengths[batch] - 1
        start = torch.from_numpy(sessions.offsets[batch]).to(device)
        steps = int(pairs.max())
        state = network.zero_state(len(batch))
        for step in range(steps):
            live = np.flatnonzero(pairs > step)  # sessions are sorted by length: always a tail
            rows = torch.from_numpy(live).to(device)
            clicked = items[start[rows] + step]
            output = network.embedded(network.input_table[clicked])
            for number, layer in enumerate(network.layers):
                output = layer(output, state[number][rows])
                state[number][rows] = output
            yield place_of_session[batch[live]] + step, output, items[start[rows] + step + 1].long()


@torch.no_grad()
def _ranks_of(query: Tensor, targets: Tensor, scoring: Tensor, bias: Tensor, ties: Ties) -> Tensor:
    scores = torch.addmm(bias, query, scoring.T)  # [M, N]
    target = scores.gather(1, targets.unsqueeze(1))
    if ties == "conservative":
        return (scores >= target).sum(dim=1).double()
    above = (scores > target).sum(dim=1).double()
    if ties == "standard":
        return above + 1
    return above + 0.5 * ((scores == target).sum(dim=1).double() - 1) + 1
