"""A trained network as a self-contained ONNX file.

Beside the scoring graph the file holds the vocabulary, digests, the training configuration and its metrics;
`inference/FORMAT.md` describes it. Nothing is taken on trust: the written file is run in onnxruntime against the
network before it gets its name.

A protocol-buffer file ends at 2 GiB. The weights of larger models go into a second file beside the first. Its name
holds a part of their digest, so it never replaces the weights of another model, and the two files need not appear at
the same instant: the weights come first, and are found only through the model file.
"""

import glob
import hashlib
import importlib.metadata
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gru4rec.int8_scan import quantised
from gru4rec.model import Network, ScoringWeights
from gru4rec.parity import Parity, check_parity
from gru4rec.scan_report import ScanReport, compared, spread, states_after
from gru4rec.scoring_graph import scoring_graph
from inference.artifact import FORMAT_VERSION, RECENT_BIAS, Artifact
from inference.atomic import behind_links, only_writer, replaced_file, written_file
from inference.errors import UserError
from inference.scorer import Scorer
from inference.vocabulary import Vocabulary

OPSET = 20  # the GRU of opset 22 has no CUDA kernel in onnxruntime
IR_VERSION = 10
SCORE_ACTIVATION = "linear"
LARGEST_FILE = (1 << 31) - (1 << 20)
"""Bytes of weights and metadata that fit into one file, with room for its nodes."""
ALIGNMENT = 1 << 16
"""Weights in a second file begin at multiples of this, so that they can be mapped into memory on any system."""
SMALLEST_OUTSIDE = 1 << 10
"""Constants of fewer bytes stay in the model file: runtimes want to see shapes and axes while they load."""
LARGEST_CATALOGUE = 1 << 24
"""Recent items are numbers in the float32 state, which is exact below this."""


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
        path: where the file goes; an existing one is replaced. Weights that do not fit into it go beside it.
        config: the training configuration; JSON values.
        metrics: figures to keep with the model, such as {"recall@20": …}; JSON values, NaN becoming null.

    Returns:
        The largest differences that the comparison saw.

    Raises:
        UserError: weights that are not finite or do not fit each other or the vocabulary, a result that differs from
            the network's, or a place that cannot be written; nothing is left behind.
    """
    graph, tensors = scoring_graph(_checked(network.scoring_weights(), vocabulary))
    properties = _metadata(graph, tensors, vocabulary, config, metrics)
    with only_writer(path), _unfinished(Path(path), graph, tensors, properties) as file:
        return _compared(_opened(file.temporary), network)


def export_with_scan(
    network: Network,
    vocabulary: Vocabulary,
    path: str | Path,
    *,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    calibration: Sequence[np.ndarray],
) -> ScanReport:
    """Write a network as an ONNX file that scans a large catalogue in 8 bits before it scores the best items exactly.

    Args:
        network, vocabulary, path, config, metrics: as for `export`.
        calibration: item numbers of each of some real sessions. From one half of them rounding is fitted, the answers
            to the other half are compared with those of the exact graph.

    Returns:
        How well they agree and how long both graphs take.

    Raises:
        UserError: as for `export`, no session, or too little agreement; nothing is left behind.
    """
    if not len(calibration):
        raise UserError("cannot export with --scan int8: expected sessions with items that the model knows, got none")
    path = Path(path)
    sessions = spread(calibration)
    fitted_on, measured_on = sessions[::2], sessions[1::2] or sessions
    with only_writer(path), _folder_beside(path) as folder:
        export(network, vocabulary, folder / "exact.onnx", config=config, metrics=metrics)
        artifact = Artifact.open(folder / "exact.onnx")
        exact = Scorer(artifact, artifact.session())
        queries = artifact.query(states_after(exact, fitted_on))
        weights = network.scoring_weights()
        scan = quantised(weights.output_table, weights.output_bias, float(np.abs(queries).max()))
        graph, tensors = scoring_graph(weights, scan)
        properties = _metadata(graph, tensors, vocabulary, config, metrics)
        with _unfinished(path, graph, tensors, properties | {"scan": _json("scan", {"kind": "int8"})}) as file:
            report = _compared_with_exact(exact, _opened(file.temporary), network, measured_on)
            file.write(properties | {"scan": _json("scan", {"kind": "int8", **report.as_dict()})})
    return report


def _compared_with_exact(
    exact: Scorer, artifact: Artifact, network: Network, sessions: Sequence[np.ndarray]
) -> ScanReport:
    _compared(artifact, network, every_rank=False)
    report = compared(exact, Scorer(artifact, artifact.session()), sessions, artifact.n_items)
    report.check()
    return report


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".partial", dir=path.parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


@dataclass(frozen=True)
class _Unfinished:
    """A model file that does not have its name yet; its large weights may be in a second file, finished."""

    temporary: Path
    graph: onnx.GraphProto
    tensors: Mapping[str, np.ndarray]
    outside: str | None

    def write(self, properties: Mapping[str, str]) -> None:
        """Write it, or write it again with other metadata."""
        content = _model(self.graph, self.tensors, properties, self.outside).SerializeToString()
        self.temporary.write_bytes(content)


@contextmanager
def _unfinished(
    path: Path, graph: onnx.GraphProto, tensors: Mapping[str, np.ndarray], properties: Mapping[str, str]
) -> Iterator[_Unfinished]:
    """Yield the written file; when the block ends without an error, it becomes `path`, whose `only_writer` we are."""
    path = behind_links(path)  # so that a second file of weights lies beside the first
    n_bytes = sum(values.nbytes for values in tensors.values()) + sum(
        len(text.encode()) for text in properties.values()
    )
    outside = f"{path.name}.{properties['weights_sha256'][:16]}.data" if n_bytes > LARGEST_FILE else None
    with _weights_beside(path, outside, tensors), replaced_file(path) as temporary:
        file = _Unfinished(temporary, graph, tensors, outside)
        file.write(properties)
        yield file
    for other in path.parent.glob(f"{glob.escape(path.name)}.{'[0-9a-f]' * 16}.data"):
        if other.name != outside:
            other.unlink()  # of the model that was here before


def _opened(path: Path) -> Artifact:
    artifact = Artifact.open(path)
    artifact.verify()
    return artifact


def _compared(artifact: Artifact, network: Network, *, every_rank: bool = True) -> Parity:
    return check_parity(
        artifact.session(),
        network.score,
        n_items=artifact.n_items,
        state_shape=network.state_shape,
        device=network.dense.device,
        every_rank=every_rank,
    )


def build_graph(
    weights: ScoringWeights, vocabulary: Vocabulary, *, config: Mapping[str, Any], metrics: Mapping[str, Any]
) -> onnx.ModelProto:
    """The ONNX model of a network's weights, metadata included, all in one message.

    Args:
        weights: tables [N, E] and [N, last width], bias [N], and the GRU layers.
        vocabulary: the N items.
        config: the training configuration; JSON values.
        metrics: figures to keep with the model; JSON values.

    Raises:
        UserError: weights that are not finite or do not fit each other or the vocabulary.
    """
    graph, tensors = scoring_graph(_checked(weights, vocabulary))
    return _model(graph, tensors, _metadata(graph, tensors, vocabulary, config, metrics), None)


def _checked(weights: ScoringWeights, vocabulary: Vocabulary) -> ScoringWeights:
    named = [
        ("input embedding", weights.input_table),
        ("output weights", weights.output_table),
        ("output bias", weights.output_bias),
        ("weights of recent clicks", weights.recent_weight),
        ("biases of recent clicks", weights.recent_bias),
    ]
    for number, layer in enumerate(weights.layers):
        named += [(f"{name} of GRU layer {number}", values) for name, values in vars(layer).items()]
    for name, values in named:
        n_bad = int(values.size - np.isfinite(values).sum())
        if n_bad:
            raise UserError(
                f"cannot export: {n_bad} of {values.size} values of the {name} are NaN or infinite; the training "
                "diverged, try a lower learning rate"
            )
    if not len(vocabulary):
        raise UserError("cannot export: the vocabulary is empty")
    if len(weights.recent_bias) and len(vocabulary) >= LARGEST_CATALOGUE:
        raise UserError(
            f"cannot export: with n_recent, expected fewer than {LARGEST_CATALOGUE:,} items, got {len(vocabulary):,}; "
            "train with n_recent = 0"
        )
    for table in (weights.input_table, weights.output_table, weights.output_bias):
        if len(table) != len(vocabulary):
            raise UserError(f"cannot export: expected {len(vocabulary)} rows, one per item, got {len(table)}")
    return weights


def _metadata(
    graph: onnx.GraphProto,
    tensors: Mapping[str, np.ndarray],
    vocabulary: Vocabulary,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> dict[str, str]:
    """Everything that describes the model; `graph` is still without its constants."""
    n_parts, _, hidden_size = (size.dim_value for size in graph.output[-1].type.tensor_type.shape.dim)
    n_recent = len(tensors[RECENT_BIAS]) if RECENT_BIAS in tensors else 0
    widths = [tensors[f"gru_{number}_R"].shape[-1] for number in range(n_parts - bool(n_recent))]
    weights = hashlib.sha256()
    for values in tensors.values():
        weights.update(np.ascontiguousarray(values).data)
    return {
        "format_version": str(FORMAT_VERSION),
        "exporter": f"gru4rec {_version()}",
        "n_items": str(len(vocabulary)),
        "num_layers": str(n_parts),
        "hidden_size": str(hidden_size),
        "layer_widths": ",".join(map(str, widths)),
        **({"n_recent": str(n_recent)} if n_recent else {}),
        "score_activation": SCORE_ACTIVATION,
        **({"temperature": str(float(tensors["temperature"]))} if "temperature" in tensors else {}),
        "config": _json("config", config),
        "metrics": _json("metrics", metrics),
        "vocab": vocabulary.to_text(),
        "vocab_sha256": vocabulary.sha256(),
        "weights_sha256": weights.hexdigest(),
        "graph_sha256": hashlib.sha256(graph.SerializeToString()).hexdigest(),
    }


def _json(what: str, values: Mapping[str, Any]) -> str:
    try:
        finite = json.loads(json.dumps(dict(values)), parse_constant=lambda _: None)  # JSON has no NaN
        return json.dumps(finite, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"cannot export: expected a {what} of JSON values, got {error}") from error


def _model(
    graph: onnx.GraphProto, tensors: Mapping[str, np.ndarray], properties: Mapping[str, str], outside: str | None
) -> onnx.ModelProto:
    complete = onnx.GraphProto()
    complete.CopyFrom(graph)
    places = _places(tensors) if outside else {}
    for name, values in tensors.items():
        if name in places:
            complete.initializer.append(_stored_outside(name, values, str(outside), places[name]))
        else:
            complete.initializer.append(numpy_helper.from_array(values, name))
    model = helper.make_model(
        complete,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="gru4rec",
        producer_version=_version(),
    )
    helper.set_model_props(model, dict(properties))
    return model


def _version() -> str:
    return importlib.metadata.version("gru4rec")


def _places(tensors: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Where each constant that is stored outside begins in its file, in bytes."""
    places, end = {}, 0
    for name, values in tensors.items():
        if values.nbytes >= SMALLEST_OUTSIDE:
            places[name] = -(-end // ALIGNMENT) * ALIGNMENT
            end = places[name] + values.nbytes
    return places


def _stored_outside(name: str, values: np.ndarray, location: str, place: int) -> TensorProto:
    tensor = TensorProto(name=name, dims=values.shape, data_type=helper.np_dtype_to_tensor_dtype(values.dtype))
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", place), ("length", values.nbytes)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


@contextmanager
def _weights_beside(model: Path, outside: str | None, tensors: Mapping[str, np.ndarray]) -> Iterator[None]:
    """Have the weights in their own file while the block runs, and afterwards unless it fails."""
    if outside is None:
        yield
        return
    path = model.parent / outside
    is_new = not path.exists()  # else the same weights were exported here before
    with written_file(path) as temporary, open(temporary, "wb") as file:
        _write_weights(file, tensors)
    try:
        yield
    except BaseException:
        if is_new:
            path.unlink(missing_ok=True)
        raise


def _write_weights(file: BinaryIO, tensors: Mapping[str, np.ndarray]) -> None:
    for name, place in _places(tensors).items():
        file.write(b"\0" * (place - file.tell()))
        file.write(np.ascontiguousarray(tensors[name]).data)
