"""Errors, the journal and a dataset's check as a program gets them: typed, and what the command line prints as JSON."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import insert, update

from archipel.governance import JournalHead, sign_head
from archipel.site.audit import journal as audit
from archipel.site.audit import journal_heads
from archipel.site.services import datasets, failures, journal
from archipel.site.services.datasets import DatasetCheck
from archipel.site.services.failures import FailureRow
from archipel.site.services.journal import VerifiedExport, VerifiedJournal
from archipel.site.state import SiteJournalKind, schema
from archipel.site.state.folder import StateFolder
from archipel.storage import utc_now
from archipel.tensors import document_hash
from archipel.vocabulary import BadInput, ErrorCode, Failure, NotFound, TaskKey
from archipel.vocabulary.actor import Actor
from worlds.site import Terminal, take_offer

BERTA = Actor(name="berta", authentication="console")
TEXT = "Traceback ... KeyError: 'patient Müller'"


@pytest.fixture
def failed(with_table: StateFolder) -> StateFolder:
    """A site where a task of the second round failed."""
    take_offer(with_table)
    failure = Failure(
        code=ErrorCode.PLAN_ERROR, sentence="the plan raised", exception="KeyError", file="plan.py", line=7
    )
    row = {"task": "{}", "task_hash": "sha256:" + "0" * 64, "state": "failed", "accepted_at": utc_now()}
    key = TaskKey(experiment="heart", round=2).model_dump(mode="json")
    with with_table.database.write() as connection:
        statement = insert(schema.tasks).values(**key, **row, failure=failure.model_dump_json(), detail=TEXT)
        connection.execute(statement)
    return with_table


def test_a_failure_is_listed_without_its_text_and_read_with_it(failed: StateFolder) -> None:
    (row,) = failures.rows(failed)
    assert (row.task, row.released) == (TaskKey(experiment="heart", round=2), False)
    assert "Müller" not in row.model_dump_json() and "the plan raised" in row.failure
    (text,) = failures.texts(failed, "heart", 2)
    assert text.text == TEXT
    with pytest.raises(NotFound, match="there are none here"):
        failures.texts(failed, "heart", 1)


def test_whoever_releases_an_error_is_journaled_with_the_texts_hash(failed: StateFolder) -> None:
    (text,) = failures.release(failed, "heart", 2, by=BERTA)
    assert text.text == TEXT
    line = audit.lines(failed.database)[-1]
    assert (line.kind, line.body["by"], line.body["text"]) == (
        "error-released",
        "console:berta",
        document_hash(TEXT.encode()),
    )
    assert failures.rows(failed)[0].released


def test_the_command_lines_json_of_failures_is_the_services(failed: StateFolder) -> None:
    printed = Terminal(failed.folder).json("errors", "list")
    assert isinstance(printed, list)
    assert [FailureRow.model_validate(row) for row in printed] == list(failures.rows(failed))


def test_the_journal_is_verified_alike_by_a_program_and_by_the_command_line(with_table: StateFolder) -> None:
    found = journal.verify(with_table)
    assert (found.site, found.joined, found.whole, found.lines, found.attested) == ("charite", True, True, 2, 0)
    assert VerifiedJournal.model_validate(Terminal(with_table.folder).json("journal", "verify")) == found
    with with_table.database.write() as connection:
        connection.execute(update(schema.journal).where(schema.journal.c.number == 2).values(kind="dataset-lost"))
    tampered = journal.verify(with_table)
    assert not tampered.whole and any("line 2" in problem for problem in tampered.problems)


def test_an_export_is_verified_alike_by_a_program_and_by_the_command_line(
    with_table: StateFolder, tmp_path: Path
) -> None:
    written = journal.export(with_table)
    assert (written.lines, written.key) == (2, with_table.identity.public)
    found = journal.verify_export(written.text, written.key)
    assert (found.site, found.whole, found.lines, found.key) == ("charite", True, 2, written.key)
    file = tmp_path / "journal.jsonl"
    file.write_text(written.text)
    words = ("journal", "verify", "--file", str(file), "--key", written.key)
    assert VerifiedExport.model_validate(Terminal(with_table.folder).json(*words)) == found
    first, *rest = written.text.splitlines(keepends=True)
    assert not journal.verify_export("".join([first.replace("charite", "tum"), *rest]), written.key).whole
    with pytest.raises(BadInput, match="does not end with a signed head"):
        journal.verify_export(first)


def test_the_newest_lines_come_with_what_was_disclosed_before_them(with_table: StateFolder) -> None:
    with with_table.database.write() as connection:
        for name in ("first", "second"):
            audit.append(connection, SiteJournalKind.DATASETS_DISCLOSED, {"datasets": [{"name": name}]})
        audit.append(connection, "checked", {"experiment": "heart"})
    found = journal.newest(with_table, 1)
    assert [line.kind for line in found.lines] == ["checked"]
    assert found.disclosed_before is not None and found.disclosed_before.body["datasets"] == [{"name": "second"}]
    assert journal.newest(with_table, 50).disclosed_before is None


def test_the_servers_head_is_given_once_it_came(with_table: StateFolder) -> None:
    with pytest.raises(NotFound, match="none came yet"):
        journal.server_head(with_table)
    signer = with_table.identity
    heads = [
        sign_head(signer, JournalHead(owner="server", number=number, hash="sha256:" + "1" * 64, at=utc_now()))
        for number in (9, 5)
    ]
    with with_table.database.write() as connection:
        for head in heads:
            journal_heads.keep(connection, head, None)
    found = journal.server_head(with_table)
    assert found.head.number == 5 and len(found.faults) == 1


def test_a_datasets_check_names_what_keeps_data_out_and_what_does_not(with_table: StateFolder, tmp_path: Path) -> None:
    found = datasets.check(with_table, "table")
    assert (found.dataset, found.subjects, found.samples, found.errors) == ("table", 6, 6, ())
    assert DatasetCheck.model_validate(Terminal(with_table.folder).json("dataset", "check", "table")) == found
    (tmp_path / "data" / "table.npz").write_bytes(b"spoilt")
    spoilt = datasets.check(with_table, "table")
    assert (spoilt.subjects, spoilt.samples) == (0, 0)
    assert [problem.severity for problem in spoilt.errors] == ["error"] and "cannot be read" in spoilt.errors[0].cause
