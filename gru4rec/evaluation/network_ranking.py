"""Rank every item of the catalogue with a network, without holding all scores of a batch.

    sessions → states, a few thousand at a time → chunks of states × blocks of items → counts

A block of scores stays in the cache: it is computed, compared with the targets' scores, counted and overwritten. So
memory does not grow with the catalogue. A target's own score must be known before the first block is counted. It is
taken from the same product that is counted later: computed alone, its sum could have another order and differ in the
last bit, which would make or break ties. To keep this cheap, states are sorted by their targets, so that the targets
of a chunk lie in few blocks.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from gru4rec.data.sessions import NO_ITEM, Sessions
from gru4rec.evaluation.rankings import Rankings
from gru4rec.model.network import Network
from inference.shared.errors import UserError

SESSIONS_PER_BATCH = 2048
STATES_AT_ONCE = 1 << 14
STATES_PER_CHUNK = 512
ITEMS_PER_BLOCK = 2048  # with a chunk of states, 4 MiB of float32 scores: they stay in the cache of a processor
BLOCKS_AT_ONCE_ON_GPU = 16  # a GPU finishes a product of one block before the next one is launched

_Part = tuple[np.ndarray, Tensor, Tensor, Tensor]
"""Some targets: their places, the last layer's output before them [M, H], their items [M], the recent items [M, K]."""


@torch.no_grad()
def rank_with_network(
    network: Network, sessions: Sessions, *, n_best: int = 0, progress: Callable[[int], None] | None = None
) -> Rankings:
    """Rank every target among all items.

    Args:
        network: runs without dropout.
        sessions: in the item numbers of the model's vocabulary.
        n_best: how many of the best items to keep for every target.
        progress: called with the number of targets ranked so far.

    Raises:
        UserError: the network has weights that are not finite.
    """
    if not network.is_finite():  # comparisons with NaN are false, so every target would be ranked first
        raise UserError("expected finite weights to evaluate, got NaN or infinity; the training has diverged")
    n_best = min(n_best, network.n_items)
    rankings = Rankings.empty(sessions.n_pairs, n_best)
    ranking = _BlockRanking(network, n_best)
    done = 0
    for places, states, targets, recent in _merge(_compute_states(network, sessions)):
        order = torch.argsort(targets)
        for rows in torch.split(order, STATES_PER_CHUNK):
            counts = ranking.counts(
                network.query(states[rows]), targets[rows], recent[rows], network.bonus(states[rows])
            )
            here = places[rows.cpu().numpy()]
            rankings.fill(here, *(part.cpu().numpy() for part in counts))
        done += len(places)
        if progress is not None:
            progress(done)
    return rankings


