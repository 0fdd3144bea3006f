"""From a stored volume to a network's input and back: canonical orientation, z-score, a common shape.

The way back is kept with every volume, so that a prediction always ends on the voxel grid of the image it was made for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archipel.data import Affine, FloatVolume, Orientation
from archipel.vocabulary import BadInput, ErrorCode

Shape = tuple[int, int, int]


class Levels(NamedTuple):
    """A volume's 0.5 and 99.5 percentiles, and mean and standard deviation of what is clipped to them."""

    low: Any
    high: Any
    mean: Any
    spread: float

    @classmethod
    def of(cls, volume: FloatVolume) -> Levels:
        """Measure a volume; that takes most of the time of normalising it."""
        low, high = np.percentile(volume, [0.5, 99.5])
        clipped = np.clip(volume, low, high)
        return cls(low, high, clipped.mean(), float(clipped.std()))


def normalised(volume: FloatVolume, levels: Levels | None = None) -> FloatVolume:
    """Clipped to its 0.5 and 99.5 percentiles, then mean 0 and standard deviation 1; ``levels`` if known already."""
    low, high, mean, spread = levels or Levels.of(volume)
    clipped = np.clip(volume, low, high)
    return np.asarray((clipped - mean) / (spread if spread > 0 else 1.0), dtype=np.float32)


@dataclass(frozen=True)
class Window:
    """The place of a volume in a common shape: centred, cut where it is larger, padded where it is smaller."""

    volume: tuple[slice, ...]
    common: tuple[slice, ...]
    volume_shape: tuple[int, ...]
    common_shape: tuple[int, ...]

    @classmethod
    def centred(cls, volume_shape: Sequence[int], common_shape: Sequence[int]) -> Window:
        """The centred window between the two shapes."""
        parts = [_centred(own, common) for own, common in zip(volume_shape, common_shape, strict=True)]
        return cls(
            tuple(part[0] for part in parts), tuple(part[1] for part in parts), tuple(volume_shape), tuple(common_shape)
        )

    def fit(self, volume: NDArray[Any]) -> NDArray[Any]:
        """The volume in the common shape, zero outside."""
        fitted = np.zeros(self.common_shape, volume.dtype)
        fitted[self.common] = volume[self.volume]
        return fitted

    def undo(self, fitted: NDArray[Any]) -> NDArray[Any]:
        """A volume of the common shape on the original grid, zero where it was cut."""
        volume = np.zeros(self.volume_shape, fitted.dtype)
        volume[self.volume] = fitted[self.common]
        return volume


def _centred(own: int, common: int) -> tuple[slice, slice]:
    if own >= common:
        start = (own - common) // 2
        return slice(start, start + common), slice(0, common)
    start = (common - own) // 2
    return slice(0, own), slice(start, start + own)


def check_spacing(thing: str, affine: Affine, spacing: tuple[float, float, float], tolerance: float) -> None:
    """Raise BadInput when a RAS volume's voxels differ from ``spacing`` (mm) by more than the relative tolerance."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    plan_axes_mm = sizes[list(Orientation.of(affine).axes)]
    if np.any(np.abs(plan_axes_mm / np.asarray(spacing) - 1) > tolerance):
        shown = " x ".join(f"{size:.3g}" for size in plan_axes_mm)
        wanted = " x ".join(f"{size:.3g}" for size in spacing)
        raise BadInput(
            thing,
            f"has voxels of {shown} mm where the plan works on {wanted} mm",
            "resample the dataset or use a plan for this resolution",
            code=ErrorCode.BAD_DATA,
            values={"found_mm": shown, "needed_mm": wanted},
        )
