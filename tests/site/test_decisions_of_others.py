"""Several people decide at one site: nobody approves what another person rejected without having read that."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from archipel.site.audit import journal
from archipel.site.services import approvals, offer_documents
from archipel.site.state import OfferState
from archipel.site.state.folder import StateFolder
from archipel.vocabulary import Actor, Conflict
from worlds.people import ANNA, approve
from worlds.site import Terminal, take_offer

BERTA = Actor(name="berta", authentication="console")
ELSEWHERE = """
import json, sys
from pathlib import Path
from archipel.site.services import approvals
from archipel.vocabulary import Actor
from archipel.site.state.folder import StateFolder

site, what, values = StateFolder.open(Path(sys.argv[1])), sys.argv[2], json.loads(sys.argv[3])
try:
    getattr(approvals, what)(site, "heart", by=Actor(name="carla", authentication="console"), **values)
except Exception as error:
    print(error)
"""


def elsewhere(site: StateFolder, what: str, **values: object) -> str:
    """Carla decides in another process; what she is told when she may not."""
    command = [sys.executable, "-c", ELSEWHERE, str(site.folder), what, json.dumps(values)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def hashes(asked: approvals.PreparedApproval) -> dict[str, Any]:
    return asked.model_dump(include={"job_hash", "cohort_hash", "last_decision"})


def state(site: StateFolder) -> OfferState:
    return offer_documents.document(site, "heart").state


@pytest.mark.processes
def test_what_another_process_rejected_since_it_was_shown_is_not_approved(with_table: StateFolder) -> None:
    take_offer(with_table)
    asked = approvals.prepare(with_table, "heart")
    assert (asked.last_decision, asked.offer.earlier) == (0, ())
    assert elsewhere(with_table, "reject", note="no ethics vote") == ""
    lines = len(journal.lines(with_table.database))
    with pytest.raises(
        Conflict,
        match=r"^experiment heart: was rejected by console:carla on 2.*: no ethics vote; that was not shown; read it",
    ):
        approvals.approve(with_table, "heart", by=BERTA, **hashes(asked))
    assert state(with_table) is OfferState.REJECTED and len(journal.lines(with_table.database)) == lines
    again = approvals.prepare(with_table, "heart")
    (shown,) = again.offer.earlier
    assert (shown.state, shown.by, shown.note, shown.same_job) == ("rejected", "console:carla", "no ethics vote", True)
    assert shown.at == journal.lines(with_table.database)[-1].at and again.last_decision == shown.line == lines
    approvals.approve(with_table, "heart", by=BERTA, **hashes(again))
    assert state(with_table) is OfferState.APPROVED


@pytest.mark.processes
def test_two_who_prepared_at_once_do_not_both_approve(with_table: StateFolder) -> None:
    take_offer(with_table)
    asked = hashes(approvals.prepare(with_table, "heart"))
    approvals.approve(with_table, "heart", by=BERTA, **asked)
    assert "was approved by console:berta on" in elsewhere(with_table, "approve", **asked)
    assert [one.by for one in offer_documents.document(with_table, "heart").earlier] == ["console:berta"]


def test_the_hashes_alone_do_not_say_that_a_rejection_was_read(with_table: StateFolder) -> None:
    take_offer(with_table)
    approvals.reject(with_table, "heart", by=ANNA)
    asked = approvals.prepare(with_table, "heart")
    for shown in (0, asked.last_decision - 1, asked.last_decision + 1):
        with pytest.raises(Conflict, match="was rejected by anna on"):
            approvals.approve(with_table, "heart", by=BERTA, **hashes(asked) | {"last_decision": shown})
    assert state(with_table) is OfferState.REJECTED


def test_a_rejection_is_shown_when_the_server_changed_the_job_too(with_table: StateFolder) -> None:
    take_offer(with_table)
    approvals.reject(with_table, "heart", by=ANNA, note="not on our data")
    take_offer(with_table, seed=7)
    take_offer(with_table, experiment="lung")
    approvals.reject(with_table, "lung", by=ANNA)
    (shown,) = approvals.prepare(with_table, "heart").offer.earlier
    assert (shown.note, shown.same_job) == ("not on our data", False)
    approve(with_table, "heart")
    assert [one.state for one in offer_documents.document(with_table, "heart").earlier] == ["rejected", "approved"]


@pytest.mark.parametrize("words", [(), ("--yes",)])
def test_the_terminal_says_who_rejected_before_it_approves(
    terminal: Terminal, with_table: StateFolder, words: tuple[str, ...]
) -> None:
    take_offer(with_table)
    approvals.reject(with_table, "heart", by=BERTA, note="no\n\u202evote")
    said = terminal("approve", "heart", *words, answer="y\n")
    assert said.exit_code == 0, said.output
    assert "decided before: rejected by console:berta on 2" in said.output
    assert "UTC: no \\u202evote" in said.output
    assert state(with_table) is OfferState.APPROVED
