"""One chunk of one tensor as every tensor file holds it: the stack that a strategy combines to one chunk.

The weighted mean reads tensor file after tensor file into one buffer, so its memory does not depend on the number of
tensor files; the rows of a stack are in memory together, one chunk per tensor file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from archipel.tensors.number_types import bytes_of, is_floating
from archipel.vocabulary import TensorSpec

Array = np.ndarray[Any, Any]


class NotFiniteUpdate(Exception):
    """An update that cannot be averaged: ``tensor`` of the one at ``index`` is not finite, or makes the sum so."""

    def __init__(self, index: int, tensor: str) -> None:
        super().__init__(f"tensor {tensor} of update {index} contains NaN or infinite values")
        self.index, self.tensor = index, tensor


@dataclass(frozen=True)
class ChunkStack:
    """``count`` numbers of tensor ``leaf`` from element ``start`` on, in each of the open tensor files ``descriptors``.

    ``offset`` is where the tensor's bytes begin in a tensor file. ``divisor`` is the sum of the weights that the
    updates were multiplied by where they were made; None for updates that were not.
    """

    leaf: TensorSpec
    offset: int
    start: int
    count: int
    descriptors: Sequence[int]
    divisor: float | None = None

    def mean(self, weights: Sequence[float]) -> Array:
        """sum(n * w) / sum(n), float64 [count], added in the order of the tensor files.

        For updates that were weighted at their sites, sum(w) / ``divisor``; each counts once, and ``weights`` are ones.
        Raises NotFiniteUpdate for the first tensor file that holds a NaN or an infinity, or that brings the sum there.
        """
        values = np.empty(self.count, self.leaf.dtype)
        total, product = np.empty(self.count), np.empty(self.count)
        # What is not finite stays so in every later sum: the sum is checked once, and the site is looked for only then.
        with np.errstate(over="ignore", invalid="ignore"):
            for index, (descriptor, weight) in enumerate(zip(self.descriptors, weights, strict=True)):
                self._read(descriptor, values)
                np.multiply(values, weight, out=product if index else total, dtype=np.float64)
                if index:
                    np.add(total, product, out=total)
            if is_floating(values.dtype) and not is_finite(total):
                raise NotFiniteUpdate(self._at_fault(weights, ~np.isfinite(total)), self.leaf.name)
            np.divide(total, float(sum(weights)) if self.divisor is None else self.divisor, out=total)
        return total

    def rows(self) -> Array:
        """What each tensor file holds, float64 [updates, count].

        Raises NotFiniteUpdate, and ValueError for updates of which only the sum may be read.
        """
        if self.divisor is not None:
            raise ValueError("only the sum of these updates may be read; the strategy must say that it needs each")
        values = np.empty(self.count, self.leaf.dtype)
        rows = np.empty((len(self.descriptors), self.count))
        for index, descriptor in enumerate(self.descriptors):
            self._read(descriptor, values)
            rows[index] = values
            if not is_finite(rows[index]):
                raise NotFiniteUpdate(index, self.leaf.name)
        return rows

    def _at_fault(self, weights: Sequence[float], where: Array) -> int:
        """The first tensor file with a NaN or an infinity; if each is finite, and only their sum of float64 numbers is
        not, the first with the largest product there.
        """
        values = np.empty(self.count, self.leaf.dtype)
        largest = []
        for index, (descriptor, weight) in enumerate(zip(self.descriptors, weights, strict=True)):
            self._read(descriptor, values)
            product = np.abs(np.multiply(values[where], weight, dtype=np.float64))
            if not np.isfinite(product).all():
                return index
            largest.append(float(product.max()))
        return int(np.argmax(largest))

    def _read(self, descriptor: int, values: Array) -> None:
        read_exactly(descriptor, values, self.offset + self.start * values.itemsize)


def in_type(mean: Array, dtype: np.dtype[Any] | str) -> Array:
    """A float64 mean in the leaf's own type: integers and booleans rounded to nearest, half to even."""
    kind = np.dtype(dtype)
    return mean.astype(kind) if is_floating(kind) else np.rint(mean).astype(kind)


def fits(mean: Array, dtype: np.dtype[Any] | str) -> bool:
    """Whether each of a float64 mean is finite, and still is in the leaf's own type, or in an integer's range."""
    kind = np.dtype(dtype)
    if kind.kind not in "iu":
        with np.errstate(over="ignore"):
            return is_finite(mean) and (kind.kind == "b" or is_finite(in_type(mean, kind)))
    limits, whole = np.iinfo(kind), np.rint(mean)
    return bool(((whole >= float(limits.min)) & (whole < float(limits.max) + 1)).all())


def is_finite(values: Array) -> bool:
    """Whether every value is finite; a finite sum proves it in one fast pass, otherwise each value is checked."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum())) or bool(np.isfinite(values).all())


def read_exactly(descriptor: int, values: Array, offset: int) -> None:
    """Fill ``values`` with the file's bytes from ``offset`` on. Raises OSError when the file ends before."""
    window = bytes_of(values)
    done = 0
    while done < window.nbytes:
        got = os.preadv(descriptor, [window[done:]], offset + done)
        if got == 0:
            raise OSError(f"a tensor file ended at byte {offset + done}")
        done += got
