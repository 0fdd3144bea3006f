"""The errors that a hospital's person meets most carry what happened as values, and what to do as a remedy."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import update

from archipel.site.approval import authorisation
from archipel.site.cohorts import cohort_versions
from archipel.site.datasets import catalog
from archipel.site.execution.preparation import prepared
from archipel.site.membership import renewal
from archipel.site.state import schema
from archipel.site.state.folder import StateFolder
from archipel.site.withdrawals.withdrawals import take_opt_outs
from archipel.vocabulary import ArchipelError, BadInput, ErrorCode, Refused
from archipel.vocabulary.remedies import (
    Approve,
    CheckJournal,
    ExcludeSubjects,
    FreezeAgain,
    MountFolder,
    Nothing,
    RenewCertificate,
)
from worlds.data_files import write_rows
from worlds.people import ANNA
from worlds.site import Terminal, take_offer


def spoil(root: Path, subject: str) -> None:
    """Make one row of the table useless."""
    with np.load(root / "table.npz") as arrays:
        x, y, ids = arrays["x"].copy(), arrays["y"], arrays["subject"]
    x[list(ids).index(subject)] = np.nan
    np.savez(root / "table.npz", x=x, y=y, subject=ids)


def test_an_offer_that_waits_names_the_approval(with_table: StateFolder) -> None:
    unknown = "sha256:" + "0" * 64
    with pytest.raises(Refused) as caught:
        authorisation.authorise(with_table, "heart", unknown)
    assert caught.value.command == Nothing()
    _, hashed = take_offer(with_table)
    with pytest.raises(Refused) as caught:
        authorisation.authorise(with_table, "heart", hashed)
    assert caught.value.values == {"experiment": "heart", "state": "offered"}
    assert caught.value.command == Approve(experiment="heart")


def test_an_approval_that_is_gone_names_the_journal(with_table: StateFolder) -> None:
    _, hashed = take_offer(with_table)
    with with_table.database.write() as connection:
        connection.execute(update(schema.experiments).values(state="approved"))
    with pytest.raises(Refused, match="its approval is missing") as caught:
        authorisation.authorise(with_table, "heart", hashed)
    assert caught.value.command == CheckJournal()


def test_a_folder_that_is_gone_is_named(with_table: StateFolder, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(BadInput, match="is not there") as caught:
        catalog.scanned(with_table, catalog.dataset(with_table.database, "table"), partial(take_opt_outs, with_table))
    folder = str(tmp_path / "data")
    assert caught.value.values == {"dataset": "table", "folder": folder}
    assert caught.value.command == MountFolder(dataset="table", folder=folder)


def test_the_remedy_of_faulty_subjects_is_a_command_that_helps(
    with_table: StateFolder, tmp_path: Path, terminal: Terminal
) -> None:
    spoil(tmp_path / "data", "p-002")
    entry = catalog.dataset(with_table.database, "table")
    with pytest.raises(catalog.DatasetProblems) as caught:
        catalog.usable_scan(with_table, entry, partial(take_opt_outs, with_table))
    error = caught.value
    assert error.values == {"dataset": "table", "problems": 1}
    assert error.command == ExcludeSubjects(dataset="table", subjects=("p-002",))
    words = error.command.command_line()
    assert words is not None and words[0] == "site"
    result = terminal(*words[1:])
    assert result.exit_code == 0, result.output
    found = catalog.usable_scan(
        with_table, catalog.dataset(with_table.database, "table"), partial(take_opt_outs, with_table)
    )
    assert "p-002" not in catalog.subjects_of(found) and found.subjects == 5


def test_a_new_dataset_has_no_subjects_to_exclude_yet(with_table: StateFolder, tmp_path: Path) -> None:
    spoil(tmp_path / "data", "p-002")
    with pytest.raises(catalog.DatasetProblems) as caught:
        catalog.usable_scan(
            with_table, catalog.dataset(with_table.database, "table"), partial(take_opt_outs, with_table), new=True
        )
    assert caught.value.command is None


async def test_the_remedy_of_changed_data_is_a_command_that_helps(
    with_table: StateFolder, tmp_path: Path, terminal: Terminal
) -> None:
    frozen = cohort_versions.freeze_version(with_table, "table", partial(take_opt_outs, with_table), by=ANNA)
    cohort = cohort_versions.stored(with_table.database, with_table.cohort_key, "table", frozen.version.version).cohort
    write_rows(tmp_path / "data", seed=1)
    with pytest.raises(BadInput) as caught:
        await prepared(with_table, tmp_path / "data", cohort)
    assert caught.value.code is ErrorCode.DATA_CHANGED
    assert caught.value.values == {"place": "table.npz", "dataset": "table", "version": frozen.version.version}
    assert caught.value.command == FreezeAgain(dataset="table")
    words = caught.value.command.command_line()
    assert terminal(*words[1:]).exit_code == 0
    again = cohort_versions.stored(with_table.database, with_table.cohort_key, "table").cohort
    assert again.version == frozen.version.version + 1
    (await prepared(with_table, tmp_path / "data", again)).close()


async def test_a_renewal_that_got_no_answer_is_tried_again(
    with_table: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> None:
        raise ArchipelError("server", "gone", "try", code=ErrorCode.LOST)

    monkeypatch.setattr(renewal, "renew", lost)
    with pytest.raises(ArchipelError, match="try again when it can") as caught:
        await renewal.renew_now(with_table)
    assert caught.value.command == RenewCertificate()
    assert set(caught.value.values) == {"server", "until"}
