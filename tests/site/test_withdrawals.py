from __future__ import annotations

import fcntl
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select, text, update

from archipel.data import Scan
from archipel.governance import IdentityKey, SignedWithdrawal, sign_withdrawal
from archipel.site.approval import authorisation, decisions, disclosure, offers
from archipel.site.audit import journal
from archipel.site.cohorts import cohort_versions
from archipel.site.datasets import catalog
from archipel.site.execution import preparation
from archipel.site.services import cohorts, datasets
from archipel.site.state import changes, sample_cache, schema
from archipel.site.state.folder import StateFolder
from archipel.site.withdrawals import withdrawals
from archipel.site.withdrawals.withdrawals import withdraw
from archipel.site.withdrawn import opt_outs, register
from archipel.site.withdrawn.opt_outs import OPT_OUT, OptOut, TakeOptOuts
from archipel.vocabulary import (
    ArchipelError,
    BadInput,
    Conflict,
    DataNeeds,
    ErrorCode,
    NotFound,
    Refused,
    StorageFull,
    Thing,
    Watch,
)
from worlds.data_files import write_pairs, write_rows, write_volume
from worlds.people import ANNA, approve
from worlds.site import take_offer


def out(site: StateFolder, *subjects: str, dataset: str = "") -> withdrawals.Withdrawn:
    return withdraw(site, [OptOut(subject, dataset) for subject in subjects], by=ANNA)


def test_a_withdrawal_makes_what_was_approved_smaller_and_asks_nobody(with_table: StateFolder) -> None:
    _, hashed = take_offer(with_table)
    approval = approve(with_table, "heart")
    before = authorisation.authorise(with_table, "heart", hashed)
    done = out(with_table, "p-002")
    after = authorisation.authorise(with_table, "heart", hashed)
    assert set(before.cohort.subjects) - set(after.cohort.subjects) == {"p-002"}
    assert "p-002" not in (after.cohort.validation or ())
    assert after.approval == approval
    assert offers.offered(with_table.database, "heart").state == "approved"
    assert after.view != before.view
    assert (done.patients, done.datasets, [(one.version, one.remaining) for one in done.cohorts]) == (
        1,
        ("table",),
        [(1, 5)],
    )


def test_nobody_else_changes_sides_by_a_withdrawal(with_table: StateFolder) -> None:
    _, hashed = take_offer(with_table)
    approve(with_table, "heart")
    before = authorisation.authorise(with_table, "heart", hashed).cohort
    gone = (before.validation or ())[0]
    out(with_table, gone)
    after = authorisation.authorise(with_table, "heart", hashed).cohort
    assert after.training == before.training
    assert set(after.validation or ()) == set(before.validation or ()) - {gone}


def test_a_withdrawal_is_a_signed_document_that_names_nobody(with_table: StateFolder) -> None:
    take_offer(with_table)
    approve(with_table, "heart")
    withdraw(with_table, [OptOut("p-002")], reason="Frau Müller changed her mind", by=ANNA)
    with with_table.database.read() as connection:
        (body,) = connection.scalars(select(schema.signed_withdrawals.c.body))
    signed = SignedWithdrawal.model_validate_json(body)
    assert signed.signature == sign_withdrawal(with_table.identity, signed).signature
    written = "".join(f"{line.kind} {line.body}" for line in journal.lines(with_table.database))
    assert "patient-withdrawn" in written and "cohort-reduced" in written and signed.signature in written
    for one in (body, "".join(journal.export(with_table)), str(disclosure.summaries(with_table))):
        assert "p-002" not in one and "Müller" not in one


def test_a_withdrawal_applies_to_queries_and_to_what_is_frozen_later(with_table: StateFolder, tmp_path: Path) -> None:
    out(with_table, "p-002")
    assert catalog.dataset(with_table.database, "table").subjects == 5
    assert catalog.dataset(with_table.database, "table").summary.subjects == 5
    assert disclosure.summaries(with_table)[0].subjects == 5
    write_rows(tmp_path / "data", rows=9)
    frozen = cohorts.freeze_version(with_table, "table", by=ANNA)
    assert frozen.subjects == 8
    assert "p-002" not in cohort_versions.stored(with_table.database, with_table.cohort_key, "table").cohort.subjects
    assert datasets.check(with_table, "table").subjects == 8


