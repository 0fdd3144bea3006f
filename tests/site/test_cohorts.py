from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.data import Cohort, DataMapping, PreparedSource, Preprocessing, RawSource, cohort_hash, validation_ids
from archipel.site.approval import authorisation
from archipel.site.audit import journal
from archipel.site.cohorts import cohort_versions, proven_cohorts, split_assignment, stored_cohorts
from archipel.site.datasets import catalog, exclusions
from archipel.site.execution import preparation
from archipel.site.services import cohorts, datasets
from archipel.site.state import sample_cache
from archipel.site.state.folder import StateFolder
from archipel.vocabulary import BadInput, Conflict, NotFound, Refused
from worlds.data_files import write_pairs, write_rows, write_volume
from worlds.examples import examples
from worlds.people import ANNA, approve
from worlds.site import Terminal, make_site, take_offer


def write_table(root: Path, ids: list[str]) -> Path:
    root.mkdir(exist_ok=True)
    np.savez(root / "table.npz", x=np.ones((len(ids), 2)), y=np.zeros(len(ids)), subject=np.array(ids, dtype=str))
    return root


def test_freezing_counts_versions_and_nothing_new_is_no_new_version(with_table: StateFolder, tmp_path: Path) -> None:
    first = cohorts.freeze_version(with_table, "table", name="spring", by=ANNA)
    assert (first.version, first.name, first.subjects) == (1, "spring", 6)
    assert first.is_new
    assert cohorts.freeze_version(with_table, "table", by=ANNA) == first.model_copy(update={"is_new": False})
    write_rows(tmp_path / "data", rows=9)
    second = cohorts.freeze_version(with_table, "table", by=ANNA)
    assert (second.version, second.subjects) == (2, 9)
    assert second.hash != first.hash
    write_rows(tmp_path / "data", rows=6)
    again = cohorts.freeze_version(with_table, "table", by=ANNA)
    assert (again.version, again.is_new) == (1, False)
    assert [one.version for one in cohort_versions.versions(with_table.database, with_table.cohort_key, "table")] == [
        1,
        2,
    ]
    assert [line.kind for line in journal.lines(with_table.database)].count("cohort-frozen") == 2


def test_a_version_keeps_its_name_and_no_other_gets_it(with_table: StateFolder, tmp_path: Path) -> None:
    spring = cohorts.freeze_version(with_table, "table", name="spring", by=ANNA)
    assert cohorts.freeze_version(with_table, "table", name="spring", by=ANNA).hash == spring.hash
    with pytest.raises(Conflict, match="holds nothing new since version 1, which is called spring"):
        cohorts.freeze_version(with_table, "table", name="summer", by=ANNA)
    write_rows(tmp_path / "data", rows=9)
    with pytest.raises(Conflict, match="name spring: is that of version 1 of dataset table; choose another"):
        cohorts.freeze_version(with_table, "table", name="spring", by=ANNA)
    assert [one.hash for one in cohort_versions.versions(with_table.database, with_table.cohort_key)] == [
        spring.hash
    ], "what is refused is not kept"
    assert cohorts.freeze_version(with_table, "table", by=ANNA).name == ""
    assert cohorts.freeze_version(with_table, "table", name="summer", by=ANNA).version == 2
    assert [one.name for one in cohort_versions.versions(with_table.database, with_table.cohort_key)] == [
        "spring",
        "summer",
    ]
    named = [line.body for line in journal.lines(with_table.database) if line.kind == "cohort-named"]
    assert [(one["version"], one["name"]) for one in named] == [(1, "spring"), (2, "summer")]


def test_a_fraction_stays_until_another_is_asked_for(with_table: StateFolder, tmp_path: Path) -> None:
    assert cohorts.freeze_version(with_table, "table", by=ANNA).validation_fraction == 0.2
    assert cohorts.freeze_version(with_table, "table", fraction=0.4, by=ANNA).version == 2
    assert cohorts.freeze_version(with_table, "table", by=ANNA).version == 2
    write_rows(tmp_path / "data", rows=9)
    assert cohorts.freeze_version(with_table, "table", by=ANNA).validation_fraction == 0.4


