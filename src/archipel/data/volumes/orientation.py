"""Orientation: how a stored volume is turned so that its axes run to the patient's right, front and top (RAS)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archipel.data.sample_data import Affine


@dataclass(frozen=True)
class Orientation:
    """How a stored volume is turned so that its axes run to the patient's right, front and top (RAS)."""

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]

    @classmethod
    def of(cls, affine: Affine) -> Orientation:
        """The turn that brings a volume with this affine to RAS."""
        return _turn(np.ascontiguousarray(affine, dtype=np.float64).tobytes())

    def apply(self, volume: NDArray[Any]) -> NDArray[Any]:
        """The volume in RAS."""
        turned = volume.transpose(self.axes)
        return np.ascontiguousarray(turned[tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)])

    def undo(self, volume: NDArray[Any]) -> NDArray[Any]:
        """A RAS volume back in stored orientation."""
        turned = volume[tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)]
        return np.ascontiguousarray(turned.transpose(tuple(np.argsort(self.axes))))

    def turned(self, affine: Affine, shape: tuple[int, ...]) -> Affine:
        """The affine of the turned volume, from that of the stored one and the stored shape."""
        place = np.zeros((4, 4))
        place[3, 3] = 1
        for new, (axis, flip) in enumerate(zip(self.axes, self.flipped, strict=True)):
            place[axis, new] = -1 if flip else 1
            place[axis, 3] = shape[axis] - 1 if flip else 0
        return np.asarray(affine @ place)


@lru_cache(maxsize=1024)
def _turn(affine: bytes) -> Orientation:
    """Cached, because a plan asks for it several times per volume and a dataset has few affines."""
    from nibabel.orientations import io_orientation

    codes = io_orientation(np.frombuffer(affine).reshape(4, 4))
    order = np.argsort(codes[:, 0])
    flips = codes[order, 1] < 0
    x, y, z = (int(axis) for axis in order)
    flip_x, flip_y, flip_z = (bool(flip) for flip in flips)
    return Orientation((x, y, z), (flip_x, flip_y, flip_z))
