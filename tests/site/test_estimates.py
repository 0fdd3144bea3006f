"""How much room prepared samples will take, held against what they do take."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from archipel.data import DataMapping, Preprocessing
from archipel.site.datasets.estimates import estimated
from archipel.site.execution.preparation import prepared
from archipel.site.services import cohorts, datasets
from archipel.site.state.folder import StateFolder
from worlds.data_files import write_volume
from worlds.people import ANNA

LYING = np.array([[0, 0, -3.0, 90], [0.8, 0, 0, -20], [0, 0.4, 0, 5], [0, 0, 0, 1]])
"""Voxels of 0.8 x 0.4 x 3 mm whose axes run to the front, the top and the left."""


def phantoms(root: Path, subjects: int = 3) -> Path:
    for number in range(subjects):
        draw = np.random.default_rng(number)
        shape = (50, 60 + number, 14)
        write_volume(root / f"images/sub-{number}.nii.gz", draw.normal(9, 2, shape).astype(np.float32), LYING)
        write_volume(root / f"labels/sub-{number}.nii.gz", draw.integers(0, 3, shape).astype(np.uint8), LYING)
    return root


@pytest.mark.parametrize("orientation", ["", "RAS"])
@pytest.mark.parametrize("spacing", [None, (1.0, 1.0, 1.0), (3.0, 0.8, 0.4), (0.4, 0.8, 2.0)])
def test_the_estimate_is_the_size_of_what_is_prepared(
    hospital: StateFolder, tmp_path: Path, spacing: tuple[float, float, float] | None, orientation: str
) -> None:
    mapping = DataMapping(orientation=orientation)
    entry = datasets.add(
        hospital, "heads", phantoms(tmp_path / "heads"), "nifti-pairs", mapping=mapping, by=ANNA
    ).dataset
    cohort = cohorts.freeze(hospital, entry, recipe=Preprocessing(spacing_mm=spacing)).cohort
    with asyncio.run(prepared(hospital, Path(entry.root), cohort)) as made:
        # A file has its arrays on whole pages, and a description.
        assert 0 <= made.size - estimated(hospital.database, entry, cohort).size < 3 * 3 * 4096
