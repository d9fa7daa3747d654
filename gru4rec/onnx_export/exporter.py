"""A trained network as a self-contained ONNX file.

Next to the scoring graph the file holds the vocabulary, digests, the training configuration and its metrics;
`inference/FORMAT.md` describes it. The written file is run in onnxruntime and compared with the network before it gets
its name.

A protocol-buffer file is limited to 2 GiB. Weights of larger models go into a second file next to the first. Its name
contains part of their digest, so it never replaces the weights of another model, and the two files need not appear at
the same instant: the weights are written first, and are found only through the model file.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from gru4rec.model.network import Network, ScoringWeights
from gru4rec.onnx_export.graph import scoring_graph
from gru4rec.onnx_export.int8_scan import Scan, quantize
from gru4rec.onnx_export.onnx_writer import draft_model
from gru4rec.onnx_export.parity import check_parity
from gru4rec.onnx_export.scan_report import ScanReport, compare, final_states, take_evenly
from inference.model.artifact import Artifact
from inference.model.format import FORMAT_VERSION
from inference.model.scorer import Scorer
from inference.shared.atomic import output_lock, write_errors
from inference.shared.errors import UserError
from inference.shared.vocabulary import Vocabulary

LARGEST_CATALOGUE = 1 << 24
"""The state holds recent items as float32 numbers, which are exact below this."""


def export(
    network: Network,
    vocabulary: Vocabulary,
    path: str | Path,
    *,
    config: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> float:
    """Write a network as an ONNX file, and compare that very file with the network before it gets its name.

    Args:
        network: the trained network.
        vocabulary: the N items of its rows.
        path: the file; an existing one is replaced. Weights that do not fit into it go into a second file next to it.
        config: the training configuration; JSON values.
        metrics: figures to keep with the model, such as {"recall@20": …}; JSON values, NaN becomes null.

    Returns:
        The largest difference between file and network: of scores, relative to the largest score or 1, and of states.

    Raises:
        UserError: weights are not finite or do not match the vocabulary, the file computes something else than the
            network, or it cannot be written. Nothing is left behind.
    """
    parts = model_parts(network.scoring_weights(), vocabulary, config or {}, metrics or {})
    with write_errors(path), output_lock(path) as path, draft_model(path, *parts) as (draft, _):
        return check_parity(_open(draft).create_session(), network)


def export_with_scan(
    network: Network,
    vocabulary: Vocabulary,
    path: str | Path,
    *,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    calibration: Sequence[np.ndarray],
) -> ScanReport:
    """Write a network as an ONNX file that scans a large catalogue in 8 bits and scores only the best items exactly.

    Args:
        network, vocabulary, path, config, metrics: as for `export`.
        calibration: item numbers of each of some real sessions. Rounding is fitted to one half of them; on the other
            half, the recommendations are compared with those of the exact graph.

    Returns:
        How well they agree, and how long both graphs take.

    Raises:
        UserError: as for `export`, and if there is no session or too little agreement. Nothing is left behind.
    """
    if not len(calibration):
        raise UserError("cannot export with --scan int8: expected sessions with items that the model knows, got none")
    sessions = take_evenly(calibration)
    fitting, test = sessions[::2], sessions[1::2] or sessions
    with (
        write_errors(path),
        output_lock(path) as path,
        tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".partial", dir=path.parent) as folder,
    ):
        exact_path = Path(folder) / "exact.onnx"
        export(network, vocabulary, exact_path, config=config, metrics=metrics)
        artifact = Artifact(exact_path)
        exact = Scorer(artifact, artifact.create_session())
        queries = artifact.query(final_states(exact, fitting))
        weights = network.scoring_weights()
        scan = quantize(weights.output_table, weights.output_bias, float(np.abs(queries).max()))
        graph, tensors, properties = model_parts(weights, vocabulary, config, metrics, scan)
        properties["scan"] = json.dumps({"kind": "int8"})
        with draft_model(path, graph, tensors, properties) as (draft, rewrite):
            report = _compare_with_exact(draft, exact, network, test)
            found = {"sessions": report.sessions, f"agreement@{report.ranks}": report.agreement}
            rewrite(properties | {"scan": json.dumps({"kind": "int8"} | found)})
    return report


def _open(path: Path) -> Artifact:
    artifact = Artifact(path)
    artifact.verify()
    return artifact


def _compare_with_exact(draft: Path, exact: Scorer, network: Network, sessions: Sequence[np.ndarray]) -> ScanReport:
    """Run a scanning graph; it is closed again at the end, so that its file can be written again."""
    artifact = _open(draft)
    check_parity(artifact.create_session(), network, every_rank=False)
    return compare(exact, Scorer(artifact, artifact.create_session()), sessions, artifact.n_items)


def model_parts(
    weights: ScoringWeights,
    vocabulary: Vocabulary,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    scan: Scan | None = None,
) -> tuple[onnx.GraphProto, dict[str, np.ndarray], dict[str, str]]:
    """The graph without its constants, the constants by name, and the metadata.

    Args:
        weights: tables [N, E] and [N, last width], bias [N], and the GRU layers.
        vocabulary: the N items.
        config: the training configuration; JSON values.
        metrics: figures to keep with the model; JSON values.
        scan: the rounded output table; None scores every item exactly.

    Raises:
        UserError: weights are not finite or do not match the vocabulary.
    """
    _check_weights(weights, vocabulary)
    graph, tensors = scoring_graph(weights, scan)
    n_recent = len(weights.recent_bias)
    widths = [layer.weight_hh.shape[1] for layer in weights.layers]
    digest = hashlib.sha256()
    for values in tensors.values():
        digest.update(np.ascontiguousarray(values).data)
    metadata = {
        "format_version": str(FORMAT_VERSION),
        "exporter": f"gru4rec {version('gru4rec')}",
        "n_items": str(len(vocabulary)),
        "num_layers": str(len(widths) + bool(n_recent)),
        "hidden_size": str(max(*widths, n_recent)),
        "layer_widths": ",".join(map(str, widths)),
        **({"n_recent": str(n_recent)} if n_recent else {}),
        "score_activation": "linear",
        **({} if weights.temperature is None else {"temperature": str(weights.temperature)}),
        "config": _to_json(config),
        "metrics": _to_json(metrics),
        "vocab": vocabulary.to_text(),
        "vocab_sha256": vocabulary.sha256(),
        "weights_sha256": digest.hexdigest(),
        "graph_sha256": hashlib.sha256(graph.SerializeToString()).hexdigest(),
    }
    return graph, tensors, metadata


def _check_weights(weights: ScoringWeights, vocabulary: Vocabulary) -> None:
    for part in (weights, *weights.layers):
        for name, values in vars(part).items():
            n_bad = int((~np.isfinite(values)).sum()) if isinstance(values, np.ndarray) else 0
            if n_bad:
                raise UserError(
                    f"cannot export: {n_bad} of {values.size} values of {name} are NaN or infinite; the training "
                    "diverged, try a lower learning rate"
                )
    if len(weights.recent_bias) and len(vocabulary) >= LARGEST_CATALOGUE:
        raise UserError(
            f"cannot export: with n_recent, expected fewer than {LARGEST_CATALOGUE:,} items, got {len(vocabulary):,}; "
            "train with n_recent = 0"
        )
    for table in (weights.input_table, weights.output_table, weights.output_bias):
        if len(table) != len(vocabulary):
            raise UserError(f"cannot export: expected {len(vocabulary)} rows, one per item, got {len(table)}")


def _to_json(values: Mapping[str, Any]) -> str:
    finite = json.loads(json.dumps(dict(values)), parse_constant=lambda _: None)  # JSON has no NaN
    return json.dumps(finite, ensure_ascii=False)