def test_versions_are_counted_for_each_dataset(with_table: StateFolder, tmp_path: Path) -> None:
    datasets.add(with_table, "other", write_rows(tmp_path / "other", rows=4), "npz", by=ANNA)
    assert cohorts.freeze_version(with_table, "table", by=ANNA).version == 1
    assert cohorts.freeze_version(with_table, "other", by=ANNA).version == 1


def test_a_mapping_makes_another_version_and_the_difference_says_so(hospital: StateFolder, tmp_path: Path) -> None:
    datasets.add(hospital, "brain", write_pairs(tmp_path / "brain", 4), "nifti-pairs", by=ANNA)
    cohorts.freeze_version(hospital, "brain", by=ANNA)
    catalog.remap(
        hospital.database,
        hospital.cohort_key,
        "brain",
        DataMapping(labels={"2": 1}, label_names={"1": "hippocampus"}),
        by=ANNA,
    )
    assert cohorts.freeze_version(hospital, "brain", by=ANNA).version == 2
    found = cohorts.compare(hospital, "brain", 1, 2)
    assert found.settings == (
        "mapping.labels: nothing -> 2=1",
        "mapping.label_names: nothing -> 1=hippocampus",
    )
    assert (found.added, found.removed, found.changed) == ((), (), ())


def test_a_difference_names_who_came_went_and_changed(hospital: StateFolder, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "brain", 4)
    datasets.add(hospital, "brain", root, "nifti-pairs", by=ANNA)
    cohorts.freeze_version(hospital, "brain", by=ANNA)
    for folder in ("images", "labels"):
        (root / folder / "sub-00.nii.gz").rename(root / folder / "sub-99.nii.gz")
    write_volume(root / "labels" / "sub-01.nii.gz", np.ones((6, 7, 8), np.uint8))
    with_disk = cohorts.compare(hospital, "brain", 1, None)
    assert (with_disk.added, with_disk.removed, with_disk.changed) == (("sub-99",), ("sub-00",), ("sub-01 (label)",))
    cohorts.freeze_version(hospital, "brain", by=ANNA)
    assert cohorts.compare(hospital, "brain", 1, 2) == with_disk
    assert cohorts.compare(hospital, "brain", 2, 2).nothing


def test_two_people_who_freeze_at_once_do_not_make_one_version_twice(with_table: StateFolder, tmp_path: Path) -> None:
    entry = catalog.dataset(with_table.database, "table")
    first = cohorts.freeze(with_table, entry)
    write_rows(tmp_path / "data", rows=8)
    second = cohorts.freeze(with_table, entry)
    with with_table.database.write() as connection:
        cohort_versions.keep(with_table, connection, first, by=ANNA)
    with (
        pytest.raises(Conflict, match="was frozen by another person at the same time"),
        with_table.database.write() as connection,
    ):
        cohort_versions.keep(with_table, connection, second, by=ANNA)


def test_a_stored_version_that_was_tampered_with_is_refused(with_table: StateFolder) -> None:
    cohorts.freeze_version(with_table, "table", by=ANNA)
    cohort = cohort_versions.stored(with_table.database, with_table.cohort_key, "table").cohort
    with with_table.database.write() as connection:
        stored_cohorts.write(
            connection, cohort_hash(cohort, with_table.cohort_key), cohort.without(frozenset({"p-000"}))
        )
    with pytest.raises(Refused, match="is not what was frozen"):
        cohort_versions.stored(with_table.database, with_table.cohort_key, "table", 1)