def test_a_patient_who_withdraws_while_a_person_reads_is_not_in_what_is_approved(with_table: StateFolder) -> None:
    _, hashed = take_offer(with_table)
    frozen = cohorts.freeze(with_table, catalog.dataset(with_table.database, "table"))
    out(with_table, "p-002")
    decisions.approve(with_table, "heart", job_hash=hashed, frozen=frozen, by=ANNA)
    assert "p-002" not in authorisation.authorise(with_table, "heart", hashed).cohort.subjects


def test_a_pseudonymised_patient_withdraws_by_the_id_that_the_hospital_knows(with_table: StateFolder) -> None:
    _, hashed = take_offer(with_table)
    cohorts.freeze_version(with_table, "table", pseudonymise=True, by=ANNA)
    approve(with_table, "heart", version=1)
    pseudonym = cohort_versions.stored(with_table.database, with_table.cohort_key, "table").cohort.pseudonyms["p-002"]
    out(with_table, "p-002")
    left = authorisation.authorise(with_table, "heart", hashed).cohort
    assert "p-002" not in left.subjects and "p-002" not in left.pseudonyms
    assert pseudonym not in preparation.as_disclosed(left, 0.2).subjects


def test_withdrawing_twice_changes_nothing_and_is_one_change(with_table: StateFolder) -> None:
    known = changes.newest(with_table)
    out(with_table, "p-002")
    assert [change.kind for change in changes.read(with_table, known)] == ["patient-withdrawn"]
    lines, known = len(journal.lines(with_table.database)), changes.newest(with_table)
    assert out(with_table, "p-002") == withdrawals.Withdrawn(0, (), ())
    assert len(journal.lines(with_table.database)) == lines and not changes.read(with_table, known)


def test_a_withdrawal_from_one_dataset_leaves_a_namesake_in_another(with_table: StateFolder, tmp_path: Path) -> None:
    datasets.add(with_table, "other", write_rows(tmp_path / "other"), "npz", by=ANNA)
    done = out(with_table, "p-002", dataset="other")
    assert done.datasets == ("other",)
    assert [entry.subjects for entry in catalog.datasets(with_table.database)] == [5, 6]
    assert out(with_table, "p-002").datasets == ("table",)
    assert [entry.subjects for entry in catalog.datasets(with_table.database)] == [5, 5]


@pytest.mark.parametrize("subject", ["", "a/b", "x" * 201, "line\nbreak"])
def test_what_cannot_be_a_subject_is_refused(with_table: StateFolder, subject: str) -> None:
    with pytest.raises(BadInput, match="cannot be a subject's id"):
        out(with_table, subject)
    with pytest.raises(NotFound, match="dataset nowhere: is not in the catalog"):
        out(with_table, "p-002", dataset="nowhere")


def test_too_few_patients_left_stop_the_experiment_with_a_clear_error(with_table: StateFolder) -> None:
    _, hashed = take_offer(with_table, needs=DataNeeds(kind="arrays", minimum_subjects=5))
    approve(with_table, "heart")
    out(with_table, "p-001")
    authorisation.authorise(with_table, "heart", hashed)
    out(with_table, "p-002")
    with pytest.raises(
        Refused, match="patients were withdrawn and 4 subjects are left of its cohort; at least 5"
    ) as caught:
        authorisation.authorise(with_table, "heart", hashed)
    assert caught.value.code is ErrorCode.BAD_DATA


def test_a_cohort_with_nobody_left_to_train_on_is_refused(with_table: StateFolder) -> None:
    _, hashed = take_offer(with_table, validation_fraction=0.5)
    approve(with_table, "heart")
    cohort = authorisation.authorise(with_table, "heart", hashed).cohort
    assert len(cohort.validation or ()) >= 2
    out(with_table, *cohort.training)
    with pytest.raises(Refused, match="one of them to train on"):
        authorisation.authorise(with_table, "heart", hashed)


