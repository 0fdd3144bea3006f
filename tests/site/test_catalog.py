from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import event

from archipel.data import Cohort, ColumnMapping, DataMapping, cohort_hash
from archipel.site.approval import authorisation, decisions, offers
from archipel.site.audit import journal
from archipel.site.cohorts import cohort_versions
from archipel.site.datasets import catalog
from archipel.site.datasets.catalog import DatasetProblems
from archipel.site.services import cohorts, datasets
from archipel.site.state.folder import StateFolder
from archipel.site.withdrawals import withdrawals
from archipel.site.withdrawn.opt_outs import OptOut
from archipel.vocabulary import BadInput, Conflict, NotFound, StorageFull
from worlds.data_files import write_pairs, write_rows, write_volume
from worlds.people import ANNA, approve
from worlds.site import make_site, take_offer


def test_a_dataset_is_listed_with_counts_and_schema_but_never_its_subjects(
    hospital: StateFolder, tmp_path: Path
) -> None:
    entry = datasets.add(
        hospital,
        "brain",
        write_pairs(tmp_path / "brain"),
        "nifti-pairs",
        mapping=DataMapping(label_names={"1": "anterior"}),
        by=ANNA,
    ).dataset
    assert catalog.datasets(hospital.database) == [entry]
    assert entry.subjects == 3
    assert entry.summary.label_values == {"0": 3, "1": 3, "2": 3}
    assert "sub-00" not in entry.summary.model_dump_json()
    assert [line.kind for line in journal.lines(hospital.database)] == ["site-made", "dataset-added"]


def _other_shape(root: Path) -> None:
    write_volume(root / "labels" / "sub-00.nii.gz", np.zeros((6, 7, 9), np.uint8))


def _other_affine(root: Path) -> None:
    write_volume(root / "labels" / "sub-00.nii.gz", np.zeros((6, 7, 8), np.uint8), np.diag([2.0, 1, 1, 1]))


def _no_label(root: Path) -> None:
    (root / "labels" / "sub-00.nii.gz").unlink()


def _no_image(root: Path) -> None:
    (root / "images" / "sub-00.nii.gz").unlink()


def _truncated(root: Path) -> None:
    path = root / "images" / "sub-00.nii.gz"
    path.write_bytes(path.read_bytes()[:-200])


def _not_a_number(root: Path) -> None:
    values = np.ones((6, 7, 8), np.float32)
    values[1, 2, 3] = np.nan
    write_volume(root / "images" / "sub-00.nii.gz", values)


def _empty(root: Path) -> None:
    for path in [*root.glob("*/*.nii.gz")]:
        path.unlink()


BAD = {
    "a label of another shape": (_other_shape, "sub-00: the image has shape"),
    "a label of another affine": (_other_affine, "sub-00: the grids of image and label are up to"),
    "an image without label": (_no_label, "sub-00: no label beside the image"),
    "a label without image": (_no_image, "sub-00: no image for the label"),
    "a truncated volume": (_truncated, "sub-00: images/sub-00.nii.gz: cannot be read to its end"),
    "NaN voxels": (_not_a_number, "1 voxel is NaN or infinite"),
    "an empty site": (_empty, "no image found"),
}


def test_what_is_wrong_names_the_way_on_without_it(hospital: StateFolder, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "brain")
    _no_label(root)
    with pytest.raises(DatasetProblems, match=r"add it again, or leave out the subjects .* \(--leave-out-faulty\)"):
        datasets.add(hospital, "brain", root, "nifti-pairs", by=ANNA)
    datasets.add(hospital, "brain", root, "nifti-pairs", leave_out_faulty=True, by=ANNA)
    _empty(root)
    with pytest.raises(DatasetProblems, match=r"add it again$"):
        datasets.add(hospital, "empty", root, "nifti-pairs", by=ANNA)
    datasets.add(hospital, "sound", write_pairs(tmp_path / "sound"), "nifti-pairs", by=ANNA)
    _no_label(tmp_path / "sound")
    with pytest.raises(DatasetProblems, match=r"leave subjects out with archipel site dataset exclude$"):
        cohorts.freeze_version(hospital, "sound", by=ANNA)


def test_what_a_scan_found_is_told_when_a_dataset_was_added(hospital: StateFolder, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "table.csv").write_text("id,age\na,40\nb,-9999\n")
    found = datasets.add(hospital, "rows", tmp_path / "rows", "table", by=ANNA)
    assert [one.severity for one in found.problems] == ["warning"] and "-9999" in str(found.problems[0])


