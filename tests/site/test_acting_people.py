"""The person who acts at a site is given as a value: a console's user is journaled as such, whatever account runs
the code.
"""

from __future__ import annotations

import ast
import asyncio
import os
import pwd
from pathlib import Path

import pytest
from pydantic import ValidationError

import archipel
from archipel.data import DataMapping
from archipel.site.audit import journal
from archipel.site.checks.dry_run import Checks
from archipel.site.checks.findings import CheckStep
from archipel.site.services import approvals, checks, cohorts, dataset_documents, datasets, withdrawals
from archipel.site.state.folder import StateFolder
from archipel.vocabulary import Conflict
from archipel.vocabulary.actor import Actor
from worlds.data_files import write_rows
from worlds.site import Terminal, take_offer
from worlds.source_trees import tree_of

BERTA = Actor(name="berta", authentication="console")


def test_every_act_of_a_person_is_journaled_with_that_person(hospital: StateFolder, tmp_path: Path) -> None:
    datasets.add(hospital, "table", write_rows(tmp_path / "data"), "npz", by=BERTA)
    take_offer(hospital)
    dataset_documents.change_mapping(hospital, "table", DataMapping(drop_incomplete=True), {}, by=BERTA)
    datasets.exclude(hospital, "table", ["p-004"], by=BERTA)
    cohorts.freeze_version(hospital, "table", name="spring", by=BERTA)
    approvals.reject(hospital, "heart", by=BERTA)
    asked = approvals.prepare(hospital, "heart")
    shown = {"job_hash": asked.job_hash, "cohort_hash": asked.cohort_hash, "last_decision": asked.last_decision}
    approvals.approve(hospital, "heart", **shown, by=BERTA)
    withdrawals.withdraw(hospital, ["p-002"], by=BERTA)
    withdrawals.reinstate(hospital, "p-002", by=BERTA)
    approvals.revoke(hospital, "heart", by=BERTA)
    datasets.remove(hospital, "table", by=BERTA)
    acts = [line for line in journal.lines(hospital.database) if "by" in line.body]
    assert [line.kind for line in acts] == [
        "dataset-added",
        "dataset-mapped",
        "subjects-excluded",
        "cohort-frozen",
        "cohort-named",
        "rejected",
        "approved",
        "patient-withdrawn",
        "patient-reinstated",
        "revoked",
        "dataset-removed",
    ]
    assert {line.body["by"] for line in acts} == {"console:berta"}
    assert journal.verify(hospital).whole


def test_what_the_opt_out_list_withdraws_is_no_persons_act(with_table: StateFolder) -> None:
    (with_table.folder / "opt-out.txt").write_text("p-002\n")
    assert datasets.check(with_table, "table").subjects == 5
    (line,) = [line for line in journal.lines(with_table.database) if line.kind == "patient-withdrawn"]
    assert line.body["source"] == "opt-out list" and "by" not in line.body


def test_a_persons_word_that_a_plan_was_read_carries_their_name(with_table: StateFolder) -> None:
    take_offer(with_table)
    Checks(with_table, "heart", by=BERTA)._permission.given(plan_was_read=True)
    (line,) = [line for line in journal.lines(with_table.database) if line.kind == "plan-read-for-a-check"]
    assert line.body["by"] == "console:berta"


def test_a_terminals_account_is_journaled_by_its_plain_name(terminal: Terminal, with_table: StateFolder) -> None:
    take_offer(with_table)
    assert terminal("reject", "heart").exit_code == 0
    account = pwd.getpwuid(os.getuid()).pw_name
    assert journal.lines(with_table.database)[-1].body == {"experiment": "heart", "by": account, "note": ""}
    assert Actor.of_terminal().journal_name == account


def test_an_account_without_a_name_is_named_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_123_456_789)
    assert Actor.of_terminal().journal_name == "uid 4123456789"


@pytest.mark.parametrize(
    ("name", "authentication"),
    [("", "terminal"), ("console:root", "terminal"), ("root\x1b[2J", "console"), (" root", "console"), ("x", "Con:x")],
)
def test_a_name_that_would_read_as_another_person_is_refused(name: str, authentication: str) -> None:
    with pytest.raises(ValidationError):
        Actor(name=name, authentication=authentication)


def test_only_the_actors_module_asks_the_operating_system_who_it_is() -> None:
    asking, source = set(), Path(archipel.__path__[0])
    for path in (file for package in ("site", "server", "vocabulary") for file in (source / package).rglob("*.py")):
        for node in ast.walk(tree_of(path)):
            names = [one.name for one in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            called = node.attr if isinstance(node, ast.Attribute) else ""
            if {"pwd", "getpass"}.intersection(names) or called in ("getlogin", "getuser"):
                asking.add(path.name)
    assert asking == {"actor.py"}


def test_a_persons_word_is_about_the_job_that_they_read(with_table: StateFolder, terminal: Terminal) -> None:
    _, read = take_offer(with_table)
    take_offer(with_table, title="another")
    lines = len(journal.lines(with_table.database))
    with pytest.raises(Conflict, match="its job has changed since it was shown"):
        asyncio.run(checks.check(with_table, "heart", CheckStep.LOCAL, by=BERTA, plan_was_read=True, job_hash=read))
    words = ("check", "heart", "--step", "local", "--i-have-read-the-plan", "--job-hash", read)
    assert "its job has changed since it was shown" in str(terminal(*words).exception)
    assert len(journal.lines(with_table.database)) == lines, "nothing was run, and nobody's word was written down"


@pytest.mark.processes
def test_a_checks_report_says_which_step_has_something_to_fix(with_table: StateFolder) -> None:
    take_offer(with_table)
    heard: list[CheckStep] = []
    report = asyncio.run(
        checks.check(with_table, "heart", CheckStep.PREFLIGHT, by=BERTA, say=lambda result: heard.append(result.step))
    )
    assert (report.experiment, report.go) == ("heart", False)
    assert [step.step for step in report.steps] == heard == [CheckStep.DUMMY]
    assert not report.steps[0].go and any(finding.sign == "fix" for finding in report.steps[0].findings)


def test_a_mapping_keeps_what_it_had(with_table: StateFolder) -> None:
    found = dataset_documents.change_mapping(with_table, "table", DataMapping(), {}, by=BERTA)
    assert found.changed == () and journal.lines(with_table.database)[-1].kind == "dataset-added"
