"""The network as an ONNX graph.

The graph is built by hand from the weights. Tracing the network would freeze the time axis or spread the GRU over
dozens of nodes; built by hand, it is

    items → Gather → GRU, layer by layer → hidden
    if k > 0:  last layer's state (→ normalised, for cosine scores) → Gemm → ScatterElements (exclusions) → TopK
               → ids, scores    (or, for large catalogues, `int8_scan` in place of Gemm … TopK)

One graph serves whole sessions, single clicks with a carried state and, with k = 0, the state alone at next to no cost.
If recent clicks have a bonus, they are one more part of the state, and the bonus is added after the Gemm.

torch.nn.GRUCell orders its gates r, z, n, ONNX orders them z, r, h (h is torch's n). Both are of the reset-after kind,
which ONNX calls linear_before_reset = 1. Row N of the tables is a sentinel (embedding 0, output weights 0, bias −∞):
padding for items and exclusions, never recommended.
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from onnx.helper import make_graph, make_tensor, make_tensor_value_info
from onnx.helper import make_node as node

from gru4rec.model.network import LayerWeights, ScoringWeights
from gru4rec.onnx_export.int8_scan import Scan, ranking_nodes
from inference.model.format import (
    MINUS_INFINITY,
    OUTPUT_BIAS,
    OUTPUT_WEIGHT,
    RECENT_BIAS,
    RECENT_WEIGHT,
    SHORTEST_STATE,
)

INPUT_EMBEDDING = "input_embedding"


def scoring_graph(weights: ScoringWeights, scan: Scan | None = None) -> tuple[onnx.GraphProto, dict[str, np.ndarray]]:
    """The graph without its constants, and the constants by name, the large ones first.

    Args:
        weights: input table [N, E], output table [N, last width], bias [N] and the GRU layers; if both tables are the
            same array, it becomes one constant.
        scan: the rounded output table, to scan before the best items are scored exactly; None scores every item
            exactly.
    """
    constrained = weights.input_table is weights.output_table
    n_recent = len(weights.recent_bias)
    tensors: dict[str, np.ndarray] = {
        OUTPUT_WEIGHT: _with_sentinel(weights.output_table, 0.0),
        OUTPUT_BIAS: _with_sentinel(weights.output_bias, -np.inf),
    }
    if scan is not None:
        tensors |= scan.tensors(has_recent=n_recent > 0)
    if not constrained:
        tensors[INPUT_EMBEDDING] = _with_sentinel(weights.input_table, 0.0)
    nodes = [
        node("Transpose", ["items"], ["items_by_time"], perm=[1, 0]),  # (time, batch)
        node("Gather", [OUTPUT_WEIGHT if constrained else INPUT_EMBEDDING, "items_by_time"], ["input_0"]),
        node("Cast", ["lengths"], ["lengths_int32"], to=TensorProto.INT32),
        node("Equal", ["lengths", "zero"], ["is_empty"]),
        node("Unsqueeze", ["is_empty", "axis_1"], ["is_empty_column"]),  # (batch, 1)
    ]
    widths = [layer.weight_hh.shape[1] for layer in weights.layers]
    parts, widest = [f"carried_{number}" for number in range(len(widths))], max(*widths, n_recent)
    for number, layer in enumerate(weights.layers):
        layer_nodes, layer_tensors = _layer(number, layer, widest=widest, is_last=number == len(widths) - 1)
        nodes += layer_nodes
        tensors |= layer_tensors
    if n_recent:
        recent_nodes, recent_tensors = _recent(weights, widest)
        nodes += recent_nodes
        tensors |= recent_tensors
        parts.append("carried_recent")
    nodes += [
        node("Concat", parts, ["hidden"], axis=0),
        node("Squeeze", [f"state_{len(widths) - 1}", "axis_0"], ["session"]),  # (batch, last width)
        *_query(weights.temperature),
        node("Greater", ["k", "zero"], ["is_ranked"]),
        node(
            "If",
            ["is_ranked"],
            ["ids", "scores"],
            then_branch=_ranking(scan, has_recent=n_recent > 0),
            else_branch=_no_ranking(),
        ),
    ]
    tensors |= {
        MINUS_INFINITY: np.array(-np.inf, np.float32),
        "zero": np.array(0, np.int64),
        "axis_0": np.array([0], np.int64),
        "axis_1": np.array([1], np.int64),
        "axes_0_2": np.array([0, 2], np.int64),
    }
    if weights.temperature is not None:
        tensors |= {
            "temperature": np.array(weights.temperature, np.float32),
            "shortest": np.array(SHORTEST_STATE, np.float32),
        }
    return make_graph(nodes, "gru4rec", *_signature(len(parts), widest)), tensors


def _query(temperature: float | None) -> list[onnx.NodeProto]:
    """From the last layer's state to the vector that item rows are multiplied with."""
    if temperature is None:
        return [node("Identity", ["session"], ["query"])]
    return [
        node("ReduceL2", ["session", "axis_1"], ["length"], keepdims=1),  # (batch, 1)
        node("Max", ["length", "shortest"], ["divisor"]),  # the zero state stays zero
        node("Div", ["session", "divisor"], ["direction"]),
        node("Mul", ["direction", "temperature"], ["query"]),
    ]