def test_a_subtraction_that_somebody_else_wrote_stops_everything(with_table: StateFolder) -> None:
    _, hashed = take_offer(with_table)
    approve(with_table, "heart")
    out(with_table, "p-002")
    with with_table.database.read() as connection:
        (body,) = connection.scalars(select(schema.signed_withdrawals.c.body))
    mine = SignedWithdrawal.model_validate_json(body)
    elsewhere = sign_withdrawal(with_table.identity, mine.model_copy(update={"cohort_hash": "sha256:" + "1" * 64}))
    for forged, words in [
        (sign_withdrawal(IdentityKey.generate(), mine), "signature is not the site's"),
        (mine.model_copy(update={"subjects": ()}), "signature is not the site's"),
        (elsewhere, "is for another cohort"),
    ]:
        with with_table.database.write() as connection:
            connection.execute(update(schema.signed_withdrawals).values(body=forged.model_dump_json()))
        with pytest.raises(Refused, match=words) as caught:
            authorisation.authorise(with_table, "heart", hashed)
        assert caught.value.code is ErrorCode.NOT_APPROVED


@pytest.mark.parametrize("elsewhere", ["", "withdrawals", "journal WHERE kind = 'cohort-reduced'"])
def test_a_withdrawal_that_somebody_deletes_brings_nobody_back(with_table: StateFolder, elsewhere: str) -> None:
    """Who is out stands in three places: among the withdrawals, in the journal, and signed with the cohort."""
    _, hashed = take_offer(with_table)
    approve(with_table, "heart")
    out(with_table, "p-001")
    out(with_table, "p-002")
    authorisation.authorise(with_table, "heart", hashed)
    with with_table.database.write() as connection:
        connection.execute(
            text("DELETE FROM signed_withdrawals WHERE number = (SELECT max(number) FROM signed_withdrawals)")
        )
        if elsewhere:
            connection.execute(text(f"DELETE FROM {elsewhere}"))
    with pytest.raises(
        Refused, match="a withdrawal from its cohort is missing; this site's database was changed by hand"
    ) as caught:
        authorisation.authorise(with_table, "heart", hashed)
    assert caught.value.code is ErrorCode.NOT_APPROVED


def test_a_cohort_under_another_datasets_name_escapes_no_withdrawal(with_table: StateFolder, tmp_path: Path) -> None:
    datasets.add(with_table, "other", write_rows(tmp_path / "other"), "npz", by=ANNA)
    _, hashed = take_offer(with_table)
    approve(with_table, "heart")
    out(with_table, "p-002", dataset="table")
    with with_table.database.write() as connection:
        connection.execute(text("DELETE FROM signed_withdrawals"))
        connection.execute(text("DELETE FROM journal WHERE kind = 'cohort-reduced'"))
        connection.execute(text("UPDATE cohorts SET dataset = 'other'"))
    with pytest.raises(Refused, match="its cohort is filed under another dataset"):
        authorisation.authorise(with_table, "heart", hashed)


def test_the_way_out_of_a_deleted_withdrawal_is_a_new_version(with_table: StateFolder) -> None:
    _, hashed = take_offer(with_table)
    approve(with_table, "heart")
    out(with_table, "p-002")
    with with_table.database.write() as connection:
        connection.execute(text("DELETE FROM signed_withdrawals"))
    approve(with_table, "heart")
    cohort = authorisation.authorise(with_table, "heart", hashed).cohort
    assert cohort.version == 2 and "p-002" not in cohort.subjects


def test_an_opt_out_list_is_taken_over_at_every_look(with_table: StateFolder, tmp_path: Path) -> None:
    _, hashed = take_offer(with_table)
    approve(with_table, "heart")
    listed = with_table.folder / OPT_OUT
    listed.write_text("\ufeff# opted out by letter\np-001   # 12 March\n\nother/p-003\ntable/p-004\n", encoding="utf-8")
    assert set(authorisation.authorise(with_table, "heart", hashed).cohort.subjects) == {
        "p-000",
        "p-002",
        "p-003",
        "p-005",
    }
    listed.write_text("p-005\n")
    assert disclosure.summaries(with_table)[0].subjects == "<5"
    assert catalog.dataset(with_table.database, "table").subjects == 3
    datasets.add(with_table, "other", write_rows(tmp_path / "other"), "npz", by=ANNA)
    assert catalog.dataset(with_table.database, "other").subjects == 4
    listed.unlink()
    assert len(authorisation.authorise(with_table, "heart", hashed).cohort.subjects) == 3


