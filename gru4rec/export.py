"""A trained network as one self-contained ONNX file.

The graph is built by hand from the weights instead of traced: tracing freezes the time axis or scatters the GRU over
dozens of nodes, while written down it is Gather → GRU → Gemm → ScatterElements → TopK with a little glue, and one
graph serves whole sessions and single clicks with a carried state. Beside the graph the file holds the vocabulary,
digests, the training configuration and its metrics; `inference/FORMAT.md` describes it.

Two conventions meet here. torch.nn.GRUCell orders its gates r, z, n, ONNX z, r, h (h being torch's n); both are of the
reset-after kind, which ONNX calls linear_before_reset=1. And row N of the tables is a sentinel (embedding 0, output
weights 0, bias −inf): padding for items and exclusions that can never be recommended.

Nothing is taken on trust: the written file is run in onnxruntime against the network before it gets its name.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gru4rec.model import LayerWeights, Network, ScoringWeights
from gru4rec.parity import Parity, check_parity
from inference.artifact import FORMAT_VERSION, MINUS_INFINITY, OUTPUT_BIAS, OUTPUT_WEIGHT, Artifact
from inference.atomic import written_file
from inference.errors import UserError
from inference.vocabulary import Vocabulary

OPSET = 20  # the GRU of opset 22 has no CUDA kernel in onnxruntime
IR_VERSION = 10
SCORE_ACTIVATION = "linear"


def export(
    network: Network,
    vocabulary: Vocabulary,
    path: str | Path,
    *,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> Parity:
    """Write a network as an ONNX file, after having compared that very file with the network.

    Args:
        network: the trained network; its scoring weights are taken as they are.
        vocabulary: the N items that its rows stand for.
        path: where the file goes; an existing one is replaced.
        config: the training configuration; JSON values.
        metrics: figures to keep with the model, such as {"recall@20": …}; JSON values.

    Returns:
        The largest differences that the comparison saw.

    Raises:
        UserError: weights that are not finite or do not fit each other or the vocabulary, a graph too large for one
            file, a result that differs from the network's, or a place that cannot be written; nothing is left behind.
    """
    model = build_graph(network.scoring_weights(), vocabulary, config=config, metrics=metrics)
    with written_file(path) as temporary:
        with open(temporary, "wb") as file:
            file.write(_serialised(model))
        del model
        artifact = Artifact.open(temporary)
        artifact.verify()
        return check_parity(
            artifact.session(),
            network.score,
            n_items=len(vocabulary),
            state_shape=(len(network.widths), max(network.widths)),
            device=network.dense.device,
        )


def build_graph(
    weights: ScoringWeights, vocabulary: Vocabulary, *, config: Mapping[str, Any], metrics: Mapping[str, Any]
) -> onnx.ModelProto:
    """The ONNX model of a network's weights, metadata included.

    Args:
        weights: tables [N, E] and [N, last width], bias [N], and the GRU layers.
        vocabulary: the N items.
        config: the training configuration; JSON values.
        metrics: figures to keep with the model; JSON values.

    Raises:
        UserError: weights that are not finite or do not fit each other or the vocabulary.
    """
    _check_weights(weights, vocabulary)
    widths = [layer.weight_hh.shape[1] for layer in weights.layers]
    constrained = weights.input_table is weights.output_table
    tensors = [
        _tensor(OUTPUT_WEIGHT, _with_sentinel(weights.output_table, 0.0)),
        _tensor(OUTPUT_BIAS, _with_sentinel(weights.output_bias, -np.inf)),
        _tensor(MINUS_INFINITY, np.float32(-np.inf)),
        _tensor("zero", np.int64(0)),
        _tensor("axis_0", np.array([0], np.int64)),
        _tensor("axis_1", np.array([1], np.int64)),
        _tensor("axes_0_2", np.array([0, 2], np.int64)),
    ]
    input_table = OUTPUT_WEIGHT
    if not constrained:
        input_table = "input_embedding"
        tensors.append(_tensor(input_table, _with_sentinel(weights.input_table, 0.0)))
    node = helper.make_node
    nodes = [
        node("Transpose", ["items"], ["items_by_time"], perm=[1, 0]),  # (time, batch)
        node("Gather", [input_table, "items_by_time"], ["input_0"], axis=0),  # (time, batch, E)
        node("Cast", ["lengths"], ["lengths_int32"], to=TensorProto.INT32),
        node("Equal", ["lengths", "zero"], ["is_empty"]),
        node("Unsqueeze", ["is_empty", "axis_1"], ["is_empty_column"]),  # (batch, 1)
    ]
    for number, layer in enumerate(weights.layers):
        layer_nodes, layer_tensors = _layer(number, layer, widest=max(widths), is_last=number == len(widths) - 1)
        nodes += layer_nodes
        tensors += layer_tensors
    nodes += [
        node("Concat", [f"carried_{number}" for number in range(len(widths))], ["hidden"], axis=0),
        node("Squeeze", [f"state_{len(widths) - 1}", "axis_0"], ["session"]),  # (batch, last width)
        node("Gemm", ["session", OUTPUT_WEIGHT, OUTPUT_BIAS], ["all_scores"], transB=1),  # (batch, N + 1)
        node("Shape", ["exclude"], ["exclude_shape"]),
        node("Expand", [MINUS_INFINITY, "exclude_shape"], ["exclude_scores"]),
        node("ScatterElements", ["all_scores", "exclude", "exclude_scores"], ["open_scores"], axis=1),
        node("TopK", ["open_scores", "k"], ["scores", "ids"], axis=1),  # (batch, k)
    ]
    graph = helper.make_graph(nodes, "gru4rec", *_signature(len(widths), max(widths)))
    description = _metadata(weights, vocabulary, config, metrics)
    description["graph_sha256"] = hashlib.sha256(graph.SerializeToString()).hexdigest()  # as yet without its tensors
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.raw_data)
    description["weights_sha256"] = digest.hexdigest()
    graph.initializer.extend(tensors)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="gru4rec",
        producer_version=_version(),
    )
    helper.set_model_props(model, description)
    return model


def _check_weights(weights: ScoringWeights, vocabulary: Vocabulary) -> None:
    named = [("input embedding", weights.input_table), ("output weights", weights.output_table)]
    named.append(("output bias", weights.output_bias))
    for number, layer in enumerate(weights.layers):
        named += [(f"{name} of GRU layer {number}", values) for name, values in vars(layer).items()]
    for name, values in named:
        if not np.isfinite(values).all():
            count = int(values.size - np.isfinite(values).sum())
            raise UserError(
                f"cannot export: {count} of {values.size} values of the {name} are NaN or infinite; the training "
                "diverged, try a lower learning rate"
            )
    for table in (weights.input_table, weights.output_table, weights.output_bias):
        if len(table) != len(vocabulary):
            raise UserError(f"cannot export: expected {len(vocabulary)} rows, one per item, got {len(table)}")
    if not len(vocabulary):
        raise UserError("cannot export: the vocabulary is empty")


def _with_sentinel(table: np.ndarray, value: float) -> np.ndarray:
    extended = np.empty((len(table) + 1, *table.shape[1:]), np.float32)
    extended[:-1] = table
    extended[-1] = value
    return extended


def _tensor(name: str, values: Any) -> TensorProto:
    return numpy_helper.from_array(np.asarray(values), name)


def _onnx_gates(rows: np.ndarray) -> np.ndarray:
    reset, update, new = np.split(rows, 3)  # torch: r, z, n
    return np.concatenate([update, reset, new])  # ONNX: z, r, h


def _layer(
    number: int, layer: LayerWeights, *, widest: int, is_last: bool
) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """One GRU layer: its part of h0, the recurrence, its state after the click, and the input of the next layer."""
    width = layer.weight_hh.shape[1]
    named = {
        f"gru_{number}_W": _onnx_gates(layer.weight_ih)[None],
        f"gru_{number}_R": _onnx_gates(layer.weight_hh)[None],
        f"gru_{number}_B": np.concatenate([_onnx_gates(layer.bias_ih), _onnx_gates(layer.bias_hh)])[None],
        f"from_{number}": np.array([number, 0], np.int64),
        f"to_{number}": np.array([number + 1, width], np.int64),
    }
    weight, recurrence, bias, start, stop = named
    before, after, state, carried = (f"{what}_{number}" for what in ("before", "after", "state", "carried"))
    outputs = "" if is_last else f"outputs_{number}"
    node = helper.make_node
    nodes = [
        node("Slice", ["h0", start, stop, "axes_0_2"], [before]),  # (1, batch, width)
        node(
            "GRU",
            [f"input_{number}", weight, recurrence, bias, "lengths_int32", before],
            [outputs, after],
            hidden_size=width,
            linear_before_reset=1,
        ),
        # for an empty row the GRU gives 0, where the state has to stay as it was
        node("Where", ["is_empty_column", before, after], [state]),
    ]
    if width < widest:
        named[f"padding_{number}"] = np.array([0, 0, 0, 0, 0, widest - width], np.int64)
        nodes.append(node("Pad", [state, f"padding_{number}"], [carried]))  # (1, batch, widest)
    else:
        nodes.append(node("Identity", [state], [carried]))
    if not is_last:
        nodes.append(node("Squeeze", [outputs, "axis_1"], [f"input_{number + 1}"]))  # (time, batch, width)
    return nodes, [_tensor(name, values) for name, values in named.items()]


def _signature(n_layers: int, widest: int) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    value = helper.make_tensor_value_info
    inputs = [
        value("items", TensorProto.INT64, ["batch", "time"]),
        value("lengths", TensorProto.INT64, ["batch"]),
        value("h0", TensorProto.FLOAT, [n_layers, "batch", widest]),
        value("exclude", TensorProto.INT64, ["batch", "n_exclude"]),
        value("k", TensorProto.INT64, [1]),
    ]
    outputs = [
        value("ids", TensorProto.INT64, ["batch", "top_k"]),
        value("scores", TensorProto.FLOAT, ["batch", "top_k"]),
        value("hidden", TensorProto.FLOAT, [n_layers, "batch", widest]),
    ]
    return inputs, outputs


def _version() -> str:
    return importlib.metadata.version("gru4rec")


def _metadata(
    weights: ScoringWeights, vocabulary: Vocabulary, config: Mapping[str, Any], metrics: Mapping[str, Any]
) -> dict[str, str]:
    widths = [layer.weight_hh.shape[1] for layer in weights.layers]
    return {
        "format_version": str(FORMAT_VERSION),
        "exporter": f"gru4rec {_version()}",
        "n_items": str(len(vocabulary)),
        "num_layers": str(len(widths)),
        "hidden_size": str(max(widths)),
        "layer_widths": ",".join(map(str, widths)),
        "score_activation": SCORE_ACTIVATION,
        "config": _json("config", config),
        "metrics": _json("metrics", metrics),
        "vocab": vocabulary.to_text(),
        "vocab_sha256": vocabulary.sha256(),
    }


def _json(what: str, values: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(values), ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"cannot export: expected a {what} of JSON values, got {error}") from error


def _serialised(model: onnx.ModelProto) -> bytes:
    size = model.ByteSize()
    if size >= 2**31:
        raise UserError(f"cannot export: the model takes {size / 2**30:.1f} GiB, one file can hold 2 GiB at most")
    content: bytes = model.SerializeToString()
    return content