def _layer(
    number: int, layer: LayerWeights, *, widest: int, is_last: bool
) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """One GRU layer: its part of h0, the recurrence, its state after the last click, the input of the next layer."""
    width = layer.weight_hh.shape[1]
    tensors = {
        f"gru_{number}_W": _onnx_gates(layer.weight_ih)[None],
        f"gru_{number}_R": _onnx_gates(layer.weight_hh)[None],
        f"gru_{number}_B": np.concatenate([_onnx_gates(layer.bias_ih), _onnx_gates(layer.bias_hh)])[None],
        f"from_{number}": np.array([number, 0], np.int64),
        f"to_{number}": np.array([number + 1, width], np.int64),
    }
    weight, recurrence, bias, start, stop = tensors  # their names
    before, after, state, carried = (f"{what}_{number}" for what in ("before", "after", "state", "carried"))
    outputs = "" if is_last else f"outputs_{number}"
    nodes = [
        node("Slice", ["h0", start, stop, "axes_0_2"], [before]),  # (1, batch, width)
        node(
            "GRU",
            [f"input_{number}", weight, recurrence, bias, "lengths_int32", before],
            [outputs, after],
            hidden_size=width,
            linear_before_reset=1,
        ),
        # the GRU gives 0 for an empty row, which has to keep its state
        node("Where", ["is_empty_column", before, after], [state]),
    ]
    if width < widest:
        tensors[f"padding_{number}"] = np.array([0, 0, 0, 0, 0, widest - width], np.int64)
        nodes.append(node("Pad", [state, f"padding_{number}"], [carried]))  # (1, batch, widest)
    else:
        nodes.append(node("Identity", [state], [carried]))
    if not is_last:
        nodes.append(node("Squeeze", [outputs, "axis_1"], [f"input_{number + 1}"]))  # (time, batch, width)
    return nodes, tensors


