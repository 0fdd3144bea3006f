"""Volumes on disk: read with their affine, examined once, and held against each other.

An examination opens a file once and keeps what scans and reports ask for: shape, affine, intensities or label values.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archipel.data.reading import Affine, FloatVolume, LabelVolume
from archipel.tensors import blob_hash
from archipel.vocabulary import BadInput, ErrorCode

AFFINE_TOLERANCE = 1e-3
"""How far two affines may differ, in millimetres (and millimetres per voxel), and still be the same grid."""
IMAGE, MASK = "image/1", "label/1"
"""What an index calls the two examinations; a new number when they find other facts."""


def examine_image(path: Path) -> dict[str, Any]:
    """Shape, affine, type and intensities of an image. Raises BadInput as ``read_image`` does."""
    volume, affine = read_image(path)
    low, middle, high = (float(value) for value in np.percentile(volume, [1, 50, 99]))
    return {
        **_grid(volume.shape, affine),
        "minimum": float(volume.min()),
        "maximum": float(volume.max()),
        "mean": float(volume.mean(dtype=np.float64)),
        "spread": float(volume.std(dtype=np.float64)),
        "percentiles": [low, middle, high],
        "voxels": voxel_hash(volume),
    }


def examine_label(path: Path) -> dict[str, Any]:
    """Shape, affine and how many voxels have each value. Raises BadInput as ``read_label`` does."""
    volume, affine = read_label(path)
    counts = np.bincount(volume.ravel())
    return {
        **_grid(volume.shape, affine),
        "label_voxels": {str(value): int(counts[value]) for value in np.flatnonzero(counts)},
        "voxels": voxel_hash(volume),
    }


def voxel_hash(volume: NDArray[Any]) -> str:
    """A hash of the voxels as they are used, however the file stores them: the same image twice shows by it."""
    # First axis fastest, as NIfTI files are: no copy is made of a volume from one.
    return blob_hash(np.asfortranarray(volume).T.data.cast("B"))


def _grid(shape: tuple[int, ...], affine: Affine) -> dict[str, Any]:
    return {
        "shape": list(shape),
        "affine": [[float(value) for value in row] for row in affine],
        "spacing": [round(float(size), 5) for size in np.linalg.norm(affine[:3, :3], axis=0)],
    }


def _read(path: Path) -> tuple[NDArray[Any], Affine]:
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    folder = path.parent.name
    try:
        image = nibabel.load(path)
        values = np.asanyarray(image.dataobj)
        affine = np.asarray(image.affine, dtype=np.float64)
    except (EOFError, OSError, ValueError, ImageFileError, zlib.error) as error:
        raise BadInput(
            f"{folder}/{path.name}",
            f"cannot be read to its end ({type(error).__name__}); it may be truncated",
            "copy it again from its source or exclude the subject",
            code=ErrorCode.BAD_DATA,
        ) from error
    if values.ndim != 3:
        raise BadInput(
            f"{folder}/{path.name}",
            f"has {values.ndim} dimensions {list(values.shape)}",
            "give one 3-D volume per subject",
            code=ErrorCode.BAD_DATA,
        )
    if 0 in values.shape or abs(np.linalg.det(affine[:3, :3])) < 1e-9 or not np.isfinite(affine).all():
        raise BadInput(
            f"{folder}/{path.name}",
            "has no voxels or an affine that is not a grid",
            "export the volume again or exclude the subject",
            code=ErrorCode.BAD_DATA,
        )
    return values, affine


def read_image(path: Path) -> tuple[FloatVolume, Affine]:
    """A volume as float32 ``[X, Y, Z]`` in stored orientation with its 4x4 affine (voxel to millimetres).

    Raises BadInput for a file that cannot be read, is not 3-D, or holds NaN or infinite voxels.
    """
    values, affine = _read(path)
    volume = np.asarray(values, dtype=np.float32)
    unusable = volume.size - int(np.count_nonzero(np.isfinite(volume)))
    if unusable:
        raise BadInput(
            f"{path.parent.name}/{path.name}",
            f"{unusable} voxels are NaN or infinite",
            "export the volume again or exclude the subject",
            code=ErrorCode.BAD_DATA,
        )
    return volume, affine


def read_label(path: Path) -> tuple[LabelVolume, Affine]:
    """A label volume as int16 ``[X, Y, Z]`` with its affine.

    Raises BadInput for values that are not whole numbers in 0..32767.
    """
    values, affine = _read(path)
    whole = bool(np.isfinite(values).all() and (values == np.rint(values)).all())
    if not whole or values.min() < 0 or values.max() > np.iinfo(np.int16).max:
        raise BadInput(
            f"{path.parent.name}/{path.name}",
            "holds values that are not whole label numbers",
            "export the segmentation as integers from 0 or exclude the subject",
            code=ErrorCode.BAD_DATA,
        )
    return np.asarray(values, dtype=np.int16), affine


def check_same_grid(
    subject_id: str, shape: tuple[int, ...], affine: Affine, label_shape: tuple[int, ...], label_affine: Affine
) -> None:
    """Raise BadInput unless image and label have one shape and, within AFFINE_TOLERANCE, one affine."""
    if shape != label_shape:
        raise BadInput(
            subject_id,
            f"the image has shape {list(shape)} and the label {list(label_shape)}",
            "draw or resample the label on the image's grid, or exclude the subject",
            code=ErrorCode.BAD_DATA,
        )
    apart = float(np.abs(affine - label_affine).max())
    if apart > AFFINE_TOLERANCE:
        raise BadInput(
            subject_id,
            f"the affines of image and label differ by up to {apart:.4g} mm (tolerance {AFFINE_TOLERANCE})",
            "resample the label on the image's grid, or exclude the subject",
            code=ErrorCode.BAD_DATA,
        )
