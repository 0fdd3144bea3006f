"""What is shown of a dataset: the cohort's files, readable, and no way out of the folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from archipel.data import Cohort, Sample
from archipel.site.sandbox import staging
from archipel.site.sandbox.staging import Stage
from archipel.vocabulary import BadInput, ErrorCode

HASH = "blake3:" + "0" * 64


def cohort_of(*places: str) -> Cohort:
    subjects = tuple(Sample(subject=f"s{n}", files={"image": place}, hash=HASH) for n, place in enumerate(places))
    return Cohort(dataset="d", format="nifti-pairs", samples=subjects)


def dataset(folder: Path, *places: str) -> Path:
    root = folder / "data"
    for place in places:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(place)
        (root / place).chmod(0o644)
    return root


@pytest.mark.parametrize("place", ["images/link.nii", "../secret", "/etc/shadow"])
def test_a_way_out_of_the_dataset_is_refused(tmp_path: Path, place: str) -> None:
    root = dataset(tmp_path, "images/a.nii")
    (tmp_path / "secret").write_text("key")
    (root / "images/link.nii").symlink_to(tmp_path / "secret")
    with pytest.raises(BadInput, match="leads out of the dataset"):
        Stage(root, cohort_of(place), None, tmp_path)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    root = dataset(tmp_path, "images/a.nii")
    with pytest.raises(BadInput, match=r"images/b\.nii") as refused:
        Stage(root, cohort_of("images/a.nii", "images/b.nii"), None, tmp_path)
    assert refused.value.code is ErrorCode.DATA_CHANGED


@pytest.mark.skipif(os.getuid() != 0, reason="only an agent that runs as root gives workers another uid")
def test_a_private_file_is_copied_for_the_worker_alone_and_removed(tmp_path: Path) -> None:
    root = dataset(tmp_path, "a.nii", "b.nii")
    (root / "a.nii").chmod(0o600)
    stage = Stage(root, cohort_of("a.nii", "b.nii"), 731_999, tmp_path)
    (copy, _), (shown, _) = stage.files
    about = copy.stat()
    assert (about.st_uid, about.st_mode & 0o777, copy.read_text()) == (731_999, 0o400, "a.nii")
    assert copy.parent.stat().st_mode & 0o777 == 0o700
    assert shown == root / "b.nii"
    stage.close()
    assert not copy.parent.exists()


def test_a_large_cohort_is_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "MOST_BINDS", 2)
    places = [f"images/{n}.nii" for n in range(5)]
    root = dataset(tmp_path, *places, "images/withdrawn.nii")
    stage = Stage(root, cohort_of(*places), None, tmp_path)
    ((farm, place),) = stage.files
    assert place == ""
    assert sorted(str(path.relative_to(farm)) for path in farm.rglob("*.nii")) == places
    assert (farm / places[0]).stat().st_ino == (root / places[0]).stat().st_ino
    stage.close()
    assert (root / places[0]).read_text() == places[0]


def test_copies_that_a_killed_agent_left_are_swept_and_those_in_use_are_not(tmp_path: Path) -> None:
    left, used = tmp_path / "stage-left", tmp_path / "stage-used"
    for folder in (left, used):
        folder.mkdir()
        (folder / "0").write_text("a patient")
    lock = os.open(used, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    staging.sweep(tmp_path)
    os.close(lock)
    assert (left.exists(), used.exists()) == (False, True)
