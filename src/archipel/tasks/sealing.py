"""Sealing: a result is copied out of memory that the plan can still write into a file of the site's own.

The same bytes are hashed, kept and sent, whatever the plan does meanwhile. The steps of the job's privacy
terms pass over the copy, never over the plan's memory: both of their passes see the same bytes. The first step measures
each piece when it is copied. Where updates leave only within a sum, a file to be added is written in place of the copy,
as ``privacy/summed_fields.py`` lays it out; without steps there is one pass, and each piece is copied when it is
weighed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numpy as np

from archipel.privacy import Addend, Step
from archipel.storage import disk_errors_named, sync_folder
from archipel.tensors import (
    Array,
    TensorFileWriter,
    bytes_of,
    in_type,
    is_finite,
    leaf_offsets,
    tensor_file_header,
    write_all,
)
from archipel.tensors.sums import CHUNK_ELEMENTS
from archipel.vocabulary import BadInput, ErrorCode, TensorSchema, TensorSpec, Thing

CHUNK = 1 << 20


def reusable_file(tensor_file: Path) -> Path:
    """Path of a tensor file that is no longer needed; its experiment's next one overwrites it."""
    return tensor_file.with_name(f"{tensor_file.name.split('.')[0]}.spare")


def seal(
    schema: TensorSchema,
    result: memoryview,
    tensor_file: Path,
    steps: Sequence[Step] = (),
    given: memoryview | None = None,
    addend: Callable[[], Addend] | None = None,
    *,
    chunk_elements: int = CHUNK_ELEMENTS,
    durable: bool = True,
) -> str:
    """Copy a result into a durable file of the site's own and return the hash of what the file holds.

    The header is the job's, never the result's. The experiment's ``reusable_file`` is overwritten if there is one: new
    pages and blocks for each round would cost more than the copy. With ``steps``, each of them in turn changes the copy
    in place; ``given`` is the tensor file of the model that the result was trained from. With ``addend``, asked for
    when the steps have measured, the file is one that can be added to other sites': of the addend's schema, with its
    fields. Steps and addend are given ``chunk_elements`` numbers at a time. Without ``durable`` nothing is synced.
    Raises StorageFull, and BadInput for an update that is not finite when it is to be measured or added; nothing is
    left behind then.
    """
    if steps and given is None:
        raise ValueError("steps need the model that the result was trained from")
    try:
        with contextlib.suppress(FileNotFoundError):
            reusable_file(tensor_file).rename(tensor_file)
        with disk_errors_named(tensor_file.parent), _opened(tensor_file) as file:
            if steps:
                copy = _Leaving(schema, _of_file(file), given, steps, chunk_elements)
                _measure_copy(copy, result, file)
                if addend is not None:
                    return _addend_beside(tensor_file, addend(), copy, durable)
                digest = _leave_in_place(copy, file, durable)
            elif addend is not None:
                leaving = _Leaving(schema, _of_memory(result), None, (), chunk_elements)
                digest = _write_addend(file, addend(), leaving, durable)
            else:
                digest = _copied(schema, result, file, durable)
            if durable:
                sync_folder(tensor_file.parent)
    except BaseException:
        tensor_file.unlink(missing_ok=True)
        raise
    return digest


def seal_fields(tensor_file: Path, addend: Addend, *, durable: bool = True) -> str:
    """Write an update that has fields and no model into a file, as ``seal`` does. Raises StorageFull."""
    with disk_errors_named(tensor_file.parent):
        return _addend_beside(tensor_file, addend, None, durable)


Read = Callable[[int, int], bytes]
"""So many bytes of a result from a position on; what it returned stays as it is."""


def _of_memory(result: memoryview) -> Read:
    return lambda at, size: bytes(result[at : at + size])


def _of_file(file: FileIO) -> Read:
    return lambda at, size: os.pread(file.fileno(), size, at)


@dataclass(frozen=True)
class _Leaving:
    """What leaves of a result: what was trained, what it was trained from, and the steps that change it."""

    schema: TensorSchema
    trained: Read
    given: memoryview | None
    steps: Sequence[Step]
    chunk: int

    def chunks(self) -> Iterator[tuple[TensorSpec, int, int, int]]:
        """Each chunk of each tensor: its first element, where its bytes begin, and how many there are."""
        for leaf, offset in leaf_offsets(self.schema):
            yield from ((leaf, *place) for place in self._places(leaf, offset))

    def numbers(self, leaf: TensorSpec, offset: int) -> Iterator[Array]:
        """The numbers of a tensor that leave, chunk by chunk, float64."""
        for start, at, size in self._places(leaf, offset):
            trained = np.frombuffer(self.trained(at, size), leaf.dtype)
            if self.steps:
                base, delta = self.delta(leaf, start, at, trained, self.steps)
                yield base + delta
            else:
                yield trained.astype(np.float64)

    def delta(
        self, leaf: TensorSpec, start: int, at: int, trained: Array, steps: Sequence[Step]
    ) -> tuple[Array, Array]:
        """The given model's numbers of a chunk, and those of its update after ``steps``, both float64."""
        assert self.given is not None
        base = np.frombuffer(self.given[at : at + trained.nbytes], leaf.dtype).astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            delta = trained.astype(np.float64) - base
        _check_finite(leaf, delta, "which no privacy step can bound")
        for step in steps:
            delta = step.apply(leaf, start, delta)
        return base, delta

    def _places(self, leaf: TensorSpec, offset: int) -> Iterator[tuple[int, int, int]]:
        size = np.dtype(leaf.dtype).itemsize
        for start in range(0, leaf.elements, self.chunk):
            yield start, offset + start * size, min(self.chunk, leaf.elements - start) * size