def test_what_is_added_says_its_format_what_matches_nothing_and_who_shares_the_folder(
    hospital: StateFolder, tmp_path: Path
) -> None:
    root = write_pairs(tmp_path / "brain")
    first = datasets.add(hospital, "brain", root, by=ANNA)
    assert first.detected is not None and first.detected.format == first.dataset.format == "nifti-pairs"
    assert first.detected.reason and not first.unmatched and not first.same_folder
    mapping = DataMapping(modalities={"T1": "t1w"})
    second = datasets.add(hospital, "again", root, "nifti-pairs", mapping=mapping, by=ANNA)
    assert second.detected is None and second.same_folder == ("brain",)
    (line,) = second.unmatched
    assert line.startswith("modalities.T1: the dataset has no image t1w")
    (root / "labels" / "sub-00.nii.gz").unlink()
    with pytest.raises(DatasetProblems) as refused:
        datasets.add(hospital, "third", root, by=ANNA)
    assert refused.value.detected == first.detected


def test_the_extent_of_a_folder_counts_files_and_follows_no_link(hospital: StateFolder, tmp_path: Path) -> None:
    root = tmp_path / "rows"
    (root / "more").mkdir(parents=True)
    (root / "table.csv").write_text("id,age\na,40\nb,41\n")
    (root / "more" / "notes.txt").write_bytes(bytes(100))
    (tmp_path / "elsewhere").write_bytes(bytes(1000))
    (root / "link").symlink_to(tmp_path / "elsewhere")
    datasets.add(hospital, "rows", root, "table", by=ANNA)
    extent = datasets.extent(hospital, "rows")
    assert (extent.files, extent.size_bytes) == (2, 100 + (root / "table.csv").stat().st_size)


@pytest.mark.parametrize("case", BAD)
def test_bad_data_is_named_and_nothing_is_added(hospital: StateFolder, tmp_path: Path, case: str) -> None:
    spoil, words = BAD[case]
    spoil(write_pairs(tmp_path / "brain"))
    with pytest.raises(DatasetProblems, match=words) as caught:
        datasets.add(hospital, "brain", tmp_path / "brain", "nifti-pairs", by=ANNA)
    assert len(caught.value.problems) == 1
    assert catalog.datasets(hospital.database) == []
    assert [line.kind for line in journal.lines(hospital.database)] == ["site-made"]


def test_all_problems_are_listed_at_once(hospital: StateFolder, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "brain", 4)
    (root / "labels" / "sub-01.nii.gz").unlink()
    (root / "images" / "sub-02.nii.gz").unlink()
    write_volume(root / "labels" / "sub-03.nii.gz", np.zeros((6, 7, 9), np.uint8))
    with pytest.raises(DatasetProblems, match="has 3 problems") as caught:
        datasets.add(hospital, "brain", root, "nifti-pairs", by=ANNA)
    assert [problem.subject for problem in caught.value.problems] == ["sub-01", "sub-02", "sub-03"]


@pytest.mark.parametrize(
    ("name", "root", "kind", "words"),
    [
        ("brain", "nowhere", "nifti-pairs", "is not a folder"),
        ("brain", ".", "dicom", "dataset format dicom: is unknown; choose one of"),
        ("brain", ".", "npz", "no .npz file"),
        ("2 brains", ".", "npz", "is not a valid name"),
    ],
)
def test_a_mistaken_entry_is_named(
    hospital: StateFolder, tmp_path: Path, name: str, root: str, kind: str, words: str
) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(BadInput, match=words):
        datasets.add(hospital, name, tmp_path / "there" / root, kind, by=ANNA)
    assert catalog.datasets(hospital.database) == []


def test_a_taken_name_is_refused_and_a_missing_one_names_what_is_there(with_table: StateFolder, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="is in the catalog already"):
        datasets.add(with_table, "table", tmp_path / "data", "npz", by=ANNA)
    with pytest.raises(NotFound, match=r"there: table"):
        catalog.dataset(with_table.database, "tabel")


def test_a_dataset_that_an_approved_experiment_uses_stays(with_table: StateFolder) -> None:
    take_offer(with_table)
    approve(with_table, "heart")
    with pytest.raises(Conflict, match="is used by approved experiments"):
        catalog.remove(with_table.database, "table", by=ANNA)
    decisions.revoke(with_table.database, "heart", by=ANNA)
    catalog.remove(with_table.database, "table", by=ANNA)
    assert catalog.datasets(with_table.database) == []