def test_one_version_is_looked_up_with_one_check_of_its_hash(
    with_table: StateFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rows in (6, 7, 8):
        write_rows(tmp_path / "data", rows=rows)
        cohorts.freeze_version(with_table, "table", by=ANNA)
    hashed: list[int] = []

    def counted(cohort: Cohort, key: bytes) -> str:
        hashed.append(cohort.version)
        return cohort_hash(cohort, key)

    monkeypatch.setattr(proven_cohorts, "cohort_hash", counted)
    assert cohort_versions.version(with_table.database, with_table.cohort_key, "table").version == 3
    assert hashed == [3]
    assert cohort_versions.version(with_table.database, with_table.cohort_key, "table", 2).version == 2
    assert hashed == [3, 2]


def test_a_version_nobody_froze_is_named(with_table: StateFolder) -> None:
    with pytest.raises(NotFound, match=r"cohort table version 3: was never frozen"):
        cohort_versions.stored(with_table.database, with_table.cohort_key, "table", 3)


# Sides of the split


NAMES = st.lists(st.sampled_from([f"patient-{n}" for n in range(14)]), min_size=2, max_size=14, unique=True)


@examples(25)
@given(history=st.lists(NAMES, min_size=2, max_size=5), fraction=st.sampled_from([0.1, 0.2, 0.5]))
def test_nobody_ever_changes_sides(
    history: list[list[str]], fraction: float, template: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("sides")
    site = StateFolder.open(shutil.copytree(template, folder / "state"))
    datasets.add(site, "table", write_table(folder / "data", history[0]), "npz", by=ANNA)
    side: dict[str, bool] = {}
    try:
        for number, ids in enumerate(history):
            write_table(folder / "data", ids)
            try:
                version = cohorts.freeze_version(
                    site, "table", fraction=fraction, pseudonymise=number % 2 == 1, by=ANNA
                )
            except BadInput as error:
                assert "no subject left to train on" in str(error)
                assert all(side[one] for one in ids)
                continue
            frozen = cohort_versions.stored(site.database, site.cohort_key, "table", version.version).cohort
            assert set(frozen.subjects) == set(ids)
            held_out = set(frozen.validation or ())
            for one in ids:
                assert side.setdefault(one, one in held_out) == (one in held_out), one
    finally:
        site.close()


def test_who_changes_sides_with_another_fraction_is_counted(with_table: StateFolder, tmp_path: Path) -> None:
    """In both directions, and never silently: sides hold for one fraction."""
    write_table(tmp_path / "data", [f"patient-{number}" for number in range(40)])

    def frozen(fraction: float) -> tuple[set[str], list[str]]:
        version = cohorts.freeze_version(with_table, "table", fraction=fraction, by=ANNA)
        cohort = cohort_versions.stored(with_table.database, with_table.cohort_key, "table", version.version).cohort
        return set(cohort.validation or ()), split_assignment.changed(
            with_table.database, with_table.cohort_key, cohort
        )

    few, said = frozen(0.2)
    assert said == []
    many, said = frozen(0.5)
    assert few < many and said == [
        f"{len(many - few)} subjects who train in a version of another validation fraction measure in this one: a "
        "model that was trained on that version has seen them"
    ]
    again, said = frozen(0.2)
    assert again == few and said == [
        f"{len(many - few)} subjects who were held out in a version of another validation fraction train in this one"
    ]
    printed = Terminal(with_table.folder)("cohort", "freeze", "table", "--validation-fraction", "0.5").stdout
    assert f"warning: {len(many - few)} subjects who train in a version of another" in " ".join(printed.split())


def test_approving_with_another_fraction_says_who_changes_sides(with_table: StateFolder, tmp_path: Path) -> None:
    write_table(tmp_path / "data", [f"patient-{number}" for number in range(40)])
    cohorts.freeze_version(with_table, "table", fraction=0.5, by=ANNA)
    job, _ = take_offer(with_table)
    assert job.validation_fraction != 0.5
    said = Terminal(with_table.folder)("approve", "heart", answer="n\n").stdout
    warning = said.index("held out in a version of another validation fraction")
    assert warning < said.index("Run this on this site's data?")


def test_the_first_split_is_the_one_of_a_simulation(with_table: StateFolder) -> None:
    """A deployed run and a simulated one hold the same subjects out."""
    cohort = cohorts.freeze(with_table, catalog.dataset(with_table.database, "table"), fraction=0.3).cohort
    assert set(cohort.validation or ()) == validation_ids(cohort.subjects, 0.3)


def test_pseudonyms_move_nobody_and_tell_nobody(with_table: StateFolder, tmp_path: Path) -> None:
    plain = cohorts.freeze(with_table, catalog.dataset(with_table.database, "table")).cohort
    cohorts.freeze_version(with_table, "table", by=ANNA)
    cohorts.freeze_version(with_table, "table", pseudonymise=True, by=ANNA)
    veiled = cohort_versions.stored(with_table.database, with_table.cohort_key, "table", 2).cohort
    assert veiled.validation == plain.validation
    told = preparation.as_disclosed(veiled, 0.2)
    assert not any(subject in told.model_dump_json() for subject in plain.subjects)
    assert len(set(told.subjects)) == 6
    assert {veiled.pseudonyms[one] for one in veiled.validation or ()} == set(told.validation or ())
    other = make_site(tmp_path / "other", "b")
    datasets.add(other, "table", tmp_path / "data", "npz", by=ANNA)
    elsewhere = cohorts.freeze(other, catalog.dataset(other.database, "table"), pseudonymise=True).cohort
    assert not set(elsewhere.pseudonyms.values()) & set(veiled.pseudonyms.values())
    other.close()


def test_a_dataset_that_was_pseudonymised_stays_so(with_table: StateFolder, tmp_path: Path) -> None:
    cohorts.freeze_version(with_table, "table", pseudonymise=True, by=ANNA)
    write_rows(tmp_path / "data", rows=8)
    assert cohorts.freeze_version(with_table, "table", by=ANNA).pseudonyms
    assert not cohorts.freeze_version(with_table, "table", pseudonymise=False, by=ANNA).pseudonyms


# Approving a version


def test_a_frozen_version_is_approved_as_it_was(with_table: StateFolder, tmp_path: Path) -> None:
    _, hashed = take_offer(with_table)
    first = cohorts.freeze_version(with_table, "table", by=ANNA)
    write_rows(tmp_path / "data", rows=9)
    cohorts.freeze_version(with_table, "table", by=ANNA)
    approval = approve(with_table, "heart", version=1)
    assert approval.cohort_hash == first.hash
    assert len(authorisation.authorise(with_table, "heart", hashed).cohort.subjects) == 6


def test_a_version_with_another_validation_list_than_the_job_asks_is_refused(with_table: StateFolder) -> None:
    take_offer(with_table, validation_fraction=0.4)
    cohorts.freeze_version(with_table, "table", by=ANNA)
    words = "version 1 of dataset table keeps 0.2 for validation; the job asks for 0.4"
    with pytest.raises(Refused, match=words):
        approve(with_table, "heart", version=1)
    approve(with_table, "heart")
    assert cohort_versions.stored(with_table.database, with_table.cohort_key, "table").cohort.validation_fraction == 0.4


def test_approving_freezes_with_the_jobs_fraction_and_a_worker_gets_that_list(with_table: StateFolder) -> None:
    job, hashed = take_offer(with_table, validation_fraction=0.5)
    approve(with_table, "heart")
    cohort = authorisation.authorise(with_table, "heart", hashed).cohort
    assert set(cohort.validation or ()) == validation_ids(cohort.subjects, job.validation_fraction)


def test_a_cohort_of_an_older_version_keeps_its_hash_when_fields_are_added() -> None:
    """What stands at its default is not hashed: a new field with a default changes no older cohort."""
    key = b"k" * 32
    bare = Cohort(dataset="table", format="npz", samples=())
    said = Cohort.model_validate(bare.model_dump() | {"mapping": {}, "recipe": {}, "pseudonyms": {}})
    assert cohort_hash(bare, key) == cohort_hash(said, key)
    assert cohort_hash(bare, key) != cohort_hash(bare.model_copy(update={"version": 2}), key)


# Exclusion and checks


def test_an_excluded_subject_is_as_if_it_were_not_there(hospital: StateFolder, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "brain", 4)
    datasets.add(hospital, "brain", root, "nifti-pairs", by=ANNA)
    (root / "labels" / "sub-02.nii.gz").unlink()
    found = datasets.check(hospital, "brain")
    assert [problem.subject for problem in found.errors] == ["sub-02"]
    assert catalog.dataset(hospital.database, "brain").subjects == 3
    assert datasets.exclude(hospital, "brain", ["sub-02"], by=ANNA).subjects == 3
    assert datasets.check(hospital, "brain").problems == ()
    assert exclusions.excluded(hospital.database, "brain") == ["sub-02"]
    assert cohorts.freeze_version(hospital, "brain", by=ANNA).subjects == 3
    with pytest.raises(NotFound, match="subject sub-77: is not in dataset brain"):
        datasets.exclude(hospital, "brain", ["sub-77"], by=ANNA)
    assert "sub-02" not in str(journal.lines(hospital.database))


def test_an_excluded_subject_is_the_same_however_its_accents_are_written(hospital: StateFolder, tmp_path: Path) -> None:
    """On a file system, in a table, and as it is typed."""
    composed, apart = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    for number, name in enumerate((composed, "Bo", "Cy")):
        for folder in ("images", "labels"):
            values = np.random.default_rng(number).integers(0, 3, (4, 5, 6)).astype(np.uint8)
            values = values + np.uint8(90) if folder == "images" else values
            write_volume(tmp_path / "brain" / folder / f"{name}.nii.gz", values)
    datasets.add(hospital, "brain", tmp_path / "brain", "nifti-pairs", by=ANNA)
    assert datasets.exclude(hospital, "brain", [apart], by=ANNA).subjects == 2
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "table.csv").write_text(f"id,age\n{apart},40\nBo,41\nCy,42\n", encoding="utf-8")
    datasets.add(hospital, "rows", tmp_path / "rows", "table", by=ANNA)
    assert datasets.exclude(hospital, "rows", [composed], by=ANNA).subjects == 2


def test_excluding_mends_counts_that_a_plan_needs(hospital: StateFolder, tmp_path: Path) -> None:
    """A label value that only the excluded subject has is gone from the dataset's schema with it."""
    root = write_pairs(tmp_path / "brain", 4)
    write_volume(root / "labels" / "sub-03.nii.gz", np.full((6, 7, 8), 7, np.uint8))
    entry = datasets.add(hospital, "brain", root, "nifti-pairs", by=ANNA).dataset
    assert entry.summary.label_values["7"] == 1
    assert "7" not in datasets.exclude(hospital, "brain", ["sub-03"], by=ANNA).summary.label_values


def test_a_dataset_whose_folder_disappears_is_named_and_comes_back(with_table: StateFolder, tmp_path: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    entry = catalog.dataset(with_table.database, "table")
    for look in (
        lambda: datasets.check(with_table, "table"),
        lambda: cohorts.freeze(with_table, entry),
    ):
        with pytest.raises(
            BadInput, match=r"dataset table: its folder .*data is not there; mount it again, or remove the dataset"
        ):
            look()
    assert catalog.dataset(with_table.database, "table") == entry
    (tmp_path / "elsewhere").rename(tmp_path / "data")
    assert cohorts.freeze_version(with_table, "table", by=ANNA).subjects == 6


def test_a_spacing_makes_another_version_and_workers_get_volumes_of_it(hospital: StateFolder, tmp_path: Path) -> None:
    datasets.add(hospital, "brain", write_pairs(tmp_path / "brain"), "nifti-pairs", by=ANNA)
    cohorts.freeze_version(hospital, "brain", by=ANNA)
    asked = cohorts.freeze_version(hospital, "brain", recipe=Preprocessing(spacing_mm=(2, 1, 1)), by=ANNA)
    again = cohorts.freeze_version(hospital, "brain", by=ANNA)
    assert (asked.version, again.version) == (2, 2), "a recipe stays until another is asked for"
    older, newer = (
        cohort_versions.stored(hospital.database, hospital.cohort_key, "brain", number).cohort for number in (1, 2)
    )
    assert "recipe" in str(cohorts.compare(hospital, "brain", 1, 2))
    entry = catalog.dataset(hospital.database, "brain")
    before, after = (next(RawSource(Path(entry.root), one).read(one.samples)).images["image"] for one in (older, newer))
    assert (before.shape, after.shape) == ((6, 7, 8), (3, 7, 8))
    with sample_cache.open_sample_cache(hospital.prepared, hospital.settings.cache_mb).prepare(
        Path(entry.root), newer
    ) as prepared:
        for path, name in prepared.files:
            (tmp_path / name).symlink_to(path)
        assert np.array_equal(next(PreparedSource(tmp_path, newer).read(newer.samples)).images["image"], after)
