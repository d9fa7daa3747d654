"""Write a graph and its weights as one ONNX file, or as two where one would pass 2 GiB.

Weights are copied straight from their tensors into the file: the message that onnx would build of them is never in
memory.
"""

import glob
import importlib.metadata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from inference.shared.atomic import atomic_file

OPSET = 20  # the GRU of opset 22 has no CUDA kernel in onnxruntime


IR_VERSION = 10


LARGEST_FILE = (1 << 31) - (1 << 20)
"""Bytes of weights and metadata that fit into one file, with room for its nodes."""


ALIGNMENT = 1 << 16
"""Weights in a second file begin at multiples of this, so that they can be mapped into memory on any system."""


SMALLEST_OUTSIDE = 1 << 10
"""Constants of fewer bytes stay in the model file: runtimes want to see shapes and axes while they load."""


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
    """Yield the written file; when the block ends without an error, it becomes `path`, whose `output_lock` we hold."""
    n_bytes = sum(values.nbytes for values in tensors.values()) + sum(
        len(text.encode()) for text in properties.values()
    )
    outside = f"{path.name}.{properties['weights_sha256'][:16]}.data" if n_bytes > LARGEST_FILE else None
    with _weights_beside(path, outside, tensors), atomic_file(path, locked=True) as temporary:
        file = _Unfinished(temporary, graph, tensors, outside)
        file.write(properties)
        yield file
    for other in path.parent.glob(f"{glob.escape(path.name)}.{'[0-9a-f]' * 16}.data"):
        if other.name != outside:
            other.unlink()  # of the model that was here before


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
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
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
