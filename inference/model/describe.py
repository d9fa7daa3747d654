"""What a model file holds and what can run it here, as pairs of a name and a value."""

import json
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from inference.model.artifact import Artifact
from inference.model.format import FORMAT_VERSION
from inference.shared.errors import UserError
from inference.shared.system import count_cores

CPU_FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "sve", "i8mm")
"""Instructions that make matrix products fast."""

LONGEST_VALUE = 160
MATCHING_DIGESTS = "the vocabulary, the graph and the weights match their digests"
INSTALLATION_CONFLICT = "onnxruntime and onnxruntime-gpu overwrite each other: uninstall both, then install one"


def describe(artifact: Artifact, threads: int | None = None, verified: bool = False) -> dict[str, Any]:
    """A model file and its environment as JSON values; a provider "runs" if a session of this model started on it.

    Args:
        artifact: the model file.
        threads: as asked for; None for one per core.
        verified: whether `Artifact.verify` has passed.
    """
    versions = {name: _find_version(name) for name in ("gru4rec", "onnxruntime", "onnxruntime-gpu")}
    return {
        "model": str(artifact.path),
        "bytes": artifact.path.stat().st_size,
        "bytes_of_weights": sum(len(tensor.raw) for tensor in artifact.file.tensors.values()),
        "format_version": FORMAT_VERSION,
        "exporter": artifact.exporter,
        "items": artifact.n_items,
        "layer_widths": list(artifact.layer_widths),
        "recent_clicks": artifact.n_recent,
        "score_activation": artifact.score_activation,
        "score": "dot product" if artifact.temperature is None else f"cosine × {artifact.temperature:g}",
        "scan": "none, every item is scored" if artifact.scan is None else dict(artifact.scan),
        "config": dict(artifact.config),
        "metrics": dict(artifact.metrics),
        **artifact.digests(),
        **({"verified": MATCHING_DIGESTS} if verified else {}),
        **versions,
        **({"warning": INSTALLATION_CONFLICT} if versions["onnxruntime"] and versions["onnxruntime-gpu"] else {}),
        "threads": threads or count_cores(),
        "provider_cpu": _try_provider(artifact, "cpu"),
        "provider_cuda": _try_provider(artifact, "cuda"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu_features": _cpu_features(),
        "cores": count_cores(),
    }


def format_text(values: dict[str, Any]) -> str:
    """The pairs as lines, with the names in one column and nested ones indented.

    >>> print(format_text({"items": 3, "config": {"loss": "bpr-max"}}), end="")
    items   3
    config
      loss  bpr-max
    """
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += [(name, ""), *((f"  {inner}", _format_value(nested)) for inner, nested in value.items())]
        else:
            rows.append((name, _format_value(value)))
    width = max(len(name) for name, _ in rows) + 2
    return "".join(f"{name:{width}}{text}".rstrip() + "\n" for name, text in rows)


def _format_value(value: Any) -> str:
    """A value on one line, shortened if it is long."""
    if isinstance(value, list) and not any(isinstance(element, dict | list) for element in value):
        text = ", ".join(map(str, value)) or "none"
    elif isinstance(value, dict | list):
        text = json.dumps(value, ensure_ascii=False)
    else:
        text = "none" if value is None else str(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def _try_provider(artifact: Artifact, provider: str) -> str:
    try:
        artifact.create_session(provider)
    except UserError as error:
        return str(error)
    return "runs"


def _cpu_features() -> list[str] | None:
    """The features of this processor among `CPU_FEATURES`; None if the system does not list them."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            listed = re.search(r"^(?:flags|Features)\s*:(.*)$", file.read(), re.MULTILINE)
    except OSError:
        return None
    return [feature for feature in CPU_FEATURES if feature in listed.group(1).split()] if listed else None


def _find_version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
