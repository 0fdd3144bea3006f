"""Heads of the server's journal at a site: one that goes back is a fault, told once; the hospital's work goes on."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from archipel.governance import IdentityKey, JournalHead, sign_closed, sign_head
from archipel.site.agent.agent import Agent
from archipel.site.audit import journal, journal_heads
from archipel.site.execution.task_store import SiteTaskStore
from archipel.site.state.folder import StateFolder
from archipel.transport import Heartbeat, RoundMessage, Welcome
from archipel.vocabulary import BadInput, RoundClosed, Task, TaskKey, TrainingPass
from worlds.site import SERVER, take_offer


def head(number: int, digit: str = "1", owner: str = "server", key: IdentityKey = SERVER) -> dict[str, Any]:
    unsigned = JournalHead(owner=owner, number=number, hash="sha256:" + digit * 64, at=f"2026-01-01T00:00:{number}")
    return sign_head(key, unsigned).model_dump(mode="json")


def shown(site: StateFolder, *numbers: int) -> list[str]:
    """The faults after these heads came, one after the other."""
    for number in numbers:
        journal_heads.record_seen(site, head(number), None)
    return [str(fault) for fault in journal_heads.faults(site.database)]


def test_a_journal_that_grows_is_no_fault(hospital: StateFolder) -> None:
    assert shown(hospital, 5, 5, 9, 40) == []
    assert journal_heads.of_server(hospital.database).number == 40


def test_a_journal_that_became_shorter_is_one_fault_however_often_it_is_shown_and_as_it_grows(
    hospital: StateFolder,
) -> None:
    with capture_logs() as logs:
        found = shown(hospital, 30, 42, 17, 17, 17, 18, 30)
    assert len(found) == 1
    assert "line 42 existed on 2026-01-01T00:00:42; on 2026-01-01T00:00:17 line 17 was the last" in found[0]
    assert "a backup was restored there, or lines were removed" in found[0]
    assert [entry["log_level"] for entry in logs] == ["error"]
    assert len(shown(hospital, 25)) == 2
    assert [line.kind for line in journal.lines(hospital.database)].count("server-journal-fault") == 2


def test_a_backup_that_ends_at_a_line_that_was_shown_before_is_one_fault(hospital: StateFolder) -> None:
    assert len(shown(hospital, 17, 42, 17, 18, 19)) == 1


def test_another_line_at_the_same_number_is_a_fault(hospital: StateFolder) -> None:
    shown(hospital, 42)
    journal_heads.record_seen(hospital, head(42, "2"), None)
    journal_heads.record_seen(hospital, head(42, "2"), None)
    (fault,) = journal_heads.faults(hospital.database)
    assert "line 42 is not the same on" in str(fault)
    assert fault.kept.is_signed_by(SERVER.public) and fault.shown.is_signed_by(SERVER.public)


def test_a_longer_journal_without_the_line_that_was_shown_before_is_a_fault(hospital: StateFolder) -> None:
    shown(hospital, 42)
    journal_heads.record_seen(hospital, head(42), None, contains=True)
    journal_heads.record_seen(hospital, head(50), None, contains=True)
    assert journal_heads.faults(hospital.database) == []
    journal_heads.record_seen(hospital, head(60), None, contains=False)
    (fault,) = journal_heads.faults(hospital.database)
    assert (fault.kept.number, fault.shown.number) == (50, 60) and "line 50 is not the same on" in str(fault)
    assert len(shown(hospital, 60, 61)) == 1


def test_what_the_server_did_not_sign_as_its_own_is_not_kept(hospital: StateFolder) -> None:
    for strange in (head(9, key=IdentityKey.generate()), head(9, owner=hospital.name), head(9) | {"number": 10}):
        with pytest.raises(BadInput, match="is not signed by this server"):
            journal_heads.record_seen(hospital, strange, None)
    assert shown(hospital, 5) == []


class Silent:
    """A link on which nothing is said."""

    up = False

    async def send(self, _: Any) -> bool:
        return False


async def test_a_welcome_a_heartbeat_and_a_word_on_a_round_each_show_a_head(with_table: StateFolder) -> None:
    job, hashed = take_offer(with_table)
    agent = Agent(with_table, Silent())  # type: ignore[arg-type]
    key = TaskKey(experiment=job.experiment, round=1)
    task = Task(key=key, job_hash=hashed, models=(job.initial_model,), passes=(TrainingPass(round=1, arguments={}),))
    SiteTaskStore(with_table).begin(task)
    closed = RoundClosed(experiment="heart", round=1, attempt=1, job_hash=hashed, committed=False, contributors=())

    def word(shown: dict[str, Any]) -> RoundMessage:
        return RoundMessage(closed=closed, signature=sign_closed(SERVER, closed), head=shown)

    def welcome(number: int) -> Welcome:
        return Welcome(federation="North", time="", heartbeat_s=15, head=head(number))

    await agent.take(welcome(50))
    await agent.take(word(head(40)))
    assert len(journal_heads.faults(with_table.database)) == 1
    await agent.take(Heartbeat(head=head(30)))
    await agent.take(welcome(20))
    await agent.take(welcome(20))
    await agent.take(welcome(25).model_copy(update={"contains": False}))
    await agent.take(Heartbeat(head=head(10, key=IdentityKey.generate())))
    assert [fault.shown.number for fault in journal_heads.faults(with_table.database)] == [40, 30, 20, 25]
    kinds = [line.kind for line in journal.lines(with_table.database)]
    assert kinds.count("round-closed") == 1 and journal.verify(with_table).whole


async def test_receipts_come_with_heartbeats(hospital: StateFolder) -> None:
    agent = Agent(hospital, Silent())  # type: ignore[arg-type]
    now = journal.unattested_head(hospital)
    assert now is not None
    await agent.take(Heartbeat(attested=sign_head(SERVER, now).model_dump(mode="json")))
    assert journal.unattested_head(hospital) is None and journal.verify(hospital).attested == now.number
