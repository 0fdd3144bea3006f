"""Which datasets lose what was found in their files when a patient withdraws who is not a member of any."""

from __future__ import annotations

import unicodedata

import pytest
from sqlalchemy import insert, select

from archipel.site.datasets import members
from archipel.site.state import schema
from archipel.site.state.folder import StateFolder
from archipel.site.withdrawals.withdrawals import withdraw
from archipel.site.withdrawn import OptOut
from worlds.people import ANNA

ZOE = {form: unicodedata.normalize(form, "zoë") for form in ("NFC", "NFD")}
FILE = {"purpose": "image/1", "size": 1, "modified_ns": 1, "changed_ns": 1, "inode": 1, "facts": "{}"}


def note(site: StateFolder, dataset: str, **changed: str) -> None:
    """What was found in a file of the dataset."""
    with site.database.write() as connection:
        connection.execute(insert(schema.files).values({**FILE, "dataset": dataset, **changed}))


def forgotten(site: StateFolder, *people: OptOut) -> set[str]:
    """The datasets of which something was forgotten; nothing of them is there, and everything of the others."""
    with site.database.write() as connection:
        before = set(connection.scalars(select(schema.files.c.dataset)))
        seen = members.forget_faulty(connection, people)
        assert set(connection.scalars(select(schema.files.c.dataset))) == before - seen
    return seen


@pytest.mark.parametrize("asked", ZOE)
@pytest.mark.parametrize("stored", ZOE)
def test_a_name_is_found_in_places_and_tables_however_its_accents_are_encoded(
    hospital: StateFolder, stored: str, asked: str
) -> None:
    note(hospital, "brain", place=f"labels/{ZOE[stored]}.nii.gz")
    note(hospital, "clinic", place="a.csv", purpose="table/6", facts=f'{{"rows": ["{ZOE[stored]}"]}}')
    note(hospital, "heart", place="labels/zoe.nii.gz")
    assert forgotten(hospital, OptOut(ZOE[asked])) == {"brain", "clinic"}


def test_a_withdrawal_from_one_dataset_forgets_nothing_of_another(hospital: StateFolder) -> None:
    for name in ("brain", "heart"):
        note(hospital, name, place="labels/p-1.nii.gz")
    assert forgotten(hospital, OptOut("p-1", "heart")) == {"heart"}


def test_an_excluded_patient_may_be_in_a_file_whose_name_does_not_say_it(hospital: StateFolder) -> None:
    note(hospital, "brain", place="labels/scan.nii.gz")
    with hospital.database.write() as connection:
        connection.execute(insert(schema.exclusions).values(dataset="brain", subject=ZOE["NFD"], excluded_at="now"))
    assert forgotten(hospital, OptOut("p-1")) == set()
    assert forgotten(hospital, OptOut(ZOE["NFC"])) == {"brain"}


def test_of_many_patients_every_file_counts_as_one_of_theirs(hospital: StateFolder) -> None:
    note(hospital, "brain", place="labels/scan.nii.gz")
    assert forgotten(hospital, *(OptOut(f"p-{number}") for number in range(20))) == set()
    assert forgotten(hospital, *(OptOut(f"p-{number}") for number in range(21))) == {"brain"}


def test_only_those_who_were_not_withdrawn_before_are_searched(hospital: StateFolder) -> None:
    """By their tokens: the same patient in another spelling is the same withdrawal."""
    withdraw(hospital, [OptOut(ZOE["NFC"])], by=ANNA)
    note(hospital, "brain", place=f"labels/{ZOE['NFD']}.nii.gz")
    note(hospital, "heart", place="labels/p-1.nii.gz")
    withdraw(hospital, [OptOut(ZOE["NFD"]), OptOut("p-1")], by=ANNA)
    with hospital.database.read() as connection:
        assert set(connection.scalars(select(schema.files.c.dataset))) == {"brain"}