@pytest.mark.parametrize("line", [b"a/b/c", b"/p-001", b"table/", b"\xff\xfe"])
def test_an_opt_out_list_that_cannot_be_read_stops_everything(with_table: StateFolder, line: bytes) -> None:
    _, hashed = take_offer(with_table)
    approve(with_table, "heart")
    (with_table.folder / OPT_OUT).write_bytes(b"p-001\n" + line + b"\n")
    with pytest.raises(BadInput, match=r"opt-out.txt") as caught:
        authorisation.authorise(with_table, "heart", hashed)
    assert caught.value.code is ErrorCode.CONFIGURATION


def test_a_mistaken_withdrawal_is_undone_for_new_versions_only(with_table: StateFolder) -> None:
    _, hashed = take_offer(with_table)
    approve(with_table, "heart")
    out(with_table, "p-002")
    (with_table.folder / OPT_OUT).write_text("p-002\n")
    with pytest.raises(Conflict, match=r"is named in opt-out.txt; remove the line"):
        withdrawals.reinstate(with_table, OptOut("p-002"), by=ANNA)
    (with_table.folder / OPT_OUT).unlink()
    withdrawals.reinstate(with_table, OptOut("p-002"), by=ANNA)
    assert "p-002" not in authorisation.authorise(with_table, "heart", hashed).cohort.subjects
    fresh = cohorts.freeze_version(with_table, "table", by=ANNA)
    assert (fresh.version, fresh.remaining) == (2, 6)
    with pytest.raises(NotFound, match="is not withdrawn"):
        withdrawals.reinstate(with_table, OptOut("p-002"), by=ANNA)


def test_what_was_prepared_of_a_patient_goes_with_the_withdrawal(hospital: StateFolder, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "brain", 4)
    datasets.add(hospital, "brain", root, "nifti-pairs", by=ANNA)
    cohorts.freeze_version(hospital, "brain", by=ANNA)
    cohort = cohort_versions.stored(hospital.database, hospital.cohort_key, "brain").cohort
    cache = sample_cache.open_sample_cache(hospital.prepared, hospital.settings.cache_mb)
    cache.prepare(root, cohort).close()
    before = {path for path in cache.folder.rglob("*") if path.is_file()}
    out(hospital, "sub-01")
    gone = before - {path for path in cache.folder.rglob("*") if path.is_file()}
    (sample,) = (one for one in cohort.samples if one.subject == "sub-01")
    assert gone and all(sample.hash.partition(":")[2] in path.name for path in gone)


