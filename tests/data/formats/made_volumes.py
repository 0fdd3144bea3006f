"""Volumes that the tests of formats write: small, each different, with an affine that is not an identity."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from worlds.data_files import write_volume

SHAPE = (5, 6, 7)
AFFINE = np.array([[-1.5, 0, 0.1, 20], [0, 1.25, 0, -30], [0.1, 0, 2, 7.5], [0, 0, 0, 1]])


def intensities(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def segmentation(seed: int, shape: tuple[int, ...] = SHAPE, values: int = 3) -> np.ndarray:
    return np.random.default_rng(1000 + seed).integers(0, values, shape).astype(np.uint8)


def nifti(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    return write_volume(path, values, affine)
