"""Sums that add: the weighted mean of parameter trees, in memory as a value and leaf by leaf over frames on disk.

The law: ``(a + b).mean()`` is the mean of a and b weighted by their weights, and ``+`` is associative in exact
arithmetic. The streaming fold forms the same numbers as adding the values in the same order, bit for bit, in memory
that depends neither on the number of frames nor on the size of the model.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from archipel.tensors.frames import frame_header, leaf_offsets
from archipel.tensors.writing import FrameWriter
from archipel.vocabulary import TensorSchema, TensorSpec

Array = np.ndarray[Any, Any]
CHUNK_ELEMENTS = 1 << 17
"""How many numbers of a leaf are in memory at once, per frame buffer: small enough to stay in the processor's cache."""
THREADS = 2
"""How many chunks are formed at once; numpy lets go of the interpreter while it adds."""


@dataclass(frozen=True)
class WeightedSum:
    """sum(n * w) of parameter trees and sum(n), in float64."""

    total: Mapping[str, Array]
    weight: float

    @classmethod
    def of(cls, arrays: Mapping[str, Array], weight: float) -> WeightedSum:
        """One tree with its weight."""
        return cls({name: np.multiply(array, weight, dtype=np.float64) for name, array in arrays.items()}, weight)

    def __add__(self, other: WeightedSum) -> WeightedSum:
        total = {name: self.total[name] + other.total[name] for name in self.total}
        return WeightedSum(total, self.weight + other.weight)

    def mean(self, dtypes: Mapping[str, np.dtype[Any]] | None = None) -> dict[str, Array]:
        """sum(n * w) / sum(n), in each leaf's own type when ``dtypes`` gives it; integers are rounded to nearest."""
        means = {name: np.asarray(total / self.weight) for name, total in self.total.items()}
        return {name: in_type(mean, dtypes[name]) for name, mean in means.items()} if dtypes else means


def in_type(mean: Array, dtype: np.dtype[Any] | str) -> Array:
    """A float64 mean in the leaf's own type: integers and booleans rounded to nearest, half to even."""
    kind = np.dtype(dtype)
    return mean.astype(kind) if kind.kind == "f" else np.rint(mean).astype(kind)


LeafStep = Callable[[TensorSpec, int, Array], Array]
"""(tensor, first element, float64 mean of a chunk) -> the chunk of the next model, in float64."""


class NotFiniteFrame(Exception):
    """A frame that cannot be averaged: ``tensor`` of the frame at ``index`` is not finite, or makes the sum so."""

    def __init__(self, index: int, tensor: str) -> None:
        super().__init__(f"tensor {tensor} of frame {index} holds NaN or infinite values")
        self.index, self.tensor = index, tensor


def keep_mean(_spec: TensorSpec, _start: int, mean: Array) -> Array:
    """The step that makes the mean itself the next model (FedAvg)."""
    return mean


def fold(
    schema: TensorSchema, frames: Sequence[Path], weights: Sequence[float], out: Path, step: LeafStep = keep_mean
) -> str:
    """Write the next model's frame to ``out`` from the weighted mean of ``frames``, in their given order.

    All frames have this schema (checked when they were received). Memory is a few chunks, whatever the number and
    size of the frames. Returns the content address of what was written; the caller renames and records it.
    Raises NotFiniteFrame for the first frame that holds a NaN or an infinity, or that brings the sum there.
    """
    if not frames or len(frames) != len(weights) or not sum(weights) > 0:
        raise ValueError("fold needs one positive-sum weight a frame and at least one frame")
    if len(frames) == 1:
        # n * w / n is not w in float64; one site's model must come out bit for bit.
        weights = [1.0]
    descriptors: list[int] = []
    try:
        descriptors.extend(os.open(frame, os.O_RDONLY | os.O_CLOEXEC) for frame in frames)
        with out.open("wb", buffering=0) as file:
            writer = FrameWriter(file)
            writer.write(frame_header(schema))
            for chunk in _folded(schema, descriptors, weights, step):
                writer.write(chunk.data.cast("B"))
            writer.sync()
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return writer.digest()


def _folded(
    schema: TensorSchema, descriptors: Sequence[int], weights: Sequence[float], step: LeafStep
) -> Iterator[Array]:
    """The chunks of the next model in order, a few of them formed at the same time."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: deque[Future[Array]] = deque()
        try:
            for spec, offset in leaf_offsets(schema):
                for start in range(0, spec.elements, CHUNK_ELEMENTS):
                    if len(waiting) == 2 * THREADS:
                        yield waiting.popleft().result()
                    waiting.append(pool.submit(_mean_chunk, spec, offset, start, descriptors, weights, step))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for left in waiting:
                left.cancel()


def _mean_chunk(
    spec: TensorSpec, offset: int, start: int, descriptors: Sequence[int], weights: Sequence[float], step: LeafStep
) -> Array:
    dtype = np.dtype(spec.dtype)
    count = min(CHUNK_ELEMENTS, spec.elements - start)
    values = np.empty(count, dtype)
    total, product = np.empty(count), np.empty(count)
    for index, (descriptor, weight) in enumerate(zip(descriptors, weights, strict=True)):
        _read_exactly(descriptor, values.data.cast("B"), offset + start * dtype.itemsize)
        np.multiply(values, weight, out=product if index else total, dtype=np.float64)
        if index:
            with np.errstate(over="ignore"):
                np.add(total, product, out=total)
        if dtype.kind == "f" and not _is_finite(product if index else total):
            raise NotFiniteFrame(index, spec.name)
    if dtype == np.float64 and not _is_finite(total):
        # Every product is finite and their sum is not, which narrower types cannot come to.
        raise NotFiniteFrame(_farthest(spec, offset, start, descriptors, weights, ~np.isfinite(total)), spec.name)
    np.divide(total, float(sum(weights)), out=total)
    return in_type(step(spec, start, total), dtype)


def _farthest(
    spec: TensorSpec, offset: int, start: int, descriptors: Sequence[int], weights: Sequence[float], where: Array
) -> int:
    """The frame that brings a sum of float64 numbers out of bounds: the first of those with the largest product."""
    values = np.empty(len(where))
    largest = []
    for descriptor, weight in zip(descriptors, weights, strict=True):
        _read_exactly(descriptor, values.data.cast("B"), offset + start * values.itemsize)
        largest.append(float(np.abs(values[where] * weight).max()))
    return int(np.argmax(largest))


def _is_finite(values: Array) -> bool:
    """Whether every value is finite; a finite sum shows it in one fast pass, else each is looked at."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum())) or bool(np.isfinite(values).all())


def _read_exactly(descriptor: int, window: memoryview, offset: int) -> None:
    done = 0
    while done < window.nbytes:
        got = os.preadv(descriptor, [window[done:]], offset + done)
        if got == 0:
            raise OSError(f"a frame ended at byte {offset + done}")
        done += got
