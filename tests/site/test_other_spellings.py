"""A withdrawn patient whom another dataset knows under another id: the command, its result and the status say so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select, update

from archipel.site.cohorts import cohort_versions
from archipel.site.services import cohorts, datasets, status, withdrawals
from archipel.site.state import schema
from archipel.site.state.folder import StateFolder
from archipel.site.withdrawn import AlsoThere, register, spellings
from archipel.site.withdrawn.opt_outs import OptOut
from archipel.vocabulary import Cancellation, Cancelled, Watch
from worlds.data_files import write_pair
from worlds.people import ANNA
from worlds.site import Terminal

BESIDE = ("p-7", "sub-P007", "7.0", "site_P007")


@pytest.fixture
def two(hospital: StateFolder, tmp_path: Path) -> StateFolder:
    """A site whose table writes the ids of the patients in its volumes otherwise."""
    for subject in ("P007", "P008", "P009"):
        write_pair(tmp_path / "heads", subject, (4, 4, 4))
    datasets.add(hospital, "heads", tmp_path / "heads", "nifti-pairs", by=ANNA)
    write_table(tmp_path / "scores", *BESIDE, "P070", "q-1", "q-2")
    datasets.add(hospital, "scores", tmp_path / "scores", "npz", by=ANNA)
    return hospital


def write_table(root: Path, *ids: str) -> Path:
    root.mkdir(exist_ok=True)
    count = len(ids)
    np.savez(root / "t.npz", x=np.arange(float(count)).reshape(-1, 1), y=np.arange(count) % 2, subject=np.array(ids))
    return root


def test_other_ids_of_a_withdrawn_patient_are_named_with_the_command_that_withdraws_them(two: StateFolder) -> None:
    terminal = Terminal(two.folder)
    done = terminal("cohort", "withdraw", "P007")
    assert done.exit_code == 0
    said = " ".join(done.stdout.split())
    assert "P007 may also be there as 7.0, p-7, site_P007, sub-P007 in dataset scores" in said
    assert not withdrawn_from(two, "scores", BESIDE), "nobody is withdrawn by a guess"
    command = re.search(r"withdraw those too with: archipel site (.*? site_P007 sub-P007)", said)
    assert command is not None and terminal(*shlex.split(command[1])).exit_code == 0
    assert withdrawn_from(two, "scores", BESIDE) == set(BESIDE)
    assert "may also be there" not in terminal("cohort", "withdraw", "P007").stdout


def withdrawn_from(site: StateFolder, dataset: str, subjects: tuple[str, ...]) -> set[str]:
    with site.database.read() as connection:
        out = register.tokens_out_of(connection, dataset)
    return {one for one in subjects if register.withdrawal(site.cohort_key, OptOut(one)).token in out}


def test_the_result_says_it_too_also_for_an_id_that_only_one_dataset_knows_otherwise(two: StateFolder) -> None:
    done = withdrawals.withdraw(two, ["site_P008"], by=ANNA)
    assert done.also_there == (AlsoThere(subject="site_P008", dataset="heads", spellings=("P008",)),)
    assert done.also_there[0].remedy.command_line() == (
        "site", "cohort", "withdraw", "--dataset", "heads", "--", "P008",
    )  # fmt: skip
    assert str(done.also_there[0]).endswith("archipel site cohort withdraw --dataset heads -- P008")


def test_a_withdrawal_from_one_dataset_looks_in_the_others_and_in_its_own(two: StateFolder) -> None:
    done = withdrawals.withdraw(two, ["p-7"], by=ANNA, dataset="scores")
    there = {one.dataset: one.spellings for one in done.also_there}
    assert there == {"heads": ("P007",), "scores": ("7.0", "site_P007", "sub-P007")}


def test_a_patient_who_left_the_folder_but_is_in_a_frozen_version_is_found(two: StateFolder, tmp_path: Path) -> None:
    """What was prepared of a version is still used after the rows are gone from the file."""
    cohorts.freeze_version(two, "scores", by=ANNA)
    write_table(tmp_path / "scores", "q-1", "q-2", "q-3")
    datasets.check(two, "scores")
    (found,) = withdrawals.withdraw(two, ["P007"], by=ANNA).also_there
    assert found.spellings == tuple(sorted(BESIDE))


def test_lines_of_the_opt_out_list_whose_patients_have_other_ids_are_in_the_status(two: StateFolder) -> None:
    (two.folder / "opt-out.txt").write_text("# nobody\nP007\nq-9\n")
    listed = status.status(two).opt_outs
    assert listed is not None and listed.unmatched == (3,)
    assert [(one.line, one.dataset, one.spellings) for one in listed.also_there] == [
        (2, "scores", tuple(sorted(BESIDE)))
    ]
    said = " ".join(Terminal(two.folder)("status").stdout.split())
    assert "the patient of line 2 may also be there as 7.0, p-7, site_P007, sub-P007 in dataset scores" in said
    assert " P007" not in said.replace("may also be there as", ""), "the id of the withdrawn patient is not repeated"


def test_many_other_ids_are_counted(hospital: StateFolder, tmp_path: Path) -> None:
    ids = [f"P007_v{visit}" for visit in range(8)]
    datasets.add(hospital, "t", write_table(tmp_path / "t", *ids), "npz", by=ANNA, options={})
    (found,) = withdrawals.withdraw(hospital, ["P007"], by=ANNA).also_there
    assert (found.spellings, found.more) == (tuple(ids[:5]), 3)
    assert "P007_v4 and 3 more in dataset t" in str(found)


def test_members_noted_before_their_ids_were_are_found_by_a_scan(two: StateFolder) -> None:
    with two.database.write() as connection:
        connection.execute(update(schema.members).values(subject=""))
    assert spellings.without_ids(two) == ("heads", "scores")
    (found,) = withdrawals.withdraw(two, ["P007"], by=ANNA).also_there
    assert found.spellings == tuple(sorted(BESIDE))


def test_a_stopped_search_is_said_and_the_withdrawal_is_done(two: StateFolder) -> None:
    cohorts.freeze_version(two, "scores", by=ANNA)
    later = LaterStopped()
    done = withdrawals.withdraw(two, ["P007"], by=ANNA, watch=Watch(cancellation=later))
    assert done.search_was_stopped and done.patients == 1
    with pytest.raises(Cancelled):
        list(cohort_versions.frozen_subjects(two.database, Watch(cancellation=later)))


class LaterStopped(Cancellation):
    """Cancelled from the second look on."""

    looks = 0

    @property
    def cancelled(self) -> bool:
        self.looks += 1
        return self.looks > 1


def test_who_withdrew_is_not_among_the_members_any_more(two: StateFolder) -> None:
    withdrawals.withdraw(two, ["P007"], by=ANNA)
    with two.database.read() as connection:
        ids = set(connection.scalars(select(schema.members.c.subject)))
    assert "P007" not in ids and {"P008", "p-7"} <= ids


def test_a_dataset_that_comes_later_with_another_spelling_of_a_withdrawn_id_is_warned_of(
    hospital: StateFolder, tmp_path: Path
) -> None:
    """The register has no id, so only what differs in signs, capitals, zeros and the like is found then."""
    withdrawals.withdraw(hospital, ["P007", "P-0O2"], by=ANNA)
    root = write_table(tmp_path / "later", "p-7", "sub-P7", "P0070", "7", "p-007", "q-1", "q-2")
    added = datasets.add(hospital, "later", root, "npz", by=ANNA)
    (warned,) = [one for one in added.problems if "withdrawn patient" in one.cause]
    assert warned.severity == "warning"
    assert warned.cause.endswith("3 subject ids that a withdrawn patient has in another spelling (p-007, p-7, sub-P7)")
    assert warned in datasets.check(hospital, "later").problems
    command = shlex.split(warned.remedy.partition(": archipel site ")[2])
    assert Terminal(hospital.folder)(*command).exit_code == 0
    found = datasets.check(hospital, "later")
    assert found.subjects == 4 and not found.problems
