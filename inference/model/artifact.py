"""The model file: one ONNX graph with everything that scoring needs, checked before any of it runs.

FORMAT.md in the folder above describes the file for readers in any language. Opening it checks that `gru4rec export`
wrote it, in a known version; that the nodes and the vocabulary match their digests; and that the sizes in the metadata,
the vocabulary and the weights agree. The digest of the weights takes a pass over the whole file, so only
`Artifact.verify` checks it.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from inference.model.format import (
    FORMAT_VERSION,
    MINUS_INFINITY,
    OUTPUT_BIAS,
    OUTPUT_WEIGHT,
    RECENT_BIAS,
    RECENT_WEIGHT,
    SHORTEST_STATE,
)
from inference.model.onnx_reader import FLOAT, OnnxFile
from inference.model.providers import create_session
from inference.shared.errors import UserError, unknown_choice
from inference.shared.system import MOST_THREADS
from inference.shared.vocabulary import Vocabulary

Number = TypeVar("Number", int, float)


class Artifact:
    """A checked model file; nothing has been run yet.

    Args:
        path: the file.

    Attributes:
        file: its metadata and tensors.
        vocabulary: the N items and their numbers.
        layer_widths: the width of each GRU layer, first to last.
        score_activation: the function applied to the scores; "linear" for raw logits.
        temperature: None if scores are dot products; if they are cosines, the factor of the state after it is
            normalised to length 1 (the item rows are normalised already).
        n_recent: how many of the last clicks are part of the state, so that their items get a bonus; 0 for none.
        exporter: the program and version that wrote the file.
        config: the training configuration.
        metrics: figures such as {"recall@20": …}.
        scan: None if every item is scored exactly; else how a large catalogue is scanned first, such as
            {"kind": "int8", "sessions": 1000, "agreement@20": 0.9999}.

    Raises:
        UserError: the file cannot be read, is of another origin or format version, or is damaged.
    """

    def __init__(self, path: str | Path):
        self.path = path = Path(path)
        if os.path.isdir(path):  # unlike Path.is_dir it accepts any name
            inside = min(path.glob("*.onnx"), default=None)  # a search leaves one, training leaves weights to export
            remedy = (
                f"name the file in it, {inside}" if inside else f"write it with gru4rec export {path} --out FILE.onnx"
            )
            raise UserError(f"expected a model file, got the folder {path}; {remedy}")
        self.file = OnnxFile(path)
        if "format_version" not in self.file.metadata:
            raise UserError(f"{path} is an ONNX file, but not one that `gru4rec export` wrote: no format_version in it")
        version = self._text("format_version")
        if version != str(FORMAT_VERSION):
            raise UserError(
                f"{path} is of format version {version!r}, this program reads version {FORMAT_VERSION}; "
                "export the model again or update the gru4rec package"
            )
        if self.file.graph_sha256 != self._text("graph_sha256"):
            raise UserError(f"{path} is damaged: its graph is not the one that was exported; copy or export it again")
        vocabulary = self._text("vocab")
        if hashlib.sha256(self.file.metadata["vocab"]).hexdigest() != self._text("vocab_sha256"):
            raise self._damaged("the vocabulary does not match its digest")
        self.vocabulary = Vocabulary.from_text(vocabulary)
        self.layer_widths = tuple(self._numbers("layer_widths"))
        self.score_activation = self._text("score_activation")
        self.temperature = self._numbers("temperature", float)[0] if "temperature" in self.file.metadata else None
        self.n_recent = self._numbers("n_recent")[0] if "n_recent" in self.file.metadata else 0
        self.exporter = self._text("exporter")
        self.config = self._mapping("config")
        self.metrics = self._mapping("metrics")
        self.scan = self._mapping("scan") if "scan" in self.file.metadata else None
        self._check_sizes()

    def _damaged(self, what: str) -> UserError:
        return UserError(f"{self.path} is damaged: {what}; copy or export it again")

    def _text(self, key: str) -> str:
        if key not in self.file.metadata:
            raise self._damaged(f"its metadata has no {key!r}")
        try:
            return str(self.file.metadata[key], "utf-8")
        except UnicodeDecodeError as error:
            raise self._damaged(f"metadata {key!r} is not UTF-8") from error

    def _numbers(self, key: str, kind: Callable[[str], Number] = int) -> list[Number]:
        text = self._text(key)
        try:
            return [kind(part) for part in text.split(",")]
        except ValueError as error:
            raise self._damaged(f"metadata {key!r} is {text[:40]!r} instead of numbers") from error

    def _mapping(self, key: str) -> dict[str, Any]:
        try:
            value = json.loads(self._text(key))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise self._damaged(f"metadata {key!r} is not a JSON object")
        return value

    def _check_sizes(self) -> None:
        if self.score_activation != "linear":
            raise unknown_choice("score activation", self.score_activation, ["linear"])
        n_items, width = self.n_items, self.layer_widths[-1]
        for key, expected in zip(("n_items", "num_layers", "hidden_size"), (n_items, *self.state_shape), strict=True):
            if self._numbers(key) != [expected]:
                raise self._damaged(f"{key} is {self._text(key)!r}, but the rest of the file says {expected}")
        shapes: dict[str, tuple[int, ...]] = {OUTPUT_WEIGHT: (n_items + 1, width), OUTPUT_BIAS: (n_items + 1,)}
        if self.n_recent:
            shapes |= {RECENT_WEIGHT: (self.n_recent, width), RECENT_BIAS: (self.n_recent,)}
        for name, shape in shapes.items():
            if name not in self.file.tensors or self.file.tensors[name].shape != shape:
                raise self._damaged(f"no tensor {name!r} of shape {list(shape)}")
            self.file.tensors[name].floats()

    @property
    def n_items(self) -> int:
        """The number N of items."""
        return len(self.vocabulary)

    @property
    def state_shape(self) -> tuple[int, int]:
        """The parts of the carried state, one per layer and one for recent clicks, and the width of the widest."""
        return len(self.layer_widths) + bool(self.n_recent), max(*self.layer_widths, self.n_recent)

    def query(self, hidden: np.ndarray) -> np.ndarray:
        """The factor of the item rows, [batch, last width], from states [parts, batch, width]."""
        state = self._last_output(hidden)
        if self.temperature is None:
            return state
        length = np.sqrt(np.square(state).sum(axis=1, keepdims=True))
        query: np.ndarray = state / np.maximum(length, np.float32(SHORTEST_STATE)) * np.float32(self.temperature)
        return query

    def recent(self, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The items of the last clicks, int64 [batch, K] (-1 for no click), and their bonus, [batch, K]."""
        items = hidden[-1, :, : self.n_recent].astype(np.int64) - 1
        if not self.n_recent:
            return items, hidden[-1, :, :0]
        weight, bias = (self.file.tensors[name].floats() for name in (RECENT_WEIGHT, RECENT_BIAS))
        return items, self._last_output(hidden) @ weight.T + bias

    def _last_output(self, hidden: np.ndarray) -> np.ndarray:
        return hidden[len(self.layer_widths) - 1, :, : self.layer_widths[-1]]

    def check_finite(self) -> None:
        """Check that no weight is NaN or infinite; reads the whole file.

        Raises:
            UserError: one is.
        """
        # onnxruntime's sigmoid and tanh turn NaN into ordinary numbers, so NaN weights would go unnoticed
        for name, tensor in self.file.tensors.items():
            if tensor.data_type != FLOAT or name == MINUS_INFINITY:
                continue
            values = self.output_bias() if name == OUTPUT_BIAS else tensor.floats()
            with np.errstate(over="ignore", invalid="ignore"):
                is_suspect = not np.isfinite(values.sum())  # one pass without a copy
            if is_suspect and not np.isfinite(values).all():
                raise UserError(f"{self.path} is damaged: NaN or infinite weights in {name!r}; copy or export it again")

    def verify(self) -> None:
        """Compare the weights with their digest; reads the whole file.

        Raises:
            UserError: they differ.
        """
        if self.file.weights_sha256() != self._text("weights_sha256"):
            raise UserError(
                f"{self.path} is damaged: its weights do not match their digest; copy it again from its source"
            )

    def digests(self) -> dict[str, str]:
        """The digests written in the file: of the vocabulary, the weights and the graph."""
        return {key: self._text(key) for key in ("vocab_sha256", "weights_sha256", "graph_sha256")}

    def output_weight(self) -> np.ndarray:
        """The items' output weights, float32 [N, last width]; a read-only view of the file."""
        return self.file.tensors[OUTPUT_WEIGHT].floats()[:-1]

    def output_bias(self) -> np.ndarray:
        """The items' output biases, float32 [N]; a read-only view of the file."""
        return self.file.tensors[OUTPUT_BIAS].floats()[:-1]

    def create_session(self, provider: str = "cpu", threads: int | None = None) -> Any:
        """An onnxruntime session of the graph, ready to run.

        Args:
            provider: what runs it: "cpu", "cuda", or "auto" for CUDA if it starts and else the CPU.
            threads: the number of threads that one run may use; None leaves it to onnxruntime.

        Raises:
            UserError: a provider that is unknown or does not start here, an impossible number of threads, weights that
                are not finite, or a graph that onnxruntime refuses.
        """
        if threads is not None and not 1 <= threads <= MOST_THREADS:
            raise UserError(f"expected between 1 and {MOST_THREADS:,} threads, got {threads}")
        self.check_finite()
        return create_session(self.path, provider, threads)
