"""A follower of a site's changes gets each once and in order, resumes after a kill, and disturbs no other follower."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert

from archipel.site.agent import link_status
from archipel.site.agent.process import follow_decisions
from archipel.site.approval import decisions
from archipel.site.audit import journal
from archipel.site.services import cohorts, datasets
from archipel.site.state import SiteJournalKind, UnjournaledKind, changes, schema
from archipel.site.state.change_records import (
    DECISIONS,
    RECORD_OF,
    WHAT_CHANGED,
    DatasetChange,
    JournalChange,
    LinkChange,
    TaskChange,
    change_of_line,
)
from archipel.site.state.folder import StateFolder
from archipel.storage import Database
from archipel.transport.wakeup import FOLDER, Wakeup
from archipel.vocabulary import TaskKey
from worlds.people import ANNA, approve
from worlds.site import take_offer

KEY = TaskKey(experiment="heart", round=1)
FOLLOWER = """
import asyncio, sys
from contextlib import aclosing
from pathlib import Path
from archipel.site.state import changes
from archipel.site.state.folder import StateFolder

async def main():
    async with aclosing(changes.follow(StateFolder.open(Path(sys.argv[1])), int(sys.argv[2]))) as stream:
        async for change in stream:
            print(change.number, change.kind, flush=True)

