"""Files named by patient and visit: ``dataset add`` asks whose they are, and the options that it proposes work."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from archipel.data import scan
from archipel.data.limits import DataLimits
from archipel.site.datasets import UnclearPatients, catalog
from archipel.site.services import datasets
from archipel.site.state.folder import StateFolder
from archipel.site.withdrawals.withdrawals import withdraw
from archipel.site.withdrawn.opt_outs import OptOut
from archipel.vocabulary import BadInput
from worlds.data_files import write_pair, write_volume
from worlds.people import ANNA
from worlds.site import Terminal

NAMES = ("P00_20200101", "P00_20210101", "P01_20200101", "P02_20200101")


def pairs(root: Path) -> Path:
    for seed, name in enumerate(NAMES):
        write_pair(root, name, seed=seed)
    return root


def groups(root: Path) -> Path:
    for seed, name in enumerate(NAMES):
        image = np.random.default_rng(seed).normal(100, 20, (6, 7, 8)).astype(np.float32)
        write_volume(root / ("control" if seed == 2 else "disease") / f"{name}.nii.gz", image)
    return root


def folders(root: Path) -> Path:
    for seed, name in enumerate(NAMES):
        for modality in ("T1", "T2"):
            image = np.random.default_rng(seed).normal(100, 20, (6, 7, 8)).astype(np.float32)
            write_volume(root / name / modality / "image.nii.gz", image)
    return root


def pictures(root: Path) -> Path:
    for seed, name in enumerate(NAMES):
        place = root / ("normal" if seed == 2 else "sick") / f"{name}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8)).astype(np.uint8)).save(place)
    return root


LAYOUTS = [
    ("nifti-pairs", pairs),
    ("nifti-groups", groups),
    ("medical-folder", folders),
    ("class-folders", pictures),
]


def options_in(text: str) -> list[list[str]]:
    """The two sets of options that the sentence offers: as visits, and as patients."""
    parts = text.split("; if each name is a patient, add ")
    assert len(parts) == 2, text
    return [shlex.split(part.split(", add ")[-1]) for part in parts]


@pytest.mark.parametrize(("layout", "make"), LAYOUTS, ids=[layout for layout, _ in LAYOUTS])
def test_without_a_terminal_the_two_ways_out_are_named_and_work(
    hospital: StateFolder, tmp_path: Path, layout: str, make
) -> None:
    terminal, root = Terminal(hospital.folder), make(tmp_path / "data")
    refused = terminal("dataset", "add", "d", str(root), "--format", layout)
    assert refused.exit_code == 1 and isinstance(refused.exception, UnclearPatients)
    said = str(refused.exception)
    assert "has 4 names that share all but a date (P00_20200101 and P00_20210101)" in said
    assert not catalog.datasets(hospital.database)
    visits, patients = options_in(said)
    added = terminal("dataset", "add", "d", str(root), "--format", layout, *visits)
    assert added.exit_code == 0 and "dataset d added: 3 subjects" in added.stdout, added.output
    entry = catalog.dataset(hospital.database, "d")
    assert (entry.subjects, entry.summary.samples) == (3, 4)
    each = terminal("dataset", "add", "e", str(root), "--format", layout, *patients)
    assert each.exit_code == 0 and "dataset e added: 4 subjects" in each.stdout, each.output
    assert {one.session for one in scan(layout, root, {"subject": ".+"}).samples} == {""}


@pytest.mark.parametrize(("answer", "subjects"), [("y\n", 3), ("n\n", 4)])
def test_at_a_terminal_a_person_is_asked(
    hospital: StateFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, subjects: int
) -> None:
    monkeypatch.setattr("archipel.cli.site_dataset.at_a_terminal", lambda: True)
    asked = Terminal(hospital.folder)("dataset", "add", "d", str(pairs(tmp_path / "data")), answer=answer)
    assert asked.exit_code == 0, asked.output
    assert "share all but a date (P00_20200101 and P00_20210101)" in asked.stdout
    assert f"dataset d added: {subjects} subjects" in asked.stdout


def test_visits_of_one_patient_are_withdrawn_excluded_and_split_together(hospital: StateFolder, tmp_path: Path) -> None:
    options = {"subject": "^[^_]+", "session": "[^_]+$"}
    root = pairs(tmp_path / "data")
    datasets.add(hospital, "d", root, "nifti-pairs", options=options, by=ANNA)
    withdraw(hospital, [OptOut("P00")], by=ANNA)
    assert catalog.dataset(hospital.database, "d").subjects == 2
    found = datasets.rescan(hospital, catalog.dataset(hospital.database, "d"))
    assert [one.key for one in found.samples] == [("P01", "20200101"), ("P02", "20200101")]
    assert datasets.exclude(hospital, "d", ["P01"], by=ANNA).subjects == 1


def test_a_withdrawn_patients_files_are_not_opened(tmp_path: Path) -> None:
    root = pairs(tmp_path / "data")
    for name in NAMES[:2]:
        (root / "images" / f"{name}.nii.gz").write_bytes(b"damaged")
    found = scan("nifti-pairs", root, {"subject": "^[^_]+"}, leaves_out={"P00"}.__contains__)
    assert not found.problems and [one.subject for one in found.samples] == ["P01", "P02"]
    assert [one.session for one in found.samples] == ["P01_20200101", "P02_20200101"]
    faulty = scan("nifti-pairs", root, {"subject": "^[^_]+"})
    assert {one.subject for one in faulty.errors} == {"P00"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"subject": "("}, "option subject=("),
        ({"subject": "^[^_]+", "session": "["}, "option session=["),
        ({"session": "[^_]+$"}, "needs the option subject beside it"),
        ({"subject": "x" * 201}, "is longer than 200 letters"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_named(tmp_path: Path, options: dict[str, str], said: str) -> None:
    with pytest.raises(BadInput) as caught:
        scan("nifti-pairs", pairs(tmp_path / "data"), options)
    assert said in str(caught.value)


def test_a_name_without_a_patient_is_an_error_of_that_file_and_twice_the_same_visit_too(tmp_path: Path) -> None:
    root = pairs(tmp_path / "data")
    found = scan("nifti-pairs", root, {"subject": "^P0[01]"})
    assert [str(one) for one in found.errors] == [
        "P02_20200101: has no patient in its name; fix the option subject, or rename"
    ]
    twice = scan("nifti-pairs", root, {"subject": "^[^_]+", "session": "^P"})
    assert ["is there twice" in one.cause for one in twice.errors] == [True] and twice.errors[0].subject == "P00"


@pytest.mark.processes
def test_a_pattern_that_takes_centuries_ends(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_pair(root, "a" * 40)
    with pytest.raises(BadInput, match="needs more than"):
        scan("nifti-pairs", root, {"subject": "^(a+)+b$"}, limits=DataLimits(pattern_s=1))


def test_ids_in_a_file_of_arrays_are_a_warning(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(4, 2))
    np.savez(tmp_path / "t.npz", x=x, y=np.arange(4), subject=list(NAMES))
    (warning,) = scan("npz", tmp_path).problems
    assert "4 subject ids share all but a date" in warning.cause and warning.severity == "warning"


def test_a_table_beside_the_volumes_may_name_the_patient(tmp_path: Path) -> None:
    root = folders(tmp_path / "data")
    (root / "demographics.csv").write_text("id,age\nP00,50\nP01,60\nP02,70\nP09,80\n")
    found = scan("medical-folder", root, {"subject": "^[^_]+", "session": "[^_]+$"})
    assert [(one.key, one.values) for one in found.samples[:3]] == [
        (("P00", "20200101"), {"age": 50}),
        (("P00", "20210101"), {"age": 50}),
        (("P01", "20200101"), {"age": 60}),
    ]
    assert [one.thing for one in found.problems] == ["P09"]
