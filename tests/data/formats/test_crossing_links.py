"""A link under one patient's name that leads to another patient's file is refused, also when the other withdrew."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from archipel.data import Scan, scan
from worlds.data_files import write_pair, write_volume

WORDS = "is a link to a file of another patient; put the patient's own file in its place, or remove the link"


def pairs(root: Path) -> Path:
    for number in range(3):
        write_pair(root, f"sub-{number:02}", (4, 4, 4), seed=number)
    return root


def linked(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def errors(found: Scan) -> list[str]:
    return [str(one) for one in found.errors]


def nobody(subject: str) -> bool:
    return False


@pytest.mark.parametrize("leaves_out", [nobody, {"sub-00"}.__contains__])
@pytest.mark.parametrize("role", ["images", "labels"])
def test_a_link_to_another_patients_volume_is_refused(
    tmp_path: Path, role: str, leaves_out: Callable[[str], bool]
) -> None:
    root = pairs(tmp_path)
    linked(root / role / "sub-01.nii.gz", "sub-00.nii.gz")
    found = scan("nifti-pairs", root, leaves_out=leaves_out)
    assert errors(found) == [f"{role}/sub-01.nii.gz: {WORDS}"] and found.errors[0].subject == "sub-01"
    assert "sub-01" not in {one.subject for one in found.samples}
    assert "sub-00" not in "".join(map(str, found.problems)), "whose file it is may be a withdrawn patient's id"


def test_a_link_to_a_faulty_patients_file_is_refused(tmp_path: Path) -> None:
    root = pairs(tmp_path)
    (root / "labels/sub-00.nii.gz").write_bytes(b"no volume")
    linked(root / "images/sub-01.nii.gz", "sub-00.nii.gz")
    assert any(WORDS in one for one in errors(scan("nifti-pairs", root)))


def test_a_link_to_a_link_is_followed_one_by_one(tmp_path: Path) -> None:
    """Two patients of a git-annex dataset may share one object; a link through the other's name is the other's file."""
    root = pairs(tmp_path)
    store = root / ".git/annex/objects"
    store.mkdir(parents=True)
    shutil.move(root / "labels/sub-00.nii.gz", store / "empty.nii.gz")
    (root / "labels/sub-00.nii.gz").symlink_to("../.git/annex/objects/empty.nii.gz")
    linked(root / "labels/sub-01.nii.gz", "../.git/annex/objects/empty.nii.gz")
    linked(root / "labels/sub-02.nii.gz", "sub-01.nii.gz")
    found = scan("nifti-pairs", root)
    assert errors(found) == [f"labels/sub-02.nii.gz: {WORDS}"]
    assert [one.subject for one in found.samples] == ["sub-00", "sub-01"]


def test_a_link_of_one_patient_and_one_to_a_file_that_is_nobodys_are_files(tmp_path: Path) -> None:
    root = pairs(tmp_path)
    (root / "originals").mkdir()
    shutil.move(root / "images/sub-01.nii.gz", root / "originals/a.nii.gz")
    (root / "images/sub-01.nii.gz").symlink_to("../originals/a.nii.gz")
    found = scan("nifti-pairs", root)
    assert not found.errors and len(found.samples) == 3


@pytest.mark.parametrize("leaves_out", [nobody, {"sub-00"}.__contains__])
def test_a_folder_that_is_a_link_to_another_patients_is_refused(
    tmp_path: Path, leaves_out: Callable[[str], bool]
) -> None:
    for number in range(2):
        values = np.random.default_rng(number).normal(9, 2, (4, 4, 4)).astype(np.float32)
        write_volume(tmp_path / f"sub-{number:02}" / "T1" / "scan.nii.gz", values)
    (tmp_path / "sub-02").mkdir()
    (tmp_path / "sub-02" / "T1").symlink_to("../sub-00/T1")
    found = scan("medical-folder", tmp_path, leaves_out=leaves_out)
    assert any(WORDS in one for one in errors(found)), errors(found)
    assert "sub-02" not in {one.subject for one in found.samples}


@pytest.mark.parametrize("leaves_out", [nobody, {"P000"}.__contains__])
def test_a_link_to_another_patients_picture_is_refused(tmp_path: Path, leaves_out: Callable[[str], bool]) -> None:
    numbers = np.random.default_rng(0)
    for name in ("normal", "ill"):
        (tmp_path / name).mkdir()
        for number in range(3):
            at = tmp_path / name / f"P{number + 3 * (name == 'ill'):03}.png"
            Image.fromarray(numbers.integers(0, 255, (8, 8), dtype=np.uint8)).save(at)
    linked(tmp_path / "ill/P003.png", "../normal/P000.png")
    found = scan("class-folders", tmp_path, leaves_out=leaves_out)
    assert errors(found) == [f"ill/P003.png: {WORDS}"]
    (tmp_path / "labels.csv").write_text("image,label\n" + "".join(f"P{n:03},{n % 2}\n" for n in range(6)))
    found = scan("picture-table", tmp_path, leaves_out=leaves_out)
    assert f"ill/P003.png: {WORDS}" in errors(found)


def test_a_link_into_a_store_with_a_withdrawn_patients_name_is_refused(tmp_path: Path) -> None:
    root = pairs(tmp_path)
    (root / "originals").mkdir()
    shutil.move(root / "images/sub-01.nii.gz", root / "originals/P007_T1.nii.gz")
    (root / "images/sub-01.nii.gz").symlink_to("../originals/P007_T1.nii.gz")
    assert not scan("nifti-pairs", root).errors
    assert errors(scan("nifti-pairs", root, leaves_out={"P007"}.__contains__)) == [f"images/sub-01.nii.gz: {WORDS}"]
