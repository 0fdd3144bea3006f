"""Long work at a site shows how far it is, and whoever stops it finds the site as it was."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from archipel.site.approval import offers
from archipel.site.audit import journal
from archipel.site.checks.dry_run import Checks, run_checks
from archipel.site.checks.findings import CheckStep
from archipel.site.checks.in_thread import run_in_thread
from archipel.site.cohorts import cohort_versions
from archipel.site.datasets import catalog
from archipel.site.datasets.quality_report import HTML, JSON
from archipel.site.services import approvals, cohorts, datasets, withdrawals
from archipel.site.state import changes
from archipel.site.state.folder import StateFolder
from archipel.vocabulary import Cancellation, Cancelled, Watch, WorkProgress
from worlds.data_files import write_pairs, write_volume
from worlds.offers import offered
from worlds.people import ANNA
from worlds.site import take_offer

SUBJECTS = 5


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder of volumes."""
    return write_pairs(tmp_path / "scans", SUBJECTS)


def stops_at(what: str, done: int) -> Watch:
    """Somebody who stops the work when so many were counted."""
    stop = Cancellation()

    def show(progress: WorkProgress) -> None:
        if (progress.what, progress.done) == (what, done):
            stop.cancel()

    return Watch(show, stop)


def as_it_is(site: StateFolder) -> object:
    """All that a person sees of the site's data."""
    return (
        catalog.datasets(site.database),
        cohort_versions.versions(site.database, site.cohort_key),
        journal.lines(site.database),
        changes.read(site, 0),
        sorted(str(path) for path in site.reports.rglob("*")) if site.reports.exists() else [],
    )


def test_a_dataset_whose_scan_is_stopped_is_not_added_and_can_be_added_then(hospital: StateFolder, scans: Path) -> None:
    before = as_it_is(hospital)
    with pytest.raises(Cancelled):
        datasets.add(hospital, "heart", scans, "nifti-pairs", by=ANNA, watch=stops_at("files scanned", 4))
    assert as_it_is(hospital) == before
    assert datasets.add(hospital, "heart", scans, "nifti-pairs", by=ANNA).dataset.subjects == SUBJECTS
    assert [change.kind for change in changes.read(hospital, 0)][-1] == "dataset-added"


def added(site: StateFolder, scans: Path) -> None:
    datasets.add(site, "heart", scans, "nifti-pairs", by=ANNA)
    # A file more, so that a second look has something to find.
    shutil.copy(scans / "images" / "sub-00.nii.gz", scans / "images" / "sub-99.nii.gz")
    shutil.copy(scans / "labels" / "sub-00.nii.gz", scans / "labels" / "sub-99.nii.gz")


@pytest.mark.parametrize(
    "work",
    [
        lambda site, watch: datasets.check(site, "heart", watch=watch),
        lambda site, watch: datasets.exclude(site, "heart", ["sub-01"], by=ANNA, watch=watch),
        lambda site, watch: datasets.make_report(site, "heart", site.reports / "heart", watch=watch),
        lambda site, watch: cohorts.freeze_version(site, "heart", name="first", by=ANNA, watch=watch),
    ],
    ids=["check", "exclude", "report", "freeze"],
)
def test_what_is_stopped_leaves_the_site_as_it_was_and_succeeds_the_next_time(
    hospital: StateFolder, scans: Path, work: Callable[[StateFolder, Watch], object]
) -> None:
    added(hospital, scans)
    before = as_it_is(hospital)
    with pytest.raises(Cancelled):
        work(hospital, stops_at("files scanned", 2))
    assert as_it_is(hospital) == before
    work(hospital, Watch())
    assert as_it_is(hospital) != before


@pytest.mark.parametrize(
    "look",
    [
        lambda site, watch: approvals.prepare(site, "heart", dataset="heart", watch=watch),
        lambda site, watch: cohorts.compare(site, "heart", 1, None, watch=watch),
        lambda site, watch: datasets.subjects_there(site, watch=watch),
    ],
    ids=["prepare", "compare", "subjects there"],
)
def test_a_look_that_is_stopped_changes_nothing_and_gives_its_answer_the_next_time(
    hospital: StateFolder, scans: Path, look: Callable[[StateFolder, Watch], object]
) -> None:
    datasets.add(hospital, "heart", scans, "nifti-pairs", by=ANNA)
    cohorts.freeze_version(hospital, "heart", by=ANNA)
    take_offer(hospital)
    before = as_it_is(hospital)
    with pytest.raises(Cancelled):
        look(hospital, stops_at("files scanned", 2))
    assert as_it_is(hospital) == before
    shown: list[WorkProgress] = []
    assert look(hospital, Watch(shown.append))
    assert ("files scanned", 3, 2 * SUBJECTS) in shown


def test_an_approval_that_is_stopped_signs_nothing_and_can_be_given_then(with_table: StateFolder) -> None:
    take_offer(with_table)
    asked = approvals.prepare(with_table, "heart")
    hashes = {"job_hash": asked.job_hash, "cohort_hash": asked.cohort_hash}
    before = as_it_is(with_table)
    with pytest.raises(Cancelled):
        approvals.approve(with_table, "heart", **hashes, by=ANNA, watch=stops_at("files scanned", 0))
    assert as_it_is(with_table) == before
    assert offers.offered(with_table.database, "heart").approval is None
    approvals.approve(with_table, "heart", **hashes, by=ANNA)
    assert offers.offered(with_table.database, "heart").approval is not None


