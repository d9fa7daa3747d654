"""Compare an exported graph with its network.

The graph runs in onnxruntime and the network in torch, on batches of one row and of several, sessions of no click, one
click and many, states carried over from an earlier call, exclusions, and k from one to the whole of a small catalogue.
Where two scores nearly tie, rounding may swap the two items. So lists of ids are not compared: the score of every
returned item must agree, and the score at every rank.
"""

from typing import Any

import numpy as np
import torch

from gru4rec.model.network import Network
from gru4rec.model.precision import float32_products
from inference.model.format import INPUTS, OUTPUTS
from inference.shared.errors import UserError

TOLERANCE = 1e-4
"""The largest difference of scores, relative to the largest of them or to 1, and of states, which lie in -1 … 1."""

BATCHES = ((0, 1, 2, 7), (1,), (0,), (19, 1, 0, 3, 3), (40,))
"""Clicks of each session, for each batch."""


def check_parity(session: Any, network: Network, *, every_rank: bool = True) -> float:
    """Run graph and network on the same inputs.

    Args:
        session: an onnxruntime session of the exported graph.
        network: what it was exported from.
        every_rank: whether the graph must find the best items. One that scans may miss some on random sessions;
            `scan_report` measures how many it misses on real ones.

    Returns:
        The largest difference: of scores, relative to the largest score or 1, and of states.

    Raises:
        UserError: a difference is larger than `TOLERANCE`, an item is excluded or repeated, or a value is not finite
            where it should be.
    """
    generator = np.random.default_rng(0)
    n_items, (parts, width) = network.n_items, network.state_shape
    largest = 0.0
    with float32_products("ieee"):  # whatever precision the user has set
        for lengths in BATCHES:
            carried = np.zeros((parts, len(lengths), width), np.float32)
            for k in sorted({1, min(20, n_items), min(n_items, 64)}):
                inputs = _draw_inputs(generator, lengths, carried, k, n_items)
                difference, carried = _compare(session, network, inputs, every_rank)
                largest = max(largest, difference)
    return largest


def _draw_inputs(
    generator: np.random.Generator, lengths: tuple[int, ...], h0: np.ndarray, k: int, n_items: int
) -> dict[str, np.ndarray]:
    """The inputs of the graph by name: random clicks and exclusions, both padded with N."""
    items = np.full((len(lengths), max(1, *lengths)), n_items, np.int64)
    exclude = np.full((len(lengths), min(5, n_items - 1)), n_items, np.int64)
    for row, length in enumerate(lengths):
        items[row, :length] = generator.integers(0, n_items, length)
        n_exclude = int(generator.integers(0, exclude.shape[1] + 1))
        exclude[row, :n_exclude] = generator.choice(n_items, n_exclude, replace=False)
    values = (items, np.array(lengths, np.int64), h0, exclude, np.array([k], np.int64))
    return dict(zip(INPUTS, values, strict=True))


def _compare(
    session: Any, network: Network, inputs: dict[str, np.ndarray], every_rank: bool
) -> tuple[float, np.ndarray]:
    """The largest difference for one batch, and its states."""
    ids, scores, hidden = session.run(list(OUTPUTS), inputs)
    clicks = (torch.from_numpy(inputs[name]).to(network.dense.device) for name in INPUTS[:3])
    expected, expected_hidden = (tensor.float().cpu().numpy() for tensor in network.score(*clicks))
    if not (np.isfinite(expected).all() and np.isfinite(hidden).all() and np.isfinite(expected_hidden).all()):
        raise UserError("cannot export: a score or state of the network or its graph is NaN or infinite")
    open_items = np.ones((len(ids), network.n_items + 1), bool)
    np.put_along_axis(open_items, inputs["exclude"], False, axis=1)
    open_items[:, -1] = False
    k = int(inputs["k"][0])
    n_finite = np.minimum(open_items.sum(axis=1), k)  # all that can be recommended
    scale = max(1.0, float(np.abs(expected).max()))
    difference = 0.0
    for row in range(len(ids)):
        returned, rest = ids[row, : n_finite[row]], scores[row, n_finite[row] :]
        if not np.isneginf(rest).all() or not open_items[row][returned].all() or len(set(returned)) < len(returned):
            raise UserError("the exported graph recommends excluded or repeated items; please report this")
        own = scores[row, : n_finite[row]]
        if not np.isfinite(own).all():
            raise UserError("the exported graph gives fewer items than it should; please report this")
        everything = np.partition(expected[row][open_items[row, :-1]], -len(own))
        ranked = np.sort(everything[-len(own) :])[::-1]
        for reference in (expected[row][returned], ranked if every_rank else own):
            difference = max(difference, float(np.abs(own - reference).max(initial=0.0)) / scale)
    state_difference = float(np.abs(hidden - expected_hidden).max(initial=0.0))
    if max(difference, state_difference) > TOLERANCE:
        raise UserError(
            f"the exported graph differs from the network: scores by {difference:.2g} of the largest score, states by "
            f"{state_difference:.2g}, expected at most {TOLERANCE:g}; please report this"
        )
    return max(difference, state_difference), hidden
