"""A tensor file: a model's parameters as one file in the safetensors layout, whose header follows from the schema
alone.

Because the header is a function of the schema, every tensor file of a job has the same length and the same first bytes;
to check a received tensor file's names, types and shapes is to compare its first bytes, and a leaf's bytes are at a
known offset of every spool. Source of the layout: the safetensors format description (8-byte little-endian header
length, JSON header padded with spaces, then the data, row-major and little-endian).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from typing_extensions import Buffer

from archipel.vocabulary import BadInput, DType, ErrorCode, TensorSchema, TensorSpec
from archipel.vocabulary.once import Once

_WIRE: dict[DType, str] = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
_NUMPY: dict[str, DType] = {wire: name for name, wire in _WIRE.items()}
_LONGEST_HEADER = 16 << 20

Arrays = Mapping[str, "np.ndarray[Any, Any]"]


def tensor_file_header(schema: TensorSchema) -> bytes:
    """The first bytes of every tensor file of this schema: length prefix and JSON, padded to a multiple of 8."""
    return _layout(schema).header


def tensor_file_size(schema: TensorSchema) -> int:
    """Length in bytes of every tensor file of this schema, header included."""
    return _layout(schema).size


def leaf_offsets(schema: TensorSchema) -> tuple[tuple[TensorSpec, int], ...]:
    """Each tensor and where its bytes begin in a tensor file, in tensor file order."""
    return _layout(schema).leaves


class _Layout(NamedTuple):
    """What follows from a schema: the header, the place of each tensor, and the length of a file."""

    header: bytes
    leaves: tuple[tuple[TensorSpec, int], ...]
    size: int


def _laid_out(schema: TensorSchema) -> _Layout:
    header = _header(schema)
    leaves = tuple((spec, len(header) + start) for spec, start in _offsets(schema))
    return _Layout(header, leaves, len(header) + schema.nbytes)


_layout = Once(_laid_out)


def _header(schema: TensorSchema) -> bytes:
    document: dict[str, dict[str, str | list[int]]] = {}
    for spec, start in _offsets(schema):
        document[spec.name] = {
            "dtype": _WIRE[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [start, start + spec.nbytes],
        }
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _offsets(schema: TensorSchema) -> Iterator[tuple[TensorSpec, int]]:
    start = 0
    for spec in schema.tensors:
        yield spec, start
        start += spec.nbytes


def schema_of(arrays: Arrays) -> TensorSchema:
    """The schema of these arrays.

    Raises BadInput for a type that a tensor file cannot hold (complex numbers, objects).
    """
    specs = []
    for name, array in arrays.items():
        dtype = array.dtype.name
        if dtype not in _WIRE:
            kinds = ", ".join(_WIRE)
            raise BadInput(
                f"parameter {name}", f"has type {array.dtype.name}, which a tensor file cannot hold", f"use {kinds}"
            )
        specs.append(TensorSpec(name=name, dtype=dtype, shape=array.shape))
    return TensorSchema.of(specs)


def views(schema: TensorSchema, buffer: Buffer, *, writable: bool = False) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays on a whole tensor file's bytes, without a copy.

    Raises BadInput when the buffer is not exactly one tensor file of this schema. The arrays are read-only unless
    ``writable``; they keep the buffer alive.
    """
    window = memoryview(buffer)
    if not writable:
        window = window.toreadonly()
    check_header(schema, window)
    return {
        spec.name: np.ndarray(spec.shape, spec.dtype, buffer=window, offset=start)
        for spec, start in leaf_offsets(schema)
    }


def encode(arrays: Arrays) -> bytes:
    """These arrays as one tensor file, readable by any safetensors library."""
    schema = schema_of(arrays)
    parts = [tensor_file_header(schema)]
    parts += [np.ascontiguousarray(arrays[spec.name]).tobytes() for spec in schema.tensors]
    return b"".join(parts)


def decode(data: Buffer) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of any safetensors file, copied; its tensors may be in any order.

    Raises BadInput when the bytes are not well formed.
    """
    window = memoryview(data)
    return {
        spec.name: np.frombuffer(window, spec.dtype, spec.elements, start).reshape(spec.shape).copy()
        for spec, start in _parsed(window)
    }


def joined(tensor_file: bytes, *others: bytes | None) -> bytes:
    """The tensors of several files, which have no name in common, in one; ``tensor_file`` itself if there is no other.

    Raises BadInput when the bytes of one are not well formed.
    """
    files = [tensor_file, *(other for other in others if other is not None)]
    if len(files) == 1:
        return tensor_file
    return encode({name: array for file in files for name, array in decode(file).items()})


def read_schema(data: Buffer) -> TensorSchema:
    """The schema of the tensors in a safetensors file.

    Raises BadInput when the header is damaged or the tensors do not fill the file without gap or overlap.
    """
    return TensorSchema.of([spec for spec, _ in _parsed(memoryview(data))])


def _parsed(window: memoryview) -> list[tuple[TensorSpec, int]]:
    damaged = BadInput("tensor file", "its header is damaged", "send a safetensors file", code=ErrorCode.BAD_UPDATE)
    if window.nbytes < 8:
        raise damaged
    (length,) = struct.unpack("<Q", window[:8])
    if length > min(window.nbytes - 8, _LONGEST_HEADER):
        raise damaged
    try:
        document = json.loads(bytes(window[8 : 8 + length]))
        document.pop("__metadata__", None)
        stated = [
            (TensorSpec(name=name, dtype=_NUMPY[entry["dtype"]], shape=tuple(entry["shape"])), entry["data_offsets"])
            for name, entry in document.items()
        ]
        stated.sort(key=lambda pair: (pair[1][0], pair[1][1]))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise damaged from error
    end, tensors = 0, []
    for spec, offsets in stated:
        if offsets != [end, end + spec.nbytes]:
            raise damaged
        tensors.append((spec, 8 + length + end))
        end += spec.nbytes
    if 8 + length + end != window.nbytes:
        raise damaged
    return tensors


def check_header(schema: TensorSchema, data: Buffer) -> None:
    """Compare a tensor file with the schema it must have.

    Raises BadInput that names the first difference: a wrong length, a missing or unknown tensor, a type or a shape.
    """
    window = memoryview(data)
    head = tensor_file_header(schema)
    if window.nbytes == tensor_file_size(schema) and window[: len(head)] == head:
        return
    raise BadInput("tensor file", _difference(schema, window), "send the tensors of the job", code=ErrorCode.BAD_UPDATE)


def _difference(schema: TensorSchema, window: memoryview) -> str:
    try:
        other = read_schema(window)
    except BadInput:
        return f"has {window.nbytes} bytes and no readable header where {tensor_file_size(schema)} bytes are expected"
    mine = {spec.name: spec for spec in schema.tensors}
    theirs = {spec.name: spec for spec in other.tensors}
    for name, spec in mine.items():
        if name not in theirs:
            return f"tensor {name} is missing"
        if theirs[name] != spec:
            got = theirs[name]
            return f"tensor {name} is {got.dtype} {list(got.shape)} where the job has {spec.dtype} {list(spec.shape)}"
    extra = sorted(set(theirs) - set(mine))
    if extra:
        return f"tensor {extra[0]} is not in the job"
    return "its header differs from the job's in layout"
