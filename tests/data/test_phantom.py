from __future__ import annotations

import json
from dataclasses import astuple

import nibabel
import numpy as np
import pytest

from archipel.data import scan
from archipel.data.synthetic import phantom
from archipel.vocabulary import BadInput


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        phantom.generate(tmp_path / name, ("site-a", "site-b"), subjects_per_site=2, seed=5)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 10
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_a_phantom_is_a_sound_dataset_with_both_parts_in_every_subject(tmp_path):
    (folder,) = phantom.generate(tmp_path, ("site-a",), subjects_per_site=3)
    found = scan("nifti-pairs", folder)
    assert found.problems == ()
    assert found.schema.label_values == {"0": 3, "1": 3, "2": 3}


def test_a_recorded_volume_can_be_rendered_again_from_its_parameters(tmp_path):
    (folder,) = phantom.generate(tmp_path, ("site-a",), subjects_per_site=1, seed=3)
    recorded = json.loads((folder / "parameters.json").read_text())
    lists = {key: tuple(value) if isinstance(value, list) else value for key, value in recorded["scanner"].items()}
    anatomy = recorded["subjects"]["site-a-000"]
    anatomy = {key: tuple(value) if isinstance(value, list) else value for key, value in anatomy.items()}
    image, label = phantom.render(phantom.SubjectParameters(**anatomy), phantom.Scanner(**lists))
    stored = np.asarray(nibabel.load(folder / "images/site-a-000.nii.gz").dataobj)
    assert np.array_equal(np.rint(image).astype(np.int16), stored)
    assert np.array_equal(label, np.asarray(nibabel.load(folder / "labels/site-a-000.nii.gz").dataobj))


def test_scanners_differ_between_sites_and_leave_anatomy_alone():
    machines = [phantom.scanner(number, 0) for number in range(3)]
    assert len({astuple(machine) for machine in machines}) == 3
    anatomy = phantom.subject(0, 0, 0)
    seen = [phantom.render(anatomy, machine) for machine in machines]
    assert all(np.array_equal(seen[0][1], label) for _, label in seen)
    parts = [image[label == 1].mean() - image[label == 2].mean() for image, label in seen]
    assert min(parts) < 0 < max(parts), "which part is the brighter one depends on the scanner"


def test_an_existing_phantom_is_not_overwritten(tmp_path):
    phantom.generate(tmp_path, ("site-a",), subjects_per_site=1)
    with pytest.raises(BadInput, match="is not empty"):
        phantom.generate(tmp_path, ("site-a",), subjects_per_site=1)
