"""Sealing: a result is copied out of memory that the plan can still write into a file of the site's own.

What is hashed, kept and sent are the same bytes, whatever the plan does meanwhile. The steps of the job's privacy
terms pass over the copy, never over the plan's memory: both of their passes see the same bytes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path

import numpy as np

from archipel.privacy import Step
from archipel.storage import disk_errors_named, sync_folder
from archipel.tensors import Array, TensorFileWriter, in_type, leaf_offsets, tensor_file_header
from archipel.tensors.sums import CHUNK_ELEMENTS
from archipel.vocabulary import BadInput, ErrorCode, TensorSchema, TensorSpec

CHUNK = 1 << 20


def reusable_file(tensor_file: Path) -> Path:
    """Where a tensor file that is no longer needed waits to be written over by its experiment's next one."""
    return tensor_file.with_name(f"{tensor_file.name.split('.')[0]}.spare")


def seal(
    schema: TensorSchema,
    result: memoryview,
    tensor_file: Path,
    steps: Sequence[Step] = (),
    given: memoryview | None = None,
) -> str:
    """Copy a result into a durable file of the site's own and return the hash of what the file holds.

    The header is the job's, never the result's. The experiment's ``reusable_file`` is overwritten if there is one: new
    pages and blocks for each round would cost more than the copy. With ``steps``, each of them in turn changes the copy
    in place; ``given`` is the tensor file of the model that the result was trained from. Raises StorageFull, and
    BadInput for an update that is not finite when a step is to measure it; nothing is left behind then.
    """
    head = tensor_file_header(schema)
    chunk = bytearray(CHUNK)
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
            if steps:
                if given is None:
                    raise ValueError("steps need the model that the result was trained from")
                writer = _changed(schema, file, given, steps)
            writer.sync()
            sync_folder(tensor_file.parent)
    except BaseException:
        tensor_file.unlink(missing_ok=True)
        raise
    return writer.digest()


def _changed(schema: TensorSchema, file: FileIO, given: memoryview, steps: Sequence[Step]) -> TensorFileWriter:
    """Let each step measure what the steps before it make of the copy; then write what all of them make of it."""
    for number, step in enumerate(steps):
        for leaf, start, _, delta in _deltas(schema, file, given, steps[:number]):
            step.measure(leaf, start, delta)
    file.seek(0)
    writer = TensorFileWriter(file)
    writer.write(tensor_file_header(schema))
    for leaf, _, base, delta in _deltas(schema, file, given, steps):
        writer.write(np.ascontiguousarray(in_type(base + delta, leaf.dtype)).data.cast("B"))
    return writer


def _deltas(
    schema: TensorSchema, file: FileIO, given: memoryview, steps: Sequence[Step]
) -> Iterator[tuple[TensorSpec, int, Array, Array]]:
    """Each chunk in tensor file order: its leaf, its first element, the given model's numbers, and the update's,
    float64.
    """
    for leaf, offset in leaf_offsets(schema):
        size = np.dtype(leaf.dtype).itemsize
        for start in range(0, leaf.elements, CHUNK_ELEMENTS):
            count, at = min(CHUNK_ELEMENTS, leaf.elements - start), offset + start * np.dtype(leaf.dtype).itemsize
            copied = os.pread(file.fileno(), count * size, at)
            base = np.frombuffer(given[at : at + count * size], leaf.dtype).astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                delta = np.frombuffer(copied, leaf.dtype).astype(np.float64) - base
            if not np.isfinite(delta).all():
                cause = "holds NaN or infinite values, which no privacy step can bound"
                remedy = "let the plan train with a smaller step"
                raise BadInput(f"tensor {leaf.name} of the update", cause, remedy, code=ErrorCode.NOT_FINITE)
            for step in steps:
                delta = step.apply(leaf, start, delta)
            yield leaf, start, base, delta


def _opened(tensor_file: Path) -> FileIO:
    descriptor = os.open(tensor_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "r+b", buffering=0)