def _recent(weights: ScoringWeights, widest: int) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """The items of the last K clicks, the current one last: read from h0, shifted by the new clicks, and stored again.

    The state holds an item as its number plus 1, so that zeros are a session without clicks; elsewhere a missing click
    is one on the sentinel.
    """
    n_recent, n_items = len(weights.recent_bias), len(weights.output_table)
    tensors = {
        RECENT_WEIGHT: weights.recent_weight[::-1],
        RECENT_BIAS: weights.recent_bias[::-1],
        "from_recent": np.array([len(weights.layers), 0], np.int64),
        "to_recent": np.array([len(weights.layers) + 1, n_recent], np.int64),
        "recent_places": np.arange(n_recent, dtype=np.int64)[None],
        "n_numbers": np.array(n_items + 1, np.int64),
        "last_number": np.array(n_items, np.int64),
        "one": np.array(1, np.int64),
        "padding_recent": np.array([0, 0, 0, 0, 0, widest - n_recent], np.int64),
    }
    nodes = [
        node("Slice", ["h0", "from_recent", "to_recent", "axes_0_2"], ["stored_before_3d"]),
        node("Squeeze", ["stored_before_3d", "axis_0"], ["stored_before_floats"]),  # (batch, K)
        node("Cast", ["stored_before_floats"], ["stored_before"], to=TensorProto.INT64),
        node("Add", ["stored_before", "last_number"], ["shifted_before"]),
        node("Mod", ["shifted_before", "n_numbers"], ["recent_before"]),
        node("Concat", ["recent_before", "items"], ["clicks"], axis=1),
        node("Unsqueeze", ["lengths", "axis_1"], ["lengths_column"]),
        node("Add", ["lengths_column", "recent_places"], ["last_places"]),
        node("GatherElements", ["clicks", "last_places"], ["recent"], axis=1),  # (batch, K)
        node("Add", ["recent", "one"], ["shifted_recent"]),
        node("Mod", ["shifted_recent", "n_numbers"], ["stored"]),
        node("Cast", ["stored"], ["stored_floats"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["stored_floats", "axis_0"], ["stored_3d"]),
        node("Pad", ["stored_3d", "padding_recent"], ["carried_recent"]),
    ]
    return nodes, tensors


def _ranking(scan: Scan | None, *, has_recent: bool) -> onnx.GraphProto:
    nodes = _exact_ranking(has_recent) if scan is None else ranking_nodes(has_recent)
    if has_recent:
        nodes.insert(0, node("Gemm", ["session", RECENT_WEIGHT, RECENT_BIAS], ["bonus"], transB=1))
    return make_graph(nodes, "ranking", [], _rankings("ranked_ids", "ranked_scores"))


def _exact_ranking(has_recent: bool) -> list[onnx.NodeProto]:
    products = "products" if has_recent else "all_scores"
    adding = [node("ScatterElements", [products, "recent", "bonus"], ["all_scores"], axis=1, reduction="add")]
    return [
        node("Gemm", ["query", OUTPUT_WEIGHT, OUTPUT_BIAS], [products], transB=1),  # (batch, N + 1)
        *(adding if has_recent else []),
        node("Shape", ["exclude"], ["exclude_shape"]),
        node("Expand", [MINUS_INFINITY, "exclude_shape"], ["exclude_scores"]),
        node("ScatterElements", ["all_scores", "exclude", "exclude_scores"], ["open_scores"], axis=1),
        node("TopK", ["open_scores", "k"], ["ranked_scores", "ranked_ids"], axis=1),  # (batch, k)
    ]


def _no_ranking() -> onnx.GraphProto:
    no_id = make_tensor("no_id", TensorProto.INT64, [1], [0])
    nodes = [
        node("Shape", ["lengths"], ["batch_size"]),
        node("Concat", ["batch_size", "axis_0"], ["empty_shape"], axis=0),  # (batch, 0)
        node("ConstantOfShape", ["empty_shape"], ["no_ids"], value=no_id),
        node("ConstantOfShape", ["empty_shape"], ["no_scores"]),
    ]
    return make_graph(nodes, "no_ranking", [], _rankings("no_ids", "no_scores"))


def _rankings(ids: str, scores: str) -> list[onnx.ValueInfoProto]:
    value = make_tensor_value_info
    return [value(ids, TensorProto.INT64, ["batch", "top_k"]), value(scores, TensorProto.FLOAT, ["batch", "top_k"])]


def _signature(n_layers: int, widest: int) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    value = make_tensor_value_info
    state = [n_layers, "batch", widest]
    inputs = [
        value("items", TensorProto.INT64, ["batch", "time"]),
        value("lengths", TensorProto.INT64, ["batch"]),
        value("h0", TensorProto.FLOAT, state),
        value("exclude", TensorProto.INT64, ["batch", "n_exclude"]),
        value("k", TensorProto.INT64, [1]),
    ]
    return inputs, [*_rankings("ids", "scores"), value("hidden", TensorProto.FLOAT, state)]


def _with_sentinel(table: np.ndarray, value: float) -> np.ndarray:
    extended = np.empty((len(table) + 1, *table.shape[1:]), np.float32)
    extended[:-1] = table
    extended[-1] = value
    return extended


def _onnx_gates(rows: np.ndarray) -> Any:
    reset, update, new = np.split(rows, 3)  # torch: r, z, n
    return np.concatenate([update, reset, new])  # ONNX: z, r, h
