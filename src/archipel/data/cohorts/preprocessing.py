"""Preprocessing: what is done to every sample once, before any plan reads it; a cohort's hash covers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from archipel.data.sample_data import Affine, FloatVolume, LabelVolume, SampleData
from archipel.vocabulary import ArchipelError, ErrorCode, Record

Millimetres = Annotated[float, Field(ge=0.05, le=100)]


class Preprocessing(Record):
    """Preprocessing that a site chose for a cohort. The default does nothing: plans get what the files hold.

    ``spacing_mm``: the voxel sizes to which volumes are resampled, along the axes that the mapping's orientation gives.
    """

    spacing_mm: tuple[Millimetres, Millimetres, Millimetres] | None = None


def apply(recipe: Preprocessing, reading: SampleData) -> SampleData:
    """The sample after preprocessing: images by linear interpolation, the label by its nearest voxel.

    The field of view stays where it is, to less than a voxel at its end. Shrinking does not smooth first.
    """
    if reading.affine is None:
        return reading
    ratio = _ratio(recipe, reading.affine)
    if ratio is None:
        return reading
    affine = reading.affine @ np.block(
        [[np.diag(ratio), ((ratio - 1) / 2)[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]]
    )
    images = {name: _resampled(image, ratio, order=1) for name, image in reading.images.items()}
    label = None if reading.label is None else np.asarray(_resampled(reading.label, ratio, order=0), dtype=np.int16)
    return SampleData(images=images, label=label, affine=affine, arrays=reading.arrays, values=reading.values)


def shape_after(recipe: Preprocessing, shape: Sequence[int], affine: Affine) -> tuple[int, ...]:
    """The shape of a volume after preprocessing, from its shape and affine before."""
    ratio = _ratio(recipe, affine)
    return tuple(shape) if ratio is None else _shape(shape, ratio)


def _ratio(recipe: Preprocessing, affine: Affine) -> Affine | None:
    """How many stored voxels a new one is long, along each axis; None when it stays as it is."""
    if recipe.spacing_mm is None:
        return None
    ratio = np.asarray(recipe.spacing_mm) / np.linalg.norm(affine[:3, :3], axis=0)
    return None if np.allclose(ratio, 1.0, atol=1e-6) else ratio


def _shape(shape: Sequence[int], ratio: Affine) -> tuple[int, ...]:
    return tuple(max(1, round(size / step)) for size, step in zip(shape, ratio.tolist(), strict=True))


def _resampled(volume: FloatVolume | LabelVolume, ratio: Affine, order: int) -> FloatVolume:
    try:
        from scipy.ndimage import affine_transform
    except ImportError as error:
        raise ArchipelError(
            "resampling", "needs SciPy, which is not installed", "pip install 'archipel[torch]'",
            code=ErrorCode.CONFIGURATION,
        ) from error  # fmt: skip
    shape = _shape(volume.shape, ratio)
    resampled: FloatVolume = affine_transform(
        volume, ratio, offset=(ratio - 1) / 2, output_shape=shape, order=order, mode="nearest"
    )
    return resampled