def test_a_withdrawal_that_is_stopped_early_withdraws_nobody(with_table: StateFolder) -> None:
    before, stop = as_it_is(with_table), Cancellation()
    stop.cancel()
    with pytest.raises(Cancelled):
        withdrawals.withdraw(with_table, ["p-002"], by=ANNA, watch=Watch(cancellation=stop))
    assert as_it_is(with_table) == before


def test_a_withdrawal_stands_when_the_look_for_like_ids_is_stopped(hospital: StateFolder, scans: Path) -> None:
    datasets.add(hospital, "heart", scans, "nifti-pairs", by=ANNA)
    asked = ["sub-00", "sub-0O1"]
    done = withdrawals.withdraw(hospital, asked, by=ANNA, watch=stops_at("files scanned", 2))
    assert done.search_was_stopped and [one.suggestions for one in done.mistyped] == [()]
    assert catalog.dataset(hospital.database, "heart").subjects == SUBJECTS - 1
    whole = withdrawals.withdraw(hospital, ["sub-0O1"], by=ANNA)
    assert not whole.search_was_stopped and [one.suggestions[0] for one in whole.mistyped] == ["sub-01"]


@pytest.mark.parametrize("what", ["files measured", "files drawn"])
def test_a_report_that_is_stopped_late_leaves_the_last_one_in_place(
    hospital: StateFolder, scans: Path, what: str
) -> None:
    datasets.add(hospital, "heart", scans, "nifti-pairs", by=ANNA)
    folder = hospital.reports / "heart"
    datasets.make_report(hospital, "heart", folder)
    files = {name: (folder / name).read_bytes() for name in (HTML, JSON)}
    write_volume(scans / "images" / "sub-00.nii.gz", np.ones((6, 7, 8), dtype=np.float32))
    with pytest.raises(Cancelled):
        datasets.make_report(hospital, "heart", folder, watch=stops_at(what, 1))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def test_how_far_a_scan_is_is_known_exactly_the_second_time(hospital: StateFolder, scans: Path) -> None:
    shown: list[WorkProgress] = []
    datasets.add(hospital, "heart", scans, "nifti-pairs", by=ANNA, watch=Watch(shown.append))
    assert shown == [("files scanned", done, None) for done in range(2 * SUBJECTS)]
    shown.clear()
    datasets.check(hospital, "heart", watch=Watch(shown.append))
    assert shown == [("files scanned", done, 2 * SUBJECTS) for done in range(2 * SUBJECTS)]
    assert str(shown[3]) == "3 of 10 files scanned"


async def test_work_in_a_thread_has_ended_when_its_cancelled_caller_goes_on() -> None:
    begun, ended = threading.Event(), threading.Event()

    def work(watch: Watch) -> None:
        try:
            while True:
                watch.at("steps", 1)
                begun.set()
        finally:
            ended.set()

    doing = asyncio.create_task(run_in_thread(work))
    await asyncio.to_thread(begun.wait, 30)
    doing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doing
    assert ended.is_set()


async def test_work_in_a_thread_gives_what_it_gives_and_raises_what_it_raises() -> None:
    shown: list[WorkProgress] = []

    def work(watch: Watch) -> int:
        watch.at("steps", 1, 2)
        return 7

    def fails(_: Watch) -> None:
        raise OSError("gone")

    assert await run_in_thread(work, shown.append) == 7
    assert shown == [("steps", 1, 2)]
    with pytest.raises(OSError, match="gone"):
        await run_in_thread(fails)


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("bwrap") is None, reason="the Debian package bubblewrap is not installed")
@pytest.mark.parametrize("what", ["rounds on generated data", "files scanned"])
async def test_checks_that_are_cancelled_leave_no_worker_no_file_and_no_line(
    with_table: StateFolder, tmp_path: Path, what: str
) -> None:
    offered(with_table, tmp_path)
    reached, loop = asyncio.Event(), asyncio.get_running_loop()

    def show(progress: WorkProgress) -> None:
        if progress.what == what:
            loop.call_soon_threadsafe(reached.set)

    def workers() -> list[psutil.Process]:
        return psutil.Process().children(recursive=True)

    before = set(workers())
    checking = asyncio.create_task(run_checks(Checks(with_table, "heart", by=ANNA), CheckStep.PREFLIGHT, show=show))
    await asyncio.wait_for(reached.wait(), 60)
    checking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checking
    _, alive = await asyncio.to_thread(psutil.wait_procs, set(workers()) - before, 10)
    assert not alive
    assert not list(with_table.folder.glob("check-*"))
    said = [line.body["step"] for line in journal.of_kind(with_table.database, "checked")]
    assert said == ([] if what == "rounds on generated data" else ["dummy"])
    shown: list[WorkProgress] = []
    results = await run_checks(Checks(with_table, "heart", by=ANNA), CheckStep.PREFLIGHT, show=shown.append)
    assert [result.go for result in results] == [True, True]
    assert {"rounds on generated data", "files scanned", "files compared"} <= {one.what for one in shown}
