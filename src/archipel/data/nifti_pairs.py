"""Datasets of kind ``nifti-pairs``: ``images/<subject>.nii.gz`` with ``labels/<subject>.nii.gz`` on the same grid.

The subject's id is the file's stem; nnU-Net's channel suffix ``_0000`` on images is tolerated. Only one channel is
read. Hidden files (``._x.nii.gz``, which some archives carry) are ignored.
"""

from __future__ import annotations

import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archipel.data.cohorts import Scan, Subject
from archipel.tensors import BlobHasher, blob_hash
from archipel.vocabulary import BadInput, ErrorCode

SUFFIX = ".nii.gz"
AFFINE_TOLERANCE = 1e-3
"""How far two affines may differ, in millimetres (and millimetres per voxel), and still be the same grid."""

FloatVolume = NDArray[np.float32]
LabelVolume = NDArray[np.int16]
Affine = NDArray[np.float64]


def scan(root: Path) -> Scan:
    """Read every volume under ``root`` once; collect all problems instead of stopping at the first."""
    problems: list[str] = []
    images = _files(root, "images", problems)
    labels = _files(root, "labels", problems)
    if not images and not labels and not problems:
        problems.append(
            f"{root.name}: no image found (looked in images/*{SUFFIX}); put the volumes there or name another folder"
        )
    subjects, shapes, spacings = [], [], []
    values: Counter[int] = Counter()
    for subject_id in sorted(images.keys() | labels.keys()):
        if subject_id not in labels:
            problems.append(
                f"{subject_id}: no label beside the image (looked for labels/{subject_id}{SUFFIX}); "
                "add the file or exclude the subject"
            )
        if subject_id not in images:
            problems.append(
                f"{subject_id}: no image for the label (looked for images/{subject_id}{SUFFIX}); "
                "add the file or remove the label"
            )
        files = {"image": images.get(subject_id), "label": labels.get(subject_id)}
        present = {role: path for role, path in files.items() if path is not None}
        volumes: dict[str, tuple[NDArray[Any], Affine]] = {}
        for role, path in present.items():
            try:
                volumes[role] = read_label(path) if role == "label" else read_image(path)
            except BadInput as error:
                problems.append(f"{subject_id}: {error}")
        if len(volumes) < 2:
            continue
        image, affine = volumes["image"]
        label, label_affine = volumes["label"]
        try:
            check_same_grid(subject_id, image.shape, affine, label.shape, label_affine)
        except BadInput as error:
            problems.append(str(error))
            continue
        subjects.append(_subject(root, subject_id, present))
        shapes.append(image.shape)
        spacings.append(np.linalg.norm(affine[:3, :3], axis=0))
        values.update(int(value) for value in np.unique(label))
    return Scan(tuple(subjects), tuple(problems), _schema(shapes, spacings, values))


def _files(root: Path, folder: str, problems: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted((root / folder).glob(f"*{SUFFIX}")):
        if path.name.startswith("."):
            continue
        stem = path.name.removesuffix(SUFFIX)
        subject_id = stem.removesuffix("_0000") if folder == "images" else stem
        if not path.resolve().is_relative_to(root.resolve()):
            problems.append(f"{folder}/{path.name}: is a link out of the dataset; copy the file itself into {folder}/")
        elif subject_id in found:
            problems.append(
                f"{subject_id}: two files in {folder}/ ({found[subject_id].name}, {path.name}); keep one of them"
            )
        else:
            found[subject_id] = path
    return found


def _subject(root: Path, subject_id: str, files: dict[str, Path]) -> Subject:
    hashes = {role: file_hash(path) for role, path in files.items()}
    return Subject(
        id=subject_id,
        files={role: path.relative_to(root).as_posix() for role, path in files.items()},
        hash=content_hash(hashes),
        file_hashes=hashes,
    )


def file_hash(path: Path) -> str:
    """The content address of a file, read in pieces."""
    hasher = BlobHasher()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            hasher.update(chunk)
    return hasher.digest()


def content_hash(file_hashes: dict[str, str]) -> str:
    """One hash over a subject's files, in the order of their roles."""
    return blob_hash("\n".join(f"{role} {file_hashes[role]}" for role in sorted(file_hashes)).encode())


def _schema(shapes: list[tuple[int, ...]], spacings: list[NDArray[Any]], values: Counter[int]) -> dict[str, Any]:
    if not shapes:
        return {"kind": "nifti-pairs", "subjects": 0}
    return {
        "kind": "nifti-pairs",
        "subjects": len(shapes),
        "shape_smallest": [int(size) for size in np.min(shapes, axis=0)],
        "shape_largest": [int(size) for size in np.max(shapes, axis=0)],
        "spacing_mm_median": [round(float(size), 4) for size in np.median(spacings, axis=0)],
        "label_values": {str(value): count for value, count in sorted(values.items())},
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
