"""What a model file holds and what would run it here, as pairs of a name and a value."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from inference.artifact import FORMAT_VERSION, Artifact


def description(artifact: Artifact) -> dict[str, Any]:
    """The contents of an opened model file and its surroundings; JSON values."""
    return {
        "model": str(artifact.path),
        "bytes": artifact.path.stat().st_size,
        "format_version": FORMAT_VERSION,
        "exporter": artifact.exporter,
        "items": artifact.n_items,
        "layer_widths": list(artifact.layer_widths),
        "score_activation": artifact.score_activation,
        "config": dict(artifact.config),
        "metrics": dict(artifact.metrics),
        **artifact.digests(),
        "gru4rec": _installed("gru4rec"),
        "onnxruntime": _installed("onnxruntime"),
        "onnxruntime-gpu": _installed("onnxruntime-gpu"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }


def as_text(values: dict[str, Any]) -> str:
    """The pairs as lines, names in one column, nested ones indented; with a final line break.

    >>> print(as_text({"items": 3, "config": {"loss": "bpr-max"}}), end="")
    items   3
    config
      loss  bpr-max
    """
    nested = {f"  {inner}": "" for value in values.values() if isinstance(value, dict) for inner in value}
    width = max(map(len, [*values, *nested]), default=0) + 2
    out = []
    for name, value in values.items():
        if isinstance(value, dict):
            out.append(name)
            out += [f"{'  ' + inner:{width}}{_shown(inner_value)}" for inner, inner_value in value.items()]
        else:
            out.append(f"{name:{width}}{_shown(value)}")
    return "\n".join(line.rstrip() for line in out) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "not installed" if value is None else str(value)


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
