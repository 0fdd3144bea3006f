"""Small datasets in folders: a table of rows, pairs of NIfTI volumes."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np


def write_rows(root: Path, rows: int = 6, seed: int = 0) -> Path:
    """A table.npz of three columns and two classes; the folder."""
    numbers = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    ids = np.array([f"p-{n:03}" for n in range(rows)])
    np.savez(root / "table.npz", x=numbers.normal(size=(rows, 3)), y=np.arange(rows) % 2, subject=ids)
    return root


_written: dict[tuple[object, ...], bytes] = {}
"""The files of small volumes, by what is in them: nibabel takes a millisecond for each, hundreds of tests the same."""


def write_volume(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    affine = np.eye(4) if affine is None else affine
    path.parent.mkdir(parents=True, exist_ok=True)
    if values.nbytes > 1 << 14 or not path.name.endswith((".nii", ".nii.gz")):
        nibabel.Nifti1Image(values, affine).to_filename(path)
        return path
    what = (path.suffix, str(values.dtype), values.shape, values.tobytes(), str(affine.dtype), affine.tobytes())
    if what in _written:
        path.write_bytes(_written[what])
    else:
        nibabel.Nifti1Image(values, affine).to_filename(path)
        _written[what] = path.read_bytes()
    return path


def write_pair(root: Path, subject: str, shape=(6, 7, 8), seed: int = 0) -> None:
    """An image and a label map of three classes."""
    numbers = np.random.default_rng(seed)
    image = numbers.normal(100, 20, shape).astype(np.float32)
    write_volume(root / "images" / f"{subject}.nii.gz", image)
    write_volume(root / "labels" / f"{subject}.nii.gz", numbers.integers(0, 3, shape).astype(np.uint8))


def write_pairs(root: Path, subjects: int = 3) -> Path:
    """Pairs of this many subjects, each with its own seed; the folder."""
    for number in range(subjects):
        write_pair(root, f"sub-{number:02}", seed=number)
    return root
