"""The parts of an ONNX file that scoring needs, read straight from its bytes.

onnxruntime runs a graph but gives access to neither its weights nor its structure, and the `onnx` package belongs to
training. An ONNX file is a protocol-buffer message of a few well-known fields, so a short reader is enough: it scans
the memory-mapped file, skips what it does not need, and reads weights only on request.

Everything is bounds-checked: any byte string gives an `OnnxFile` or one `UserError`.
"""

import hashlib
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inference.shared.errors import UserError

VARINT, BYTES = 0, 2
"""Wire types of a protocol-buffer field."""

FLOAT, INT64 = 1, 7
"""Element types of a tensor that our graphs use (TensorProto.DataType)."""


@dataclass(frozen=True)
class StoredTensor:
    """One constant of the graph, as a view of the file.

    Args:
        name: its name in the graph.
        shape: its dimensions.
        data_type: its element type, a TensorProto.DataType number.
        raw: its elements, little-endian, row by row; a view of the file, not a copy.
    """

    name: str
    shape: tuple[int, ...]
    data_type: int
    raw: memoryview

    def floats(self) -> np.ndarray:
        """The elements as a read-only float32 array of `shape`.

        Raises:
            UserError: the tensor does not hold float32, or its bytes do not fill its shape.
        """
        expected = 4 * int(np.prod(self.shape, dtype=object))
        if self.data_type != FLOAT or len(self.raw) != expected:
            raise UserError(
                f"expected float32 values filling the shape {list(self.shape)} under the name {self.name!r}, "
                f"got {len(self.raw)} bytes of type {self.data_type}; the model file is damaged"
            )
        return np.frombuffer(self.raw, dtype="<f4").reshape(self.shape)


class OnnxFile:
    """The metadata and tensors of an ONNX file.

    Args:
        path: the file.

    Attributes:
        metadata: the key-value pairs of `metadata_props`; values are undecoded UTF-8.
        tensors: the graph's constants by name, in the order of the file.
        graph_sha256: digest of the graph without its constants: nodes, inputs, outputs and their names.

    Raises:
        UserError: the file cannot be read, is not ONNX, or is cut short.
    """

    def __init__(self, path: Path):
        content = _map_file(path)
        self.metadata: dict[str, memoryview] = {}
        self.tensors: dict[str, StoredTensor] = {}
        structure = hashlib.sha256()
        try:
            graph = None
            for field in _parse_fields(content):
                if field.number == 7:
                    graph = field.payload()
                elif field.number == 14:
                    key, value = _parse_entry(field.payload())
                    self.metadata[key] = value
            if graph is None:
                raise _MalformedError("it holds no graph")
            for field in _parse_fields(graph):
                if field.number == 5:
                    tensor = _parse_tensor(field.payload(), path.parent)
                    self.tensors[tensor.name] = tensor
                else:
                    structure.update(field.encoded)
        except _MalformedError as error:
            raise UserError(f"{path} is not an ONNX file, or is cut short or damaged ({error})") from error
        self.graph_sha256 = structure.hexdigest()

    def weights_sha256(self) -> str:
        """The digest of the elements of all constants, in the order of the file; reads the whole file."""
        digest = hashlib.sha256()
        for tensor in self.tensors.values():
            digest.update(tensor.raw)
        return digest.hexdigest()


def _map_file(path: Path) -> memoryview:
    try:
        with open(path, "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError as error:
        raise UserError(f"model file {path} does not exist") from error
    except OSError as error:
        raise UserError(f"cannot read the model file {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"model file {path} is empty") from error


class _MalformedError(Exception):
    """The bytes are not what the encoding allows."""


class _Field(NamedTuple):
    number: int
    wire_type: int
    value: int  # of a varint; 0 for others
    content: memoryview  # of a byte field; empty for others
    encoded: memoryview  # tag, length and content, as they stand

    def payload(self) -> memoryview:
        if self.wire_type != BYTES:
            raise _MalformedError(f"field {self.number} has wire type {self.wire_type}")
        return self.content


def _parse_varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            raise _MalformedError("it ends in the middle of a number")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _MalformedError("a number has too many bytes")


def _parse_fields(view: memoryview) -> Iterator[_Field]:
    at = 0
    nothing = view[:0]
    while at < len(view):
        start = at
        tag, at = _parse_varint(view, at)
        number, wire_type = tag >> 3, tag & 7
        value, content = 0, nothing
        if wire_type == VARINT:
            value, at = _parse_varint(view, at)
        elif wire_type == BYTES:
            length, at = _parse_varint(view, at)
            content = view[at : at + length]
            at += length
        else:  # the messages that are read have no other fields
            raise _MalformedError(f"wire type {wire_type}")
        if number == 0 or at > len(view):
            raise _MalformedError("it ends in the middle of a field" if number else "field number 0")
        yield _Field(number, wire_type, value, content, view[start:at])


def _decode(content: memoryview) -> str:
    try:
        return str(content, "utf-8")
    except UnicodeDecodeError as error:
        raise _MalformedError("a name is not UTF-8") from error


def _parse_entry(content: memoryview) -> tuple[str, memoryview]:
    key, value = "", content[:0]
    for field in _parse_fields(content):
        if field.number == 1:
            key = _decode(field.payload())
        elif field.number == 2:
            value = field.payload()
    return key, value


def _parse_tensor(content: memoryview, folder: Path) -> StoredTensor:
    name, data_type, raw = "", 0, content[:0]
    shape: list[int] = []
    outside: dict[str, str] = {}
    for field in _parse_fields(content):
        if field.number == 1 and field.wire_type == VARINT:
            shape.append(field.value)
        elif field.number == 1:  # packed
            packed, at = field.payload(), 0
            while at < len(packed):
                size, at = _parse_varint(packed, at)
                shape.append(size)
        elif field.number == 2:
            data_type = field.value
        elif field.number == 8:
            name = _decode(field.payload())
        elif field.number == 9:
            raw = field.payload()
        elif field.number == 13:
            key, value = _parse_entry(field.payload())
            outside[key] = _decode(value)
    if outside:
        raw = _read_external(outside, folder)
    return StoredTensor(name, tuple(shape), data_type, raw)


def _read_external(entries: dict[str, str], folder: Path) -> memoryview:
    """The bytes of a tensor in another file, which must be a plain file in the model's own folder."""
    location = entries.get("location", "")
    path = folder / location
    if location in ("", "..") or Path(location).name != location or path.is_symlink():
        raise UserError(
            f"expected weights in a file of the model's folder {folder}, got the path {location!r}; the model "
            "is damaged or was made to read other files"
        )
    content = _map_file(path)
    numbers = [entries.get(key, "") for key in ("offset", "length")]
    if not all(number.isascii() and number.isdigit() and len(number) < 19 for number in numbers):
        raise _MalformedError("the offset of a tensor in another file is no number")
    start, length = map(int, numbers)
    if start + length > len(content):
        raise UserError(f"{path} is cut short: expected at least {start + length} bytes, got {len(content)}")
    return content[start : start + length]
