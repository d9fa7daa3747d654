"""Rank a large catalogue by approximate scores of all items and exact scores of the best.

Scoring one session reads every output weight once, so it takes as long as moving the table through memory. The scan
reads an 8-bit copy of the table, a quarter of the bytes:

    query → rounded → MatMulInteger over all items → exclusions → the best blocks → the best candidates
    → exact scores of the candidates, from the float32 weights → TopK

The returned scores are exact. The only possible error is that an item of the true top k is not among the candidates,
`CANDIDATES` or eight times k. `scan_report` measures how often that happens.

For several sessions, each pass over the scores of all items costs as much as the product itself, so there are as few
passes as possible: 64 successive items form a block with one scale, the best integer of each block is found first, and
only the best blocks become floating-point numbers. For the same reason biases are not added separately: they are
further columns of the table, multiplied by constants in the query. Rejected, by measurement: a scale for each row
(three more passes; with 64 sessions hardly faster than exact scores), the fused MatMulIntegerToFloat (slow for a single
session), MatMulNBits (4 bits are the fastest for a single session, but for 64 slower than exact scores), and
DynamicQuantizeLinear (one scale for the batch, so a session's result depends on the others).

Queries are rounded to 7 bits: products of 8 with 8 bits overflow in the 16-bit sums of processors without VNNI. With 7,
every processor computes the same integers.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto
from onnx.helper import make_node as node

from inference.model.format import MINUS_INFINITY, OUTPUT_BIAS, OUTPUT_WEIGHT, SCAN_BLOCK, SCAN_SCALE, SCAN_WEIGHT

CANDIDATES, CANDIDATES_PER_RANK = 256, 8
"""Items that are scored exactly: the larger of the first and of the second times k."""
LARGEST_QUERY, LARGEST_WEIGHT, ZERO = 63, 127, 64
"""Rounded queries lie in ZERO ± LARGEST_QUERY, weights in ± LARGEST_WEIGHT."""
BIAS_COLUMNS = 3
"""Columns that hold a bias in units of LARGEST_QUERY; one more holds the rest."""
LARGEST_BIAS = BIAS_COLUMNS * LARGEST_WEIGHT * LARGEST_QUERY
LARGEST_BONUS = 1 << 22
"""Integer steps that a recent click may add: 256 of them stay far from an overflow."""
EXCLUDED = int(np.iinfo(np.int32).min)
SMALLEST_STEP = 1e-9
"""So that nothing is divided by zero."""
BLOCKS_AT_ONCE = 1 << 10
"""Rounded at a time."""


@dataclass(frozen=True)
class Scan:
    """The output table in 8 bits.

    Attributes:
        weight: int8 [last width + BIAS_COLUMNS + 1, blocks × SCAN_BLOCK]; a column for each item and the sentinel,
            and padding of the last block.
        scale: float32 [blocks]; a block's integer scores times its scale approximate its scores.
        query_scale: a query is divided by it before it is rounded.
        n_items: N.
    """

    weight: np.ndarray
    scale: np.ndarray
    query_scale: float
    n_items: int

    def tensors(self, *, has_recent: bool) -> dict[str, np.ndarray]:
        """The constants of `ranking_nodes` that an exact graph does not have."""
        n_columns = self.weight.shape[1]
        limits_of_bonus = {
            "least_bonus": np.array(-LARGEST_BONUS, np.float32),
            "largest_bonus": np.array(LARGEST_BONUS, np.float32),
        }
        return {
            SCAN_WEIGHT: self.weight,
            SCAN_SCALE: self.scale,
            "query_scale": np.array(self.query_scale, np.float32),
            "query_zero": np.array(ZERO, np.uint8),
            "query_smallest": np.array(ZERO - LARGEST_QUERY, np.uint8),
            "query_largest": np.array(ZERO + LARGEST_QUERY, np.uint8),
            "bias_query": np.array([[ZERO + LARGEST_QUERY] * BIAS_COLUMNS + [ZERO + 1]], np.uint8),
            "beyond": np.arange(self.n_items, n_columns, dtype=np.int64)[None],  # sentinel and padding
            "barred": np.array(EXCLUDED, np.int32),
            "in_blocks": np.array([0, -1, SCAN_BLOCK], np.int64),
            "in_rows": np.array([0, -1], np.int64),
            "block": np.array(SCAN_BLOCK, np.int64),
            "n_blocks": np.array([len(self.scale)], np.int64),
            "n_items": np.array([self.n_items], np.int64),
            "fewest_candidates": np.array([CANDIDATES], np.int64),
            "candidates_per_rank": np.array([CANDIDATES_PER_RANK], np.int64),
            "axis_2": np.array([2], np.int64),
            **(limits_of_bonus if has_recent else {}),
        }


def quantize(table: np.ndarray, bias: np.ndarray, largest_query: float) -> Scan:
    """Round an output table.

    Args:
        table: float32 [N, last width].
        bias: float32 [N].
        largest_query: the largest absolute value to expect in queries; larger ones are clipped.
    """
    n_items, width = table.shape
    query_scale = max(float(largest_query), SMALLEST_STEP) / LARGEST_QUERY
    n_blocks = n_items // SCAN_BLOCK + 1  # of N + 1 rows, the last block padded
    n_padding = n_blocks * SCAN_BLOCK - n_items
    rows = np.pad(table, ((0, n_padding), (0, 0))).reshape(n_blocks, SCAN_BLOCK, width)
    biases = np.pad(bias, (0, n_padding)).reshape(n_blocks, SCAN_BLOCK)
    step = np.abs(rows).max(axis=(1, 2)) / LARGEST_WEIGHT
    bias_step = np.abs(biases).max(axis=1) / (LARGEST_BIAS * query_scale)
    step = np.maximum(np.maximum(step, bias_step), SMALLEST_STEP).astype(np.float64)  # (blocks,)
    weight = np.empty((width + BIAS_COLUMNS + 1, n_blocks * SCAN_BLOCK), np.int8)
    for first in range(0, n_blocks, BLOCKS_AT_ONCE):
        last = first + BLOCKS_AT_ONCE
        rounded = np.rint(rows[first:last] / step[first:last, None, None])
        weight[:width, first * SCAN_BLOCK : last * SCAN_BLOCK] = rounded.reshape(-1, width).T
    weight[width:] = _bias_columns(np.rint(biases / (step[:, None] * query_scale)).astype(np.int64).ravel())
    return Scan(weight, (step * query_scale).astype(np.float32), query_scale, n_items)


def _bias_columns(bias: np.ndarray) -> np.ndarray:
    """Integers [M] up to ± LARGEST_BIAS as 8-bit numbers [BIAS_COLUMNS + 1, M]."""
    coarse = np.rint(bias / LARGEST_QUERY).astype(np.int64)
    fine = bias - LARGEST_QUERY * coarse
    columns = []
    for _ in range(BIAS_COLUMNS):
        columns.append(np.clip(coarse, -LARGEST_WEIGHT, LARGEST_WEIGHT))
        coarse = coarse - columns[-1]
    return np.array([*columns, fine])


def ranking_nodes(has_recent: bool) -> list[onnx.NodeProto]:
    """From `query` [batch, last width], `exclude` and `k` to `ranked_ids` and `ranked_scores` [batch, k].

    Args:
        has_recent: whether there is a `bonus` [batch, K] for the items `recent` [batch, K].
    """
    return [
        node("QuantizeLinear", ["query", "query_scale", "query_zero"], ["rounded_query"]),
        node("Clip", ["rounded_query", "query_smallest", "query_largest"], ["cut_query"]),
        node("Shape", ["query"], ["rows_of_batch"], end=1),
        node("Concat", ["rows_of_batch", "axis_1"], ["one_column"], axis=0),  # [batch, 1]
        node("Expand", ["bias_query", "one_column"], ["bias_query_by_row"]),
        node("Concat", ["cut_query", "bias_query_by_row"], ["whole_query"], axis=1),
        node("MatMulInteger", ["whole_query", SCAN_WEIGHT, "query_zero"], ["every_product"]),  # int32 [batch, columns]
        *_with_recent(has_recent),
        node("Expand", ["beyond", "one_column"], ["beyond_by_row"]),
        node("Concat", ["exclude", "beyond_by_row"], ["barred_ids"], axis=1),
        node("Shape", ["barred_ids"], ["barred_shape"]),
        node("Expand", ["barred", "barred_shape"], ["barred_scores"]),
        node("ScatterElements", ["every_score", "barred_ids", "barred_scores"], ["open_scores"], axis=1),
        *_best_blocks(),
        *_candidates(),
        *_rescored(has_recent),
    ]


def _with_recent(has_recent: bool) -> list[onnx.NodeProto]:
    if not has_recent:
        return [node("Identity", ["every_product"], ["every_score"])]
    return [
        node("Div", ["recent", "block"], ["recent_block"]),
        node("Gather", [SCAN_SCALE, "recent_block"], ["recent_scale"]),  # [batch, K]
        node("Div", ["bonus", "recent_scale"], ["bonus_in_steps"]),
        node("Clip", ["bonus_in_steps", "least_bonus", "largest_bonus"], ["bonus_cut"]),
        node("Round", ["bonus_cut"], ["bonus_rounded"]),
        node("Cast", ["bonus_rounded"], ["bonus_int32"], to=TensorProto.INT32),
        node("ScatterElements", ["every_product", "recent", "bonus_int32"], ["every_score"], axis=1, reduction="add"),
    ]


def _best_blocks() -> list[onnx.NodeProto]:
    """As many blocks as there are to be candidates: the blocks with the best items contain all of them."""
    return [
        node("Mul", ["k", "candidates_per_rank"], ["wanted_for_k"]),
        node("Max", ["wanted_for_k", "fewest_candidates"], ["wanted"]),
        node("Min", ["wanted", "n_items"], ["n_candidates"]),
        node("Min", ["n_candidates", "n_blocks"], ["n_best_blocks"]),
        node("Reshape", ["open_scores", "in_blocks"], ["score_blocks"]),  # int32 [batch, blocks, SCAN_BLOCK]
        node("ReduceMax", ["score_blocks", "axis_2"], ["block_best"], keepdims=0),  # int32 [batch, blocks]
        *_as_floats("block_best", SCAN_SCALE, "block_score"),
        node("TopK", ["block_score", "n_best_blocks"], ["best_block_scores", "best_blocks"], axis=1),
    ]


def _candidates() -> list[onnx.NodeProto]:
    """The best items of the best blocks, by number, so that of equal scores the smaller number comes first."""
    return [
        node("Unsqueeze", ["best_blocks", "axis_2"], ["best_blocks_3d"]),
        node("GatherND", ["score_blocks", "best_blocks_3d"], ["best_score_blocks"], batch_dims=1),
        node("Gather", [SCAN_SCALE, "best_blocks_3d"], ["best_scale"]),  # [batch, best blocks, 1]
        *_as_floats("best_score_blocks", "best_scale", "near_scores_3d"),
        node("Reshape", ["near_scores_3d", "in_rows"], ["near_scores"]),
        node("TopK", ["near_scores", "n_candidates"], ["candidate_scores", "candidate_places"], axis=1),
        node("Div", ["candidate_places", "block"], ["place_of_block"]),
        node("Mod", ["candidate_places", "block"], ["place_in_block"]),
        node("GatherElements", ["best_blocks", "place_of_block"], ["candidate_block"], axis=1),
        node("Mul", ["candidate_block", "block"], ["first_of_block"]),
        node("Add", ["first_of_block", "place_in_block"], ["candidate_numbers"]),
        node("Min", ["candidate_numbers", "n_items"], ["candidate_items"]),  # padding counts as the sentinel
        node("TopK", ["candidate_items", "n_candidates"], ["candidates", "by_number"], axis=1, largest=0),
        node("GatherElements", ["candidate_scores", "by_number"], ["scanned_scores"], axis=1),
    ]


def _as_floats(integers: str, scale: str, result: str) -> list[onnx.NodeProto]:
    return [
        node("Cast", [integers], [f"{result}_unscaled"], to=TensorProto.FLOAT),
        node("Mul", [f"{result}_unscaled", scale], [f"{result}_of_all"]),
        node("Equal", [integers, "barred"], [f"{result}_is_barred"]),
        node("Where", [f"{result}_is_barred", MINUS_INFINITY, f"{result}_of_all"], [result]),
    ]


def _rescored(has_recent: bool) -> list[onnx.NodeProto]:
    sums = "sums" if has_recent else "exact_scores"
    adding = [
        node("Unsqueeze", ["candidates", "axis_2"], ["candidates_3d"]),
        node("Unsqueeze", ["recent", "axis_1"], ["recent_3d"]),
        node("Equal", ["candidates_3d", "recent_3d"], ["is_recent"]),  # [batch, candidates, K]
        node("Cast", ["is_recent"], ["is_recent_floats"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["bonus", "axis_2"], ["bonus_3d"]),
        node("MatMul", ["is_recent_floats", "bonus_3d"], ["candidate_bonus_3d"]),
        node("Squeeze", ["candidate_bonus_3d", "axis_2"], ["candidate_bonus"]),
        node("Add", ["sums", "candidate_bonus"], ["exact_scores"]),
    ]
    return [
        node("Gather", [OUTPUT_WEIGHT, "candidates"], ["candidate_rows"]),  # [batch, candidates, last width]
        node("Unsqueeze", ["query", "axis_2"], ["query_column"]),
        node("MatMul", ["candidate_rows", "query_column"], ["candidate_products"]),
        node("Squeeze", ["candidate_products", "axis_2"], ["candidate_dots"]),
        node("Gather", [OUTPUT_BIAS, "candidates"], ["candidate_biases"]),
        node("Add", ["candidate_dots", "candidate_biases"], [sums]),
        *(adding if has_recent else []),
        node("Equal", ["scanned_scores", MINUS_INFINITY], ["is_barred"]),
        node("Where", ["is_barred", MINUS_INFINITY, "exact_scores"], ["rankable_scores"]),
        node("TopK", ["rankable_scores", "k"], ["ranked_scores", "ranked_places"], axis=1),
        node("GatherElements", ["candidates", "ranked_places"], ["ranked_ids"], axis=1),
    ]