def test_an_opt_out_list_does_not_wait_for_a_cache_at_work(hospital: StateFolder, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "brain", 4)
    datasets.add(hospital, "brain", root, "nifti-pairs", by=ANNA)
    cohorts.freeze_version(hospital, "brain", by=ANNA)
    cohort = cohort_versions.stored(hospital.database, hospital.cohort_key, "brain").cohort
    (sample,) = (one for one in cohort.samples if one.subject == "sub-01")
    cache = sample_cache.open_sample_cache(hospital.prepared, hospital.settings.cache_mb)
    cache.prepare(root, cohort).close()
    (hospital.folder / OPT_OUT).write_text("sub-01\n")
    with (cache.folder / "lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        withdrawals.take_opt_outs(hospital)
        assert catalog.dataset(hospital.database, "brain").subjects == 3
    sample_cache.wait_for_removals()
    assert not [path for path in cache.folder.rglob("*") if sample.hash.partition(":")[2] in path.name]


def test_nothing_that_was_found_in_a_patients_files_stays(hospital: StateFolder, tmp_path: Path) -> None:
    """Facts of a scan, thumbnails among them, and reports that show the patient's pictures."""
    datasets.add(hospital, "brain", write_pairs(tmp_path / "brain"), "nifti-pairs", by=ANNA)
    datasets.add(hospital, "other", write_rows(tmp_path / "other"), "npz", by=ANNA)
    for name in ("brain", "other"):
        datasets.make_report(hospital, name, hospital.reports / name)
    out(hospital, "sub-01")
    with hospital.database.read() as connection:
        known = set(connection.scalars(select(schema.files.c.dataset)))
    assert known == {"other"}
    assert [path.name for path in hospital.reports.iterdir()] == ["other"]
    again = datasets.rescan(hospital, catalog.dataset(hospital.database, "brain"))
    assert [sample.subject for sample in again.samples] == ["sub-00", "sub-02"]
    with hospital.database.read() as connection:
        places = connection.scalars(select(schema.files.c.place)).all()
    assert not [place for place in places if "sub-01" in place]


def test_an_id_with_a_number_sign_withdraws_that_patient_and_no_other(with_table: StateFolder) -> None:
    listed = with_table.folder / OPT_OUT
    listed.write_text("p-001#2\np-003 # by letter\n#p-004\n")
    assert opt_outs.read(listed) == ((1, OptOut("p-001#2")), (2, OptOut("p-003")))


def test_an_id_is_the_same_however_its_accents_are_written(hospital: StateFolder, tmp_path: Path) -> None:
    composed = unicodedata.normalize("NFC", "zoë")
    for number, ending in enumerate((composed, "b", "c")):
        numbers = np.random.default_rng(number)
        for folder in ("images", "labels"):
            values = numbers.integers(0, 3, (4, 5, 6)).astype(np.uint8)
            write_volume(tmp_path / "brain" / folder / f"{ending}.nii.gz", values)
    datasets.add(hospital, "brain", tmp_path / "brain", "nifti-pairs", by=ANNA)
    (hospital.folder / OPT_OUT).write_text(unicodedata.normalize("NFD", "zoë") + "\n", encoding="utf-8")
    assert cohorts.freeze_version(hospital, "brain", by=ANNA).subjects == 2


def test_a_scan_that_a_withdrawal_overtook_brings_nobody_back(
    hospital: StateFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the counts that are disclosed nor in what the scan found in the patient's files."""
    datasets.add(hospital, "brain", write_pairs(tmp_path / "brain", 6), "nifti-pairs", by=ANNA)
    scan_before = catalog.scanned

    def overtaken(site: StateFolder, entry: catalog.Dataset, take_opt_outs: TakeOptOuts, watch: Watch) -> Scan:
        found = scan_before(site, entry, take_opt_outs, watch)
        out(site, "sub-01")
        return found

    monkeypatch.setattr(catalog, "scanned", overtaken)
    datasets.check(hospital, "brain")
    assert catalog.dataset(hospital.database, "brain").subjects == 5
    assert disclosure.summaries(hospital)[0].subjects == 5
    with hospital.database.read() as connection:
        places = connection.scalars(select(schema.files.c.place)).all()
    assert not [place for place in places if "sub-01" in place]


def test_an_approval_that_a_withdrawal_overtook_brings_no_count_back(with_table: StateFolder) -> None:
    cohorts.freeze_version(with_table, "table", by=ANNA)
    frozen = cohort_versions.stored(with_table.database, with_table.cohort_key, "table")
    _, hashed = take_offer(with_table)
    out(with_table, "p-002")
    decisions.approve(with_table, "heart", job_hash=hashed, frozen=frozen, by=ANNA)
    assert catalog.dataset(with_table.database, "table").subjects == 5


def test_nothing_that_was_found_of_a_faulty_patient_stays(hospital: StateFolder, tmp_path: Path) -> None:
    """Who cannot be used is not a member of the dataset, and is shown by reports before all others."""
    root = write_pairs(tmp_path / "brain", 4)
    (root / "labels" / "sub-01.nii.gz").write_bytes(b"no volume")
    datasets.add(hospital, "brain", root, "nifti-pairs", leave_out_faulty=True, by=ANNA)
    datasets.make_report(hospital, "brain", hospital.reports / "brain")
    out(hospital, "sub-01")
    with hospital.database.read() as connection:
        places = connection.scalars(select(schema.files.c.place)).all()
    assert not [place for place in places if "sub-01" in place]
    assert not (hospital.reports / "brain").exists()


@pytest.mark.parametrize("subject", ["sub-01", "sub-77"])
def test_a_withdrawn_patients_row_beside_volumes_is_not_kept_again(
    hospital: StateFolder, tmp_path: Path, subject: str
) -> None:
    """Also of somebody who has a row and no volume; neither at once, nor after the next scans."""
    root = tmp_path / "study"
    for number in range(3):
        values = np.random.default_rng(number).normal(9, 2, (4, 5, 6)).astype(np.float32)
        write_volume(root / f"sub-{number:02}" / "T1" / "scan.nii.gz", values)
    rows = "subject,age\nsub-00,40\nsub-01,31457\nsub-02,41\nsub-77,31458\n"
    (root / "demographics.csv").write_text(rows)
    datasets.add(hospital, "study", root, "medical-folder", by=ANNA)
    told_before = facts_of(hospital, "demographics.csv")
    assert "31457" in told_before and "31458" in told_before
    out(hospital, subject)
    number = "31457" if subject == "sub-01" else "31458"
    assert number not in facts_of(hospital, "demographics.csv")
    (root / "demographics.csv").write_text(rows + f"{subject},{number}\n")
    found = datasets.check(hospital, "study")
    assert subject not in "".join(map(str, found.problems))
    assert number not in facts_of(hospital, "demographics.csv")


def facts_of(site: StateFolder, place: str) -> str:
    with site.database.read() as connection:
        return "\n".join(connection.scalars(select(schema.files.c.facts).where(schema.files.c.place == place)))


def test_what_was_prepared_for_a_check_goes_with_the_withdrawal(hospital: StateFolder, tmp_path: Path) -> None:
    """A cohort that a check ran on is kept nowhere, and names its samples to nobody."""
    root = write_pairs(tmp_path / "brain", 4)
    datasets.add(hospital, "brain", root, "nifti-pairs", by=ANNA)
    cohort = cohorts.freeze(hospital, catalog.dataset(hospital.database, "brain")).cohort
    cache = sample_cache.open_sample_cache(hospital.prepared, hospital.settings.cache_mb)
    cache.prepare(root, cohort).close()
    (sample,) = (one for one in cohort.samples if one.subject == "sub-01")
    out(hospital, "sub-01")
    assert not [path for path in cache.folder.rglob("*") if sample.hash.partition(":")[2] in path.name]


def test_a_session_under_a_pseudonym_does_not_tell_the_id(hospital: StateFolder, tmp_path: Path) -> None:
    """Class folders know a patient's pictures by their whole names."""
    for folder, seed in (("normal", 0), ("ill", 9)):
        (tmp_path / "xray" / folder).mkdir(parents=True)
        for patient in range(3):
            for shot in "ab":
                pixels = np.random.default_rng(seed + patient + ord(shot)).integers(0, 255, (8, 8), np.uint8)
                name = f"{folder}{patient}_{shot}.png"
                Image.fromarray(pixels).save(tmp_path / "xray" / folder / name)
    datasets.add(hospital, "xray", tmp_path / "xray", "class-folders", options={"subject": "^[^_]+"}, by=ANNA)
    cohort = cohorts.freeze(hospital, catalog.dataset(hospital.database, "xray"), pseudonymise=True).cohort
    as_told = preparation.as_disclosed(cohort, 0.2)
    assert {one.session for one in as_told.samples} == {"1", "2"}
    assert len({one.key for one in as_told.samples}) == 12
    assert not [one for one in cohort.subjects if one in "".join(sample.name for sample in as_told.samples)]


def test_lines_of_an_opt_out_list_that_match_nobody_are_known_by_their_numbers(
    with_table: StateFolder, tmp_path: Path
) -> None:
    listed = with_table.folder / OPT_OUT
    listed.write_text("# by letter\np-001\np-0O2\ntable/p-003\ntabel/p-004\ntable/p-999\n")
    assert register.unmatched(with_table) == (3, 5, 6), "before the list was taken over"
    withdrawals.take_opt_outs(with_table)
    assert register.unmatched(with_table) == (3, 5, 6)
    write_rows(tmp_path / "data", rows=3)
    datasets.check(with_table, "table")
    assert register.unmatched(with_table) == (3, 5, 6), "p-003 is gone from the files and was a patient here"
    catalog.remove(with_table.database, "table", by=ANNA)
    assert register.unmatched(with_table) == (3, 5, 6)
    listed.unlink()
    assert register.unmatched(with_table) == ()


def test_a_line_matches_whom_a_later_scan_finds(hospital: StateFolder, tmp_path: Path) -> None:
    """Also one whose files are faulty, and who is not a subject of the dataset therefore."""
    (hospital.folder / OPT_OUT).write_text("sub-00\nsub-01\nbrain/sub-02\nsub-07\n")
    root = write_pairs(tmp_path / "brain", 6)
    (root / "labels" / "sub-01.nii.gz").write_bytes(b"no volume")
    withdrawals.take_opt_outs(hospital)
    assert register.unmatched(hospital) == (1, 2, 3, 4)
    datasets.add(hospital, "brain", root, "nifti-pairs", by=ANNA)
    withdrawals.take_opt_outs(hospital)
    assert register.unmatched(hospital) == (4,)


def test_a_line_holds_for_a_dataset_from_its_first_look_on(hospital: StateFolder, tmp_path: Path) -> None:
    (hospital.folder / OPT_OUT).write_text("unknown/sub-01\nother/sub-02\n")
    root = write_pairs(tmp_path / "brain")
    (root / "labels" / "sub-01.nii.gz").write_bytes(b"no volume")
    assert datasets.add(hospital, "unknown", root, "nifti-pairs", by=ANNA).dataset.subjects == 2
    with hospital.database.read() as connection:
        places = connection.scalars(select(schema.files.c.place)).all()
    assert not [place for place in places if "sub-01" in place]
    assert cohorts.freeze_version(hospital, "unknown", by=ANNA).subjects == 2


def test_a_line_matches_a_patient_who_is_out_of_a_dataset_already(with_table: StateFolder) -> None:
    out(with_table, "p-001", dataset="table")
    listed = with_table.folder / OPT_OUT
    listed.write_text("p-001\n")
    withdrawals.take_opt_outs(with_table)
    assert register.unmatched(with_table) == ()


def test_whoever_was_never_here_is_a_stranger_also_once_withdrawn(with_table: StateFolder) -> None:
    asked = [OptOut("p-001"), OptOut("p-0O2"), OptOut("p-0O3")]
    for _ in range(2):
        assert register.unknown_subjects(with_table.database, with_table.cohort_key, asked) == set(asked[1:])
        withdraw(with_table, asked, by=ANNA)


def test_a_log_that_cannot_be_written_stops_no_withdrawal(
    with_table: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent goes on; a person is told what is left, after everything else is done."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(withdrawals.kept_texts, "mask_in_logs", full)
    with pytest.raises(ArchipelError, match="the disk is full"):
        out(with_table, "p-001")
    (with_table.folder / OPT_OUT).write_text("p-002\n")
    withdrawals.take_opt_outs(with_table)
    assert catalog.dataset(with_table.database, "table").subjects == 4


def test_a_cache_that_cannot_be_written_leaves_no_id_in_a_log(
    with_table: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise StorageFull(Thing("the cache", "prepared"), "the disk is full", "free space")

    monkeypatch.setattr(sample_cache, "forget", full)
    log = with_table.logs / "heart.log"
    log.write_text("read p-001, p-002")
    with pytest.raises(StorageFull):
        out(with_table, "p-001")
    assert log.read_text() == "read *****, p-002"
    (with_table.folder / OPT_OUT).write_text("p-002\n")
    withdrawals.take_opt_outs(with_table)
    sample_cache.wait_for_removals()
    assert log.read_text() == "read *****, *****"


def test_what_a_worker_wrote_of_a_patient_after_the_withdrawal_is_hidden_too(with_table: StateFolder) -> None:
    out(with_table, "p-001")
    log = with_table.logs / "heart.log"
    log.write_text("read p-001, p-002")
    withdrawals.hide_again(with_table, "table", ["p-001"])
    assert log.read_text() == "read *****, p-002"


def test_a_patient_who_is_out_of_one_dataset_by_itself_stays_unnamed_there_when_reinstated_elsewhere(
    with_table: StateFolder,
) -> None:
    datasets.exclude(with_table, "table", ["p-002"], by=ANNA)
    out(with_table, "p-002", dataset="table")
    out(with_table, "p-002")
    withdrawals.reinstate(with_table, OptOut("p-002"), by=ANNA)
    with with_table.database.read() as connection:
        assert "p-002" not in connection.scalars(select(schema.exclusions.c.subject)).all()
    withdrawals.reinstate(with_table, OptOut("p-002", "table"), by=ANNA)
    with with_table.database.read() as connection:
        assert connection.scalars(select(schema.exclusions.c.subject)).all() == ["p-002"]
