"""How much room prepared samples will take, held against what they do take."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from archipel.data import DataMapping, DataSchema, Preprocessing
from archipel.site.datasets.estimates import BESIDE, at_least, estimated, too_large
from archipel.site.execution.preparation import prepared
from archipel.site.services import cohorts, datasets
from archipel.site.state import SiteSettings
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


def test_what_the_settings_have_no_room_for_is_said_before_anything_is_prepared(
    hospital: StateFolder, tmp_path: Path
) -> None:
    entry = datasets.add(hospital, "heads", phantoms(tmp_path / "heads"), "nifti-pairs", by=ANNA).dataset
    cohort = cohorts.freeze(hospital, entry).cohort
    assert at_least(entry.summary).size <= estimated(hospital.database, entry, cohort).size
    assert not list(too_large(entry.summary, hospital.settings))
    many = entry.summary.model_copy(update={"samples": 100_000, "modalities": {"image": 100_000}})
    disk, memory = too_large(many, hospital.settings)
    voxels = 50 * 60 * 14
    assert disk.severity == memory.severity == "warning"
    assert str(disk) == (
        f"prepared samples: all 100000 samples take at least {voxels * 6 * 100_000 >> 20} MiB on disk for plans, and "
        "cache_mb in site.toml allows 16384; raise cache_mb before an experiment starts"
    )
    assert f"takes more than {(voxels * 6 + BESIDE) * 100_000 >> 20} MiB, and the policy of this site" in str(memory)


def test_rows_that_do_not_fit_are_named_by_both_settings_that_their_remedies_raise() -> None:
    rows = DataSchema(
        kind="arrays", subjects=1_000_000, samples=1_000_000, arrays={"x": "float64 [4096]", "y": "int8 []"}
    )
    settings = SiteSettings(site="charite")
    assert [one.thing for one in too_large(rows, settings)] == ["prepared samples", "memory"]
    limits = settings.policy.limits.model_copy(update={"memory_mb": 40_000})
    policy = settings.policy.model_copy(update={"limits": limits})
    assert not list(too_large(rows, settings.model_copy(update={"cache_mb": 40_000, "policy": policy})))