def test_a_cohort_hash_is_keyed_by_the_site_and_ignores_order(tmp_path: Path) -> None:
    root = write_rows(tmp_path / "data")
    first, second = make_site(tmp_path / "a", "a"), make_site(tmp_path / "b", "b")
    made = [
        cohorts.freeze(site, datasets.add(site, "table", root, "npz", by=ANNA).dataset).cohort
        for site in (first, second)
    ]
    assert made[0] == made[1]
    assert cohort_hash(made[0], first.cohort_key) != cohort_hash(made[0], second.cohort_key)
    turned = Cohort.model_validate(dict(made[0]) | {"samples": tuple(made[0].samples)[::-1]})
    assert cohort_hash(turned, first.cohort_key) == cohort_hash(made[0], first.cohort_key)


def test_a_full_database_disk_is_named_and_nothing_is_half_added(hospital: StateFolder, tmp_path: Path) -> None:
    """SQLite's own page limit raises the error of a full disk, on any file system."""

    @event.listens_for(hospital.database.engine, "connect")
    def _limit(connection: sqlite3.Connection, _record: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages}")

    hospital.database.close()
    columns = {f"column_{number}": ColumnMapping(source="x" * 60) for number in range(400)}
    with pytest.raises(StorageFull, match="the disk is full; free space there"):
        datasets.add(
            hospital, "table", write_rows(tmp_path / "data"), "npz", mapping=DataMapping(columns=columns), by=ANNA
        )
    assert catalog.datasets(hospital.database) == []
    assert journal.verify(hospital).whole


@pytest.fixture
def small_disk(tmp_path: Path) -> Callable[[], None]:
    mount = tmp_path / "disk"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], check=True)
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_loses_nothing_that_was_there(small_disk: Path, tmp_path: Path) -> None:
    site = make_site(small_disk / "state")
    datasets.add(site, "table", write_rows(tmp_path / "data"), "npz", by=ANNA)
    _, hashed = take_offer(site)
    with (small_disk / "ballast").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    with pytest.raises(StorageFull, match="the disk is full"):
        approve(site, "heart", note="n" * 100_000)
    site.close()
    (small_disk / "ballast").unlink()
    site = StateFolder.open(small_disk / "state")
    assert offers.offered(site.database, "heart").state == "offered"
    approve(site, "heart")
    assert len(authorisation.authorise(site, "heart", hashed).cohort.subjects) == 6
    assert journal.verify(site).whole
    site.close()


def fill(disk: Path, leave: int) -> Path:
    """Take all room but ``leave`` bytes; the file to remove when there is to be room again."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - leave)
    return ballast


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_fills_up_in_mid_import_leaves_nothing_half_done(small_disk: Path, tmp_path: Path) -> None:
    """There is room for the first facts about the files, not for the last."""
    site = make_site(small_disk / "state")
    root = write_pairs(tmp_path / "brain", 60)
    before = len(journal.lines(site.database))
    ballast = fill(small_disk, leave=96 * 1024)
    with pytest.raises(StorageFull, match="the disk is full; free space there"):
        datasets.add(site, "brain", root, "nifti-pairs", mapping=DataMapping(label_names={"1": "x" * 120_000}), by=ANNA)
    assert catalog.datasets(site.database) == []
    assert len(journal.lines(site.database)) == before
    ballast.unlink()
    assert datasets.add(site, "brain", root, "nifti-pairs", by=ANNA).dataset.subjects == 60
    assert journal.verify(site).whole
    site.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_lets_nobody_be_frozen_or_withdrawn_by_half(small_disk: Path, tmp_path: Path) -> None:
    site = make_site(small_disk / "state")
    datasets.add(site, "table", write_rows(tmp_path / "data", rows=200), "npz", by=ANNA)
    _, hashed = take_offer(site)
    approve(site, "heart")
    write_rows(tmp_path / "data", rows=220)
    ballast = fill(small_disk, leave=0)
    before = len(journal.lines(site.database))
    with pytest.raises(StorageFull, match="the disk is full"):
        cohorts.freeze_version(site, "table", by=ANNA)
    people = [OptOut(f"p-{n:03}") for n in range(150)]
    with pytest.raises(StorageFull, match="the disk is full"):
        withdrawals.withdraw(site, people, by=ANNA)
    assert len(journal.lines(site.database)) == before
    assert len(authorisation.authorise(site, "heart", hashed).cohort.subjects) == 200
    assert [one.version for one in cohort_versions.versions(site.database, site.cohort_key)] == [1]
    ballast.unlink()
    withdrawals.withdraw(site, people, by=ANNA)
    assert len(authorisation.authorise(site, "heart", hashed).cohort.subjects) == 50
    assert cohorts.freeze_version(site, "table", by=ANNA).subjects == 70
    site.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_site_that_finds_no_room_at_init_leaves_nothing(small_disk: Path) -> None:
    with (small_disk / "ballast").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    with pytest.raises(StorageFull):
        make_site(small_disk / "state")
    assert not (small_disk / "state").exists()
