"""Small NIfTI datasets for the tests of this room, each with one thing wrong on request."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np


def write(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine).to_filename(path)
    return path


def pair(root: Path, subject: str, shape=(6, 7, 8), seed: int = 0) -> None:
    numbers = np.random.default_rng(seed)
    write(root / "images" / f"{subject}.nii.gz", numbers.normal(100, 20, shape).astype(np.float32))
    write(root / "labels" / f"{subject}.nii.gz", numbers.integers(0, 3, shape).astype(np.uint8))


def dataset(root: Path, subjects: int = 3) -> Path:
    for number in range(subjects):
        pair(root, f"sub-{number:02}", seed=number)
    return root
