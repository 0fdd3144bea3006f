"""Sealing: a result is copied out of memory that the plan can still write into a file of the site's own.

The same bytes are hashed, kept and sent, whatever the plan does meanwhile. The steps of the job's privacy
terms pass over the copy, never over the plan's memory: both of their passes see the same bytes. Where updates leave
only within a sum, a file to be added is written from the copy, as ``privacy/summed_fields.py`` lays it out.
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
from archipel.tensors import Array, TensorFileWriter, bytes_of, in_type, is_finite, leaf_offsets, tensor_file_header
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
    head = tensor_file_header(schema)
    chunk = bytearray(min(CHUNK, result.nbytes))
    if steps and given is None:
        raise ValueError("steps need the model that the result was trained from")
    try:
        with contextlib.suppress(FileNotFoundError):
            reusable_file(tensor_file).rename(tensor_file)
        with disk_errors_named(tensor_file.parent), _opened(tensor_file) as file:
            writer = TensorFileWriter(file)
            writer.write(head)
            for start in range(len(head), result.nbytes, CHUNK):
                part = memoryview(chunk)[: min(CHUNK, result.nbytes - start)]
                part[:] = result[start : start + part.nbytes]
                writer.write(part)
            file.truncate()
            copied = _Copied(schema, file, given, steps, chunk_elements)
            copied.measure()
            if addend is not None:
                return _sealed_addend(tensor_file, addend(), copied, durable)
            if steps:
                file.seek(0)
                writer = TensorFileWriter(file)
                writer.write(head)
                for leaf, offset in leaf_offsets(schema):
                    for numbers in copied.leaving(leaf, offset):
                        writer.write(bytes_of(np.ascontiguousarray(in_type(numbers, leaf.dtype))))
            if durable:
                writer.sync()
                sync_folder(tensor_file.parent)
    except BaseException:
        tensor_file.unlink(missing_ok=True)
        raise
    return writer.digest()


def seal_fields(tensor_file: Path, addend: Addend, *, durable: bool = True) -> str:
    """Write an update that has fields and no model into a file, as ``seal`` does. Raises StorageFull."""
    with disk_errors_named(tensor_file.parent):
        return _sealed_addend(tensor_file, addend, None, durable)


@dataclass(frozen=True)
class _Copied:
    """A result in a file of the site's own, what it was trained from, and the steps that change it."""

    schema: TensorSchema
    file: FileIO
    given: memoryview | None
    steps: Sequence[Step]
    chunk: int

    def measure(self) -> None:
        """Let each step measure what the steps before it make of the copy."""
        for number, step in enumerate(self.steps):
            for leaf, offset in leaf_offsets(self.schema):
                for start, _, delta in self._deltas(leaf, offset, self.steps[:number]):
                    step.measure(leaf, start, delta)

    def leaving(self, leaf: TensorSpec, offset: int) -> Iterator[Array]:
        """The numbers of a tensor that leave, chunk by chunk, float64."""
        if not self.steps:
            for _, _, numbers in self._chunks(leaf, offset):
                yield numbers
            return
        for _, base, delta in self._deltas(leaf, offset, self.steps):
            yield base + delta

    def _chunks(self, leaf: TensorSpec, offset: int) -> Iterator[tuple[int, int, Array]]:
        """Each chunk of a tensor: its first element, where its bytes begin, and what was trained, float64."""
        size = np.dtype(leaf.dtype).itemsize
        for start in range(0, leaf.elements, self.chunk):
            count, at = min(self.chunk, leaf.elements - start), offset + start * size
            read = os.pread(self.file.fileno(), count * size, at)
            yield start, at, np.frombuffer(read, leaf.dtype).astype(np.float64)

    def _deltas(self, leaf: TensorSpec, offset: int, steps: Sequence[Step]) -> Iterator[tuple[int, Array, Array]]:
        """Each chunk of a tensor: its first element, the given model's numbers, and the update's, float64."""
        assert self.given is not None
        size = np.dtype(leaf.dtype).itemsize
        for start, at, trained in self._chunks(leaf, offset):
            base = np.frombuffer(self.given[at : at + len(trained) * size], leaf.dtype).astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                delta = trained - base
            _check_finite(leaf, delta, "which no privacy step can bound")
            for step in steps:
                delta = step.apply(leaf, start, delta)
            yield start, base, delta


def _sealed_addend(tensor_file: Path, addend: Addend, copied: _Copied | None, durable: bool) -> str:
    """Write the file of an addend in place of ``tensor_file``, which may be the copy that its numbers come from."""
    places = {} if copied is None else {spec.name: (spec, at) for spec, at in leaf_offsets(copied.schema)}
    beside = tensor_file.with_name(f"{tensor_file.name}.sum")
    try:
        with _opened(beside) as file:
            writer = TensorFileWriter(file)
            writer.write(tensor_file_header(addend.schema))
            for spec in addend.schema.tensors:
                if spec.name in addend.fields:
                    writer.write(np.float64(addend.fields[spec.name]).tobytes())
                else:
                    if copied is None:
                        raise ValueError(f"tensor {spec.name} is of a model, and this update has none")
                    for numbers in copied.leaving(*places[spec.name]):
                        writer.write(bytes_of(_weighted(spec, numbers, addend.weight)))
            if durable:
                writer.sync()
        beside.replace(tensor_file)
        if durable:
            sync_folder(tensor_file.parent)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return writer.digest()


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