asyncio.run(main())
"""


@contextlib.contextmanager
def follower(site: StateFolder, after: int) -> Iterator[subprocess.Popen[str]]:
    """A process that prints the number and kind of each change after ``after``."""
    command = [sys.executable, "-c", FOLLOWER, str(site.folder), str(after)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def seen_by(process: subprocess.Popen[str], count: int) -> list[str]:
    """The next ``count`` lines of a follower."""
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(count)]


def write(site: StateFolder, *problems: str) -> None:
    for problem in problems:
        with site.database.write() as connection:
            changes.append(connection, LinkChange(connected=False, problem=problem))


def all_changes(site: StateFolder) -> list[str]:
    return [f"{change.number} {change.kind}" for change in changes.read(site, 0)]


@pytest.mark.processes
def test_two_processes_get_every_change_once_in_order_and_a_killed_one_goes_on_where_it_was(
    hospital: StateFolder, tmp_path: Path
) -> None:
    known = changes.newest(hospital)
    with follower(hospital, 0) as first, follower(hospital, known) as second:
        assert seen_by(first, known) == all_changes(hospital)
        write(hospital, *(f"problem {number}" for number in range(30)))
        link_status.note(hospital.database, "", connected=True)
        expected = all_changes(hospital)[known:]
        assert seen_by(first, 10) == expected[:10]
        first.send_signal(signal.SIGKILL)
        assert first.wait() == -signal.SIGKILL
        write(hospital, "while one is dead")
        expected = all_changes(hospital)[known:]
        with follower(hospital, known + 10) as again:
            write(hospital, "after it is back")
            expected = all_changes(hospital)[known:]
            assert seen_by(again, len(expected) - 10) == expected[10:]
        assert seen_by(second, len(expected)) == expected
    # What the killed ones left behind goes with the next wake-up.
    write(hospital, "nobody follows any more")
    assert not list((hospital.folder / FOLDER).iterdir())


async def test_a_change_that_cannot_be_read_keeps_no_decision_from_the_agent(with_table: StateFolder) -> None:
    listener, acted = Wakeup(with_table.folder), asyncio.Event()

    async def act() -> None:
        acted.set()

    newest = changes.newest(with_table)
    with with_table.database.write() as connection:
        row = {"number": newest + 1, "at": "", "line": None, "what": '{"kind":"of-a-newer-version"}'}
        connection.execute(insert(schema.changes).values(**row))
    take_offer(with_table)
    decisions.reject(with_table.database, "heart", by=ANNA)
    agent = asyncio.create_task(follow_decisions(with_table, newest, listener, act))
    try:
        await asyncio.wait_for(acted.wait(), 10)
    finally:
        agent.cancel()
        await asyncio.gather(agent, return_exceptions=True)
        listener.close()


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> asyncio.Semaphore:
    """Released each time that somebody here has read all there is and begins to wait for a wake-up."""
    waits, wait = asyncio.Semaphore(0), Wakeup.wait

    async def counted(bell: Wakeup, timeout_s: float | None = None) -> bool:
        waits.release()
        return await wait(bell, timeout_s)

    monkeypatch.setattr(Wakeup, "wait", counted)
    return waits


async def test_a_follower_is_woken_by_a_commit_and_not_by_its_clock(
    hospital: StateFolder, listening: asyncio.Semaphore
) -> None:
    known = changes.newest(hospital)
    async with aclosing(changes.follow(hospital, known, look_s=3600)) as stream:
        for number in range(1, 4):
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.wait_for(listening.acquire(), 30)
            assert not waiting.done()
            await asyncio.to_thread(write, hospital, f"problem {number}")
            change = await asyncio.wait_for(waiting, 30)
            assert (change.number, change.kind) == (known + number, UnjournaledKind.LINK_CHANGED)
    assert not list((hospital.folder / FOLDER).iterdir())


async def test_what_the_agent_does_itself_wakes_followers_and_not_the_agent(hospital: StateFolder) -> None:
    agent, follower = Wakeup(hospital.folder), Wakeup(hospital.folder, follower=True)
    try:
        with hospital.database.write() as connection:
            changes.append(connection, TaskChange(kind=SiteJournalKind.TASK_BEGUN_AGAIN, task=KEY))
        assert await follower.wait(5)
        # A wake-up is in its listener's socket before the commit returns: there is nothing to wait for.
        assert not await agent.wait(0)
        with hospital.database.write() as connection:
            changes.append(connection, DatasetChange(kind=SiteJournalKind.DATASET_ADDED, dataset="mri"))
        assert await agent.wait(5)
        assert await follower.wait(5)
        with hospital.database.write():
            pass
        assert not await follower.wait(0)
    finally:
        agent.close()
        follower.close()


async def test_a_change_whose_writer_died_before_it_could_wake_anybody_is_seen(
    hospital: StateFolder, listening: asyncio.Semaphore
) -> None:
    mute = Database(hospital.database.url)
    async with aclosing(changes.follow(hospital, changes.newest(hospital), look_s=0.05)) as stream:
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.wait_for(listening.acquire(), 30)
        with mute.write() as connection:
            changes.append(connection, LinkChange(connected=True))
        assert (await asyncio.wait_for(waiting, 30)).what == LinkChange(connected=True)
    mute.close()


async def test_the_agent_acts_at_once_on_a_decision_whoever_else_listens(
    with_table: StateFolder, listening: asyncio.Semaphore
) -> None:
    take_offer(with_table)
    decided, other_came = asyncio.Event(), asyncio.Event()
    listener = Wakeup(with_table.folder)
    Wakeup(with_table.folder, follower=True)._socket.close()

    async def act() -> None:
        decided.set()

    async def look_on() -> None:
        async with aclosing(changes.follow(with_table, changes.newest(with_table), look_s=3600)) as stream:
            async for change in stream:
                if change.kind is SiteJournalKind.APPROVED:
                    other_came.set()

    agent = asyncio.create_task(follow_decisions(with_table, changes.newest(with_table), listener, act, look_s=3600))
    console = asyncio.create_task(look_on())
    for _ in (agent, console):
        await asyncio.wait_for(listening.acquire(), 30)
    assert with_table.agent_runs()
    await asyncio.to_thread(approve, with_table, "heart")
    await asyncio.wait_for(asyncio.gather(decided.wait(), other_came.wait()), 30)
    console.cancel()
    await asyncio.gather(console, return_exceptions=True)
    decided.clear()
    await asyncio.to_thread(decisions.revoke, with_table.database, "heart", by=ANNA)
    await asyncio.wait_for(decided.wait(), 30)
    decided.clear()
    await asyncio.to_thread(write, with_table, "the agent's own change")
    await asyncio.to_thread(decisions.reject, with_table.database, "heart", by=ANNA)
    await asyncio.wait_for(decided.wait(), 30)
    agent.cancel()
    await asyncio.gather(agent, return_exceptions=True)
    listener.close()
    assert not with_table.agent_runs()


async def test_the_agent_goes_on_when_acting_fails_and_when_changes_are_gone(with_table: StateFolder) -> None:
    listener, calls = Wakeup(with_table.folder), asyncio.Queue[int]()

    async def act() -> None:
        calls.put_nowait(1)
        raise OSError("the disk is full")

    beyond = changes.newest(with_table) + 100
    agent = asyncio.create_task(follow_decisions(with_table, beyond, listener, act, look_s=3600))
    await asyncio.wait_for(calls.get(), 30)
    await asyncio.to_thread(datasets.check, with_table, "table")
    await asyncio.wait_for(calls.get(), 30)
    agent.cancel()
    await asyncio.gather(agent, return_exceptions=True)
    listener.close()


def test_a_change_is_kept_with_what_changed_or_not_at_all(hospital: StateFolder) -> None:
    known, lines = changes.newest(hospital), len(journal.lines(hospital.database))
    with pytest.raises(RuntimeError), hospital.database.write() as connection:
        journal.append(connection, "dataset-added", {"name": "heart"})
        raise RuntimeError("killed")
    assert (changes.newest(hospital), len(journal.lines(hospital.database))) == (known, lines)
    with hospital.database.write() as connection:
        line = journal.append(connection, "dataset-added", {"name": "heart"})
    (change,) = changes.read(hospital, known)
    assert (change.number, change.line) == (known + 1, line.number)
    assert change.what == DatasetChange(kind=SiteJournalKind.DATASET_ADDED, dataset="heart")


def test_the_table_is_bounded_and_who_needs_what_is_gone_is_told_so(hospital: StateFolder) -> None:
    for number in range(350):
        with hospital.database.write() as connection:
            changes.append(connection, LinkChange(connected=False, problem=str(number)), kept=100)
    newest = changes.newest(hospital)
    assert len(changes.read(hospital, newest - 100)) == 100
    with hospital.database.read() as connection:
        kept = connection.exec_driver_sql("SELECT count(*) FROM changes").scalar()
    assert kept is not None and 100 <= kept < 200
    with pytest.raises(changes.ChangesMissing, match=r"numbers 4 to \d+ are not kept any more") as gone:
        changes.read(hospital, 3)
    assert gone.value.newest == newest and not changes.read(hospital, gone.value.newest)


def test_a_number_that_never_was_is_an_older_backup(hospital: StateFolder) -> None:
    newest = changes.newest(hospital)
    with pytest.raises(changes.ChangesMissing, match="an older backup was restored") as gone:
        changes.read(hospital, newest + 1)
    assert gone.value.newest == newest


def test_what_people_and_the_agent_do_comes_as_typed_changes(with_table: StateFolder) -> None:
    take_offer(with_table)
    cohorts.freeze_version(with_table, "table", name="first", by=ANNA)
    approve(with_table, "heart")
    link_status.note(with_table.database, "", connected=True)
    link_status.note(with_table.database, "", connected=True)
    datasets.check(with_table, "table")
    datasets.exclude(with_table, "table", ["p-001"], by=ANNA)
    found = changes.read(with_table, 0)
    assert [change.number for change in found] == list(range(1, len(found) + 1))
    assert [change.kind for change in found] == [
        "site-made", "dataset-added", "job-offered", "cohort-frozen", "cohort-named", "approved", "link-changed",
        "dataset-checked", "subjects-excluded", "dataset-checked",
    ]  # fmt: skip
    assert all((change.line is None) == isinstance(change.kind, UnjournaledKind) for change in found)
    assert not any("p-001" in WHAT_CHANGED.dump_json(change.what).decode() for change in found)
    standing = link_status.read(with_table.database)
    assert standing is not None and standing.connected


@given(st.builds(TaskKey, experiment=st.just("heart"), round=st.integers(0, 99), about=st.sampled_from(["", "berlin"])))
def test_a_line_about_a_task_is_a_change_of_that_task(key: TaskKey) -> None:
    body = {**key.model_dump(mode="json"), "task": "sha256:" + "0" * 64, "models": []}
    change = change_of_line("task-accepted", body)
    assert change == TaskChange(kind=SiteJournalKind.TASK_ACCEPTED, task=key)
    assert WHAT_CHANGED.validate_json(WHAT_CHANGED.dump_json(change)) == change


def test_every_kind_has_its_record_and_every_kind_of_a_journal_line_is_one_of_a_change() -> None:
    assert set(RECORD_OF) == {*SiteJournalKind, *UnjournaledKind} and len(RECORD_OF) == len(SiteJournalKind) + len(
        UnjournaledKind
    )
    assert change_of_line("note", {}) == JournalChange(line_kind="note")


def test_the_agent_acts_on_nothing_that_it_changes_itself_at_each_connection() -> None:
    """It would wake itself without end."""
    itself = {
        UnjournaledKind.LINK_CHANGED,
        SiteJournalKind.DATASETS_DISCLOSED,
        SiteJournalKind.PACKAGES_DISCLOSED,
        SiteJournalKind.ERROR_SENT,
    }
    assert not DECISIONS & itself
    assert not DECISIONS & {kind for kind, record in RECORD_OF.items() if record is TaskChange} - {
        SiteJournalKind.ERROR_RELEASED
    }