def _copied(schema: TensorSchema, result: memoryview, file: FileIO, durable: bool) -> str:
    """Copy a result into the file, each piece before it is hashed; returns the hash of the file."""
    head, piece = tensor_file_header(schema), bytearray(min(CHUNK, result.nbytes))
    writer = TensorFileWriter(file)
    writer.write(head)
    for start in range(len(head), result.nbytes, CHUNK):
        part = memoryview(piece)[: min(CHUNK, result.nbytes - start)]
        part[:] = result[start : start + part.nbytes]
        writer.write(part)
    return writer.finish(durable=durable)


def _measure_copy(copy: _Leaving, result: memoryview, file: FileIO) -> None:
    """Copy a result into the file, where its numbers are, and let each step measure what those before it make of it."""
    file.seek(len(tensor_file_header(copy.schema)))
    first, *others = copy.steps
    for leaf, start, at, size in copy.chunks():
        # Measured is what was written, not what the memory holds a moment later.
        piece = bytes(result[at : at + size])
        write_all(file, piece)
        first.measure(leaf, start, copy.delta(leaf, start, at, np.frombuffer(piece, leaf.dtype), ())[1])
    for number, step in enumerate(others, 1):
        for leaf, start, at, size in copy.chunks():
            trained = np.frombuffer(copy.trained(at, size), leaf.dtype)
            step.measure(leaf, start, copy.delta(leaf, start, at, trained, copy.steps[:number])[1])


def _leave_in_place(copy: _Leaving, file: FileIO, durable: bool) -> str:
    """Write what leaves over the copy; returns the hash of the file."""
    file.seek(0)
    writer = TensorFileWriter(file)
    writer.write(tensor_file_header(copy.schema))
    for leaf, offset in leaf_offsets(copy.schema):
        for numbers in copy.numbers(leaf, offset):
            writer.write(bytes_of(np.ascontiguousarray(in_type(numbers, leaf.dtype))))
    return writer.finish(durable=durable)


def _addend_beside(tensor_file: Path, addend: Addend, leaving: _Leaving | None, durable: bool) -> str:
    """Write the file of an addend in place of ``tensor_file``, which may be the copy that its numbers come from."""
    beside = tensor_file.with_name(f"{tensor_file.name}.sum")
    try:
        with _opened(beside) as file:
            digest = _write_addend(file, addend, leaving, durable)
        beside.replace(tensor_file)
        if durable:
            sync_folder(tensor_file.parent)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return digest


def _write_addend(file: FileIO, addend: Addend, leaving: _Leaving | None, durable: bool) -> str:
    """Write the file of an addend from its first byte on; returns its hash."""
    places = {} if leaving is None else {spec.name: (spec, at) for spec, at in leaf_offsets(leaving.schema)}
    writer = TensorFileWriter(file)
    writer.write(tensor_file_header(addend.schema))
    for spec in addend.schema.tensors:
        if spec.name in addend.fields:
            writer.write(np.float64(addend.fields[spec.name]).tobytes())
        else:
            if leaving is None:
                raise ValueError(f"tensor {spec.name} is of a model, and this update has none")
            for numbers in leaving.numbers(*places[spec.name]):
                writer.write(bytes_of(_weighted(spec, numbers, addend.weight)))
    return writer.finish(durable=durable)


def _weighted(spec: TensorSpec, numbers: Array, weight: float) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.ascontiguousarray((numbers * weight).astype(spec.dtype))
    _check_finite(spec, found, "and so would the sum of all sites be")
    return found


def _check_finite(leaf: TensorSpec, numbers: Array, so: str) -> None:
    """Raise BadInput unless all numbers of a chunk of ``leaf`` are finite."""
    if not is_finite(numbers):
        cause = f"holds NaN or infinite values, {so}"
        remedy = "let the plan train with a smaller step"
        raise BadInput(
            Thing.worded(f"tensor {leaf.name} of the update", tensor=leaf.name),
            cause,
            remedy,
            code=ErrorCode.NOT_FINITE,
        )


def _opened(tensor_file: Path) -> FileIO:
    descriptor = os.open(tensor_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "r+b", buffering=0)