class _BlockRanking:
    """Counts and best items, from the scores of one block of items at a time."""

    def __init__(self, network: Network, n_best: int):
        self._table, self._bias = network.scoring(network.output_table), network.output_bias
        self._n_best = n_best
        self._width = ITEMS_PER_BLOCK * (1 if self._table.device.type == "cpu" else BLOCKS_AT_ONCE_ON_GPU)
        self._scores = torch.empty(STATES_PER_CHUNK * self._width, device=self._table.device)

    def _product(self, query: Tensor, block: int, recent: "_Recent") -> Tensor:
        """Scores [R, width of the block]; overwritten by the next call."""
        items = slice(block * self._width, min((block + 1) * self._width, len(self._table)))
        width = items.stop - items.start
        scores = self._scores[: len(query) * width].view(len(query), width)
        torch.addmm(self._bias[items], query, self._table[items].T, out=scores)
        recent.add_to(scores, block)
        return scores

    def counts(self, query: Tensor, targets: Tensor, recent: Tensor, bonus: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """How many items score more than the target [R], how many score the same [R], and the best items [R, n best].

        Args:
            query: [R, H].
            targets: int64 [R].
            recent: int64 [R, K], the items of the last clicks; `NO_ITEM` where there was no click.
            bonus: [R, K], added to the scores of these.
        """
        clicks = _Recent(recent, bonus, len(self._table), self._width)
        block_of_target = targets // self._width
        own = torch.empty(len(query), 1, device=query.device)
        for block in torch.unique(block_of_target).tolist():
            rows = torch.nonzero(block_of_target == block).squeeze(1)
            own[rows, 0] = self._product(query, block, clicks)[rows, targets[rows] - block * self._width]
        above = torch.zeros(len(query), dtype=torch.int64, device=query.device)
        tied = torch.zeros_like(above)
        best = _Best(self._n_best)
        for block, begin in enumerate(range(0, len(self._table), self._width)):
            scores = self._product(query, block, clicks)
            above += _count(scores > own)
            tied += _count(scores == own)
            best.add(scores, begin)
        return above, tied, best.numbers


class _Recent:
    """The bonus of recent clicks, by block of items of this width."""

    def __init__(self, items: Tensor, bonus: Tensor, n_items: int, width: int):
        ascending, order = items.flatten().sort()
        starts = torch.arange(0, n_items + width, width, device=items.device)
        self._bounds: list[int] = torch.searchsorted(ascending, starts).tolist()
        self._rows = order // max(1, items.shape[1])
        self._columns = ascending % width
        self._bonus = bonus.flatten()[order]

    def add_to(self, scores: Tensor, block: int) -> None:
        """Add the bonuses of a block of items to their scores [R, W]."""
        here = slice(self._bounds[block], self._bounds[block + 1])
        if here.start < here.stop:
            scores.index_put_((self._rows[here], self._columns[here]), self._bonus[here], accumulate=True)


class _Best:
    """The highest scores of every row so far, and their items."""

    def __init__(self, count: int):
        self._count = count
        self._scores = torch.empty(0)
        self.numbers = torch.empty(0, dtype=torch.int64)

    def add(self, scores: Tensor, begin: int) -> None:
        """Include the scores [R, W] of a block of items, numbered from `begin`."""
        if not begin:
            self._scores, self.numbers = scores.topk(min(self._count, scores.shape[1]), dim=1)
        elif self._scores.shape[1] < self._count:
            self._merge(scores, torch.arange(begin, begin + scores.shape[1], device=scores.device).expand(scores.shape))
        elif self._count:  # few items beat the last of the best after the first blocks: merge only those
            row, place = torch.nonzero(scores > self._scores[:, -1:], as_tuple=True)
            if len(row):
                found = torch.bincount(row, minlength=len(scores))
                column = torch.arange(len(row), device=row.device) - (found.cumsum(0) - found)[row]
                width = int(found.max())
                entering = scores.new_full((len(scores), width), -torch.inf)
                numbers = row.new_zeros(len(scores), width)
                entering[row, column], numbers[row, column] = scores[row, place], place + begin
                self._merge(entering, numbers)

    def _merge(self, scores: Tensor, numbers: Tensor) -> None:
        scores, numbers = torch.cat([self._scores, scores], dim=1), torch.cat([self.numbers, numbers], dim=1)
        self._scores, kept = scores.topk(min(self._count, scores.shape[1]), dim=1)
        self.numbers = numbers.gather(1, kept)


def _count(mask: Tensor) -> Tensor:
    """How many values of each row of a mask [R, W] are true; torch sums bytes faster than booleans."""
    return mask.view(torch.uint8).sum(dim=1, dtype=torch.int32)


def _merge(parts: Iterator[_Part]) -> Iterator[_Part]:
    """The same targets in larger parts."""
    waiting: list[_Part] = []
    for part in parts:
        waiting.append(part)
        if sum(len(places) for places, *_ in waiting) >= STATES_AT_ONCE:
            yield _concatenate(waiting)
            waiting = []
    if waiting:
        yield _concatenate(waiting)


def _concatenate(parts: list[_Part]) -> _Part:
    places, states, targets, recent = zip(*parts, strict=True)
    return np.concatenate(places), torch.cat(states), torch.cat(targets), torch.cat(recent)


def _compute_states(network: Network, sessions: Sessions) -> Iterator[_Part]:
    """Targets in parts: those of one step of a batch of sessions of similar length."""
    device = network.dense.device
    items = torch.tensor(sessions.items, device=device)
    lengths = sessions.lengths
    back = torch.arange(network.n_recent, device=device)
    place_of_session = np.concatenate([[0], np.cumsum(np.maximum(lengths - 1, 0))])
    for batch in sessions.batches_by_length(SESSIONS_PER_BATCH):
        pairs = lengths[batch] - 1
        start = torch.from_numpy(sessions.offsets[batch]).to(device)
        steps = int(pairs.max())
        state = network.zero_state(len(batch))
        for step in range(steps):
            live = np.flatnonzero(pairs > step)  # sessions are sorted by length: always a tail
            rows = torch.from_numpy(live).to(device)
            clicks = start[rows] + step
            following = network.advance(items[clicks], [hidden[rows] for hidden in state])
            for hidden, after in zip(state, following, strict=True):
                hidden[rows] = after
            recent = items[(clicks[:, None] - back).clamp_min(0)].long().masked_fill(back > step, NO_ITEM)
            yield place_of_session[batch[live]] + step, following[-1], items[clicks + 1].long(), recent
