"""Write a graph and its weights as one ONNX file, or as two if one would exceed 2 GiB.

Large weights are copied straight from their tensors into the second file: the single message that onnx would build of
them is never in memory.
"""

import glob
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from inference.shared.atomic import atomic_file

OPSET = 20  # the GRU of opset 22 has no CUDA kernel in onnxruntime
IR_VERSION = 10
LARGEST_FILE = (1 << 31) - (1 << 20)
"""Bytes of weights and metadata that fit into one file; the rest up to 2 GiB is for the nodes."""
ALIGNMENT = 1 << 16
"""Weights in a second file begin at multiples of this, so that any system can map them into memory."""
SMALLEST_OUTSIDE = 1 << 10
"""Smaller constants, in bytes, stay in the model file: runtimes read shapes and axes while they load it."""


@contextmanager
def draft_model(
    path: Path, graph: onnx.GraphProto, tensors: Mapping[str, np.ndarray], properties: Mapping[str, str]
) -> Iterator[tuple[Path, Callable[[Mapping[str, str]], None]]]:
    """Write a model under a temporary name; when the block ends without an error, it becomes `path`.

    Args:
        path: the caller holds its `output_lock`.
        graph: without its constants.
        tensors: the constants by name.
        properties: the metadata.

    Yields:
        The temporary file, and a function that writes it again with other metadata.
    """
    n_bytes = sum(values.nbytes for values in tensors.values()) + sum(
        len(text.encode()) for text in properties.values()
    )
    data_file = f"{path.name}.{properties['weights_sha256'][:16]}.data" if n_bytes > LARGEST_FILE else None
    written = _write_data_file(path.parent / data_file, tensors) if data_file else nullcontext()
    with written, atomic_file(path, locked=True) as temporary:

        def write(properties: Mapping[str, str]) -> None:
            temporary.write_bytes(assemble(graph, tensors, properties, data_file).SerializeToString())

        write(properties)
        yield temporary, write
    for other in path.parent.glob(f"{glob.escape(path.name)}.{'[0-9a-f]' * 16}.data"):
        if other.name != data_file:
            other.unlink()  # of the model that was here before


def assemble(
    graph: onnx.GraphProto, tensors: Mapping[str, np.ndarray], properties: Mapping[str, str], data_file: str | None
) -> onnx.ModelProto:
    """One message of a graph, its constants and its metadata.

    Args:
        graph: without its constants.
        tensors: the constants by name.
        properties: the metadata.
        data_file: name of the file that holds the large constants; None keeps all of them in the message.
    """
    complete = onnx.GraphProto()
    complete.CopyFrom(graph)
    offsets = _offsets(tensors) if data_file else {}
    for name, values in tensors.items():
        if name in offsets:
            complete.initializer.append(_external_tensor(name, values, str(data_file), offsets[name]))
        else:
            complete.initializer.append(numpy_helper.from_array(values, name))
    model = helper.make_model(
        complete,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="gru4rec",
        producer_version=version("gru4rec"),
    )
    helper.set_model_props(model, dict(properties))
    return model


def _offsets(tensors: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Where each large constant begins in the data file, in bytes."""
    offsets, end = {}, 0
    for name, values in tensors.items():
        if values.nbytes >= SMALLEST_OUTSIDE:
            offsets[name] = -(-end // ALIGNMENT) * ALIGNMENT
            end = offsets[name] + values.nbytes
    return offsets


def _external_tensor(name: str, values: np.ndarray, location: str, offset: int) -> TensorProto:
    tensor = TensorProto(name=name, dims=values.shape, data_type=helper.np_dtype_to_tensor_dtype(values.dtype))
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", values.nbytes)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


@contextmanager
def _write_data_file(path: Path, tensors: Mapping[str, np.ndarray]) -> Iterator[None]:
    """Write the large constants, and remove them again if the block fails."""
    is_new = not path.exists()  # else the same weights were exported here before
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        for name, offset in _offsets(tensors).items():
            file.write(b"\0" * (offset - file.tell()))
            file.write(np.ascontiguousarray(tensors[name]).data)
    try:
        yield
    except BaseException:
        if is_new:
            path.unlink(missing_ok=True)
        raise
