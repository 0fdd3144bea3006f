"""What an agent does before it believes its server, when people here change their minds, and when it is over."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs

from archipel.governance import IdentityKey, canonical, job_hash
from archipel.plans.files import LARGEST_PLAN
from archipel.site.agent.agent import Agent
from archipel.site.agent.tasks_under_way import Work
from archipel.site.approval import decisions, offers
from archipel.site.services import offer_documents
from archipel.site.state import schema
from archipel.site.state.folder import StateFolder
from archipel.site.withdrawn.opt_outs import OPT_OUT
from archipel.tensors import blob_hash, document_hash
from archipel.transport import EndedMessage, JobOffer, TaskFailedMessage, TaskOffer
from archipel.vocabulary import (
    BadInput,
    ErrorCode,
    Job,
    PlanReference,
    Refused,
    Task,
    TaskKey,
    TensorSchema,
    TensorSpec,
    TrainingPass,
)
from archipel.vocabulary.bounds import LONGEST_JOB
from worlds.people import ANNA, approve
from worlds.site import PLAN, job_for, take_offer

CHUNK = 1 << 18


class Line:
    """A link that gives the plan, or one that never ends, and keeps what the agent says."""

    def __init__(self, endless: bool = False) -> None:
        self.up, self.endless, self.fetched, self.plan = True, endless, 0, PLAN
        self.others: dict[str, bytes] = {}
        """What is given in the place of the plan, by its hash."""
        self.jobs: dict[str, bytes] = {}
        self.jobs_fetched = 0
        self.said: list[Any] = []
        self.at_hand: Any = None

    def offer(self, job: Job) -> JobOffer:
        """The server's offer of a job, whose document this link gives from now on."""
        hashed = job_hash(job)
        self.jobs[hashed] = canonical(job)
        return JobOffer(experiment=job.experiment, job_hash=hashed)

    async def fetch(self, blob: str, most: int) -> bytes | None:
        if blob in self.jobs:
            self.jobs_fetched += 1
            return self.jobs[blob] if len(self.jobs[blob]) <= most else None
        source = self.others.get(blob, self.plan)
        if self.endless or len(source) > most:
            return None
        self.fetched += len(source)
        return source

    async def fetch_into(self, blob: str, window: memoryview) -> None:
        raise NotImplementedError("no task of these tests reads a model")

    async def send(self, message: Any) -> bool:
        self.said.append((message, self.at_hand))
        return True


class Stopped:
    """A trainer that only knows whether it was stopped."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def stop(self) -> None:
        self._line.at_hand = "stopped"

    async def close(self) -> None:
        await self.stop()

    async def renew(self) -> None:
        """Nobody was withdrawn."""


class Broken(Stopped):
    """A trainer whose worker cannot be looked at."""

    async def renew(self) -> None:
        raise OSError("no such device")


def agent_of(site: StateFolder, endless: bool = False) -> tuple[Agent, Line]:
    line = Line(endless)
    return Agent(site, line), line  # type: ignore[arg-type]


async def at_work(agent: Agent, line: Line, job: Job, job_hash: str) -> Task:
    """The agent at a task that does not end by itself."""
    began = asyncio.Event()

    async def handler(task: Task) -> Any:
        agent._store.begin(task)
        began.set()
        await asyncio.Event().wait()

    agent.tasks.work[job.experiment] = Work(job, job_hash, Stopped(line), handler)  # type: ignore[arg-type]
    key = TaskKey(experiment=job.experiment, round=1)
    one = TrainingPass(round=1, arguments={"rate": 0.1})
    task = Task(key=key, job_hash=job_hash, models=(job.initial_model,), passes=(one,))
    await agent.take(TaskOffer(task=task, remaining_s=60))
    await began.wait()
    return task


async def test_the_plan_of_a_job_that_is_not_of_this_federation_is_not_fetched(hospital: StateFolder) -> None:
    agent, line = agent_of(hospital)
    with pytest.raises(Refused, match="names another federation's server"):
        await agent._offered(line.offer(job_for(hospital, server_key=IdentityKey.generate().public)))
    assert line.fetched == 0 and offers.names(hospital.database) == []


async def test_a_plan_that_does_not_end_is_not_taken_on(hospital: StateFolder) -> None:
    agent, line = agent_of(hospital, endless=True)
    with pytest.raises(Refused, match=f"its plan has more than {LARGEST_PLAN} bytes"):
        await agent._offered(line.offer(job_for(hospital)))
    assert line.fetched <= LARGEST_PLAN + CHUNK
    assert list(hospital.blobs.incoming.iterdir()) == [] and offers.names(hospital.database) == []


async def test_a_plan_whose_text_is_not_what_python_would_run_is_not_taken_on(hospital: StateFolder) -> None:
    hidden = b"# harmless\rprint('runs')\n"
    reference = PlanReference(files={"tiny.py": blob_hash(hidden)}, entry="tiny.py", class_name="Tiny")
    agent, line = agent_of(hospital)
    line.plan = hidden
    with pytest.raises(BadInput, match=r"tiny\.py: has a carriage return without a line feed in line 1"):
        await agent._offered(line.offer(job_for(hospital, plan=reference)))
    assert offers.names(hospital.database) == [] and not hospital.blobs.has(reference.hash)
    # Kept by an earlier version, it is neither shown nor approved.
    hospital.blobs.put(hidden)
    offers.record(hospital, job_for(hospital, plan=reference))
    with pytest.raises(BadInput, match="carriage return"):
        approve(hospital, "heart")


async def test_an_offer_with_a_plan_of_any_depth_or_a_look_alike_name_does_not_stop_the_agent(
    hospital: StateFolder,
) -> None:
    agent, line = agent_of(hospital)
    deep = PLAN + b"x = " + b"(" * 20_000 + b"-" * 20_000 + b"a" + b".b" * 20_000 + b"\n"
    look_alike = PLAN + "p\u0430ss_on = 1\n".encode()
    with capture_logs() as logs:
        for experiment, line.plan in (("heart", deep), ("lung", look_alike), ("brain", PLAN)):
            plan = PlanReference(files={"tiny.py": blob_hash(line.plan)}, entry="tiny.py", class_name="Tiny")
            job = job_for(hospital, experiment=experiment, plan=plan)
            await agent.take(line.offer(job))
            await asyncio.gather(*agent._aside, return_exceptions=True)
    (refused,) = [one["error"] for one in logs if one["event"] == "failed beside the control stream"]
    assert refused.startswith("tiny.py: has '\u0430' (CYRILLIC SMALL LETTER A, U+0430) outside of strings and comments")
    assert set(offers.names(hospital.database)) == {"heart", "brain"}
    shown = offer_documents.document(hospital, "heart").files
    assert shown is not None and shown["tiny.py"].encode() == deep


async def test_a_job_is_fetched_and_read_once(hospital: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, line = agent_of(hospital)
    read: list[str] = []
    read_offer, validated = offers.read_offer, Job.model_validate_json
    monkeypatch.setattr(offers, "read_offer", lambda *about: read.append("offer") or read_offer(*about))
    monkeypatch.setattr(Job, "model_validate_json", lambda *about: read.append("row") or validated(*about))
    offer = line.offer(job_for(hospital)).model_copy(update={"asked_by": "Anna"})
    # As at each connection, and for seven experiments of which each is decided about.
    for _ in range(7):
        await agent._offered(offer)
    assert (line.jobs_fetched, read) == (1, ["offer"])
    assert [one.asked_by for one in offers.all_offers(hospital.database)] == ["Anna"]
    await agent._offered(offer.model_copy(update={"asked_by": "Bert"}))
    assert [one.asked_by for one in offers.all_offers(hospital.database)] == ["Bert"]
    await agent._offered(line.offer(job_for(hospital, seed=8)))
    assert line.jobs_fetched == 2


def spaced(job: bytes) -> bytes:
    return job.replace(b'":', b'": ', 1)


def twice(job: bytes) -> bytes:
    return b'{"title":"harmless",' + job[1:]


@pytest.mark.parametrize("change", [spaced, twice, lambda job: b"[" * 9999, lambda job: b"\xff"])
async def test_a_document_that_is_not_a_jobs_own_is_not_taken_on(
    hospital: StateFolder, change: Callable[[bytes], bytes]
) -> None:
    agent, line = agent_of(hospital)
    offer = line.offer(job_for(hospital))
    other = change(line.jobs.pop(offer.job_hash))
    line.jobs[document_hash(other)] = other
    with pytest.raises(Refused, match="its job cannot be read by this version"):
        await agent._offered(offer.model_copy(update={"job_hash": document_hash(other)}))
    line.jobs[offer.job_hash] = other
    with pytest.raises(Refused, match="its job is not the one that the offer names"):
        await agent._offered(offer)
    assert offers.names(hospital.database) == [] and line.fetched == 0


async def test_a_job_under_another_name_or_of_any_length_is_not_taken_on(hospital: StateFolder) -> None:
    agent, line = agent_of(hospital)
    offer = line.offer(job_for(hospital))
    with pytest.raises(Refused, match="its job is of experiment heart"):
        await agent._offered(offer.model_copy(update={"experiment": "lung"}))
    agent, line = agent_of(hospital, endless=True)
    with pytest.raises(Refused, match=f"its job has more than {LONGEST_JOB} bytes"):
        await agent._offered(offer)
    assert line.fetched == 0 and offers.names(hospital.database) == []


def of_two_files(line: Line, second: bytes, first: bytes = PLAN) -> PlanReference:
    """A plan of two files, both of which the link gives."""
    line.others = {blob_hash(source): source for source in (first, second)}
    files = {"plan.py": blob_hash(first), "z_losses.py": blob_hash(second)}
    return PlanReference(files=files, entry="plan.py", class_name="Tiny")


async def test_each_file_of_a_plan_is_fetched_and_the_second_is_looked_at_as_the_first_is(
    hospital: StateFolder,
) -> None:
    agent, line = agent_of(hospital)
    hidden = b"# coding: utf-7\nRATE = 1\n"
    with pytest.raises(BadInput, match=r"z_losses\.py: has a coding line that names utf-7"):
        await agent._offered(line.offer(job_for(hospital, plan=of_two_files(line, hidden))))
    assert line.fetched == len(PLAN) + len(hidden)
    assert offers.names(hospital.database) == [] and not hospital.blobs.has(blob_hash(hidden))
    job = job_for(hospital, plan=of_two_files(line, b"RATE = 1\n"))
    await agent._offered(line.offer(job))
    assert offers.names(hospital.database) == ["heart"] and all(map(hospital.blobs.has, job.plan.files.values()))


@pytest.mark.parametrize("first_is_here", [True, False], ids=["first-kept", "both-fetched"])
async def test_the_files_of_a_plan_may_have_so_many_bytes_together(hospital: StateFolder, first_is_here: bool) -> None:
    agent, line = agent_of(hospital)
    first, second = (f"# {letter}".encode().ljust(LARGEST_PLAN // 2, b"-") for letter in "ab")
    if first_is_here:
        hospital.blobs.put(first)
    large = second + b"-"
    with pytest.raises(Refused, match=f"its plan has more than {LARGEST_PLAN} bytes"):
        await agent._offered(line.offer(job_for(hospital, plan=of_two_files(line, large, first))))
    # The server says how long a file is before it sends it.
    assert line.fetched == len(first) * (not first_is_here)
    assert offers.names(hospital.database) == [] and not hospital.blobs.has(blob_hash(large))
    await agent._offered(line.offer(job_for(hospital, plan=of_two_files(line, second, first))))
    assert offers.names(hospital.database) == ["heart"]


async def test_a_start_sweeps_what_killed_fetches_left_and_plans_that_were_changed(hospital: StateFolder) -> None:
    job, _ = take_offer(hospital)
    other = b"class Tiny(Plan): ...\n"
    hospital.blobs.put(other)
    reference = PlanReference(files={"tiny.py": blob_hash(other)}, entry="tiny.py", class_name="Tiny")
    offers.record(hospital, job_for(hospital, experiment="lung", plan=reference))
    hospital.blobs.path(blob_hash(other)).write_bytes(b"changed on the disk")
    unnamed = hospital.blobs.put(b"of no experiment")
    (hospital.blobs.incoming / "half").write_bytes(b"class Ti")
    agent, line = agent_of(hospital)
    agent.start()
    assert list(hospital.blobs.incoming.iterdir()) == []
    assert hospital.blobs.has(job.plan.hash)
    assert not hospital.blobs.has(blob_hash(other)) and not hospital.blobs.has(unnamed)
    hospital.blobs.delete(job.plan.hash)
    await agent._offered(line.offer(job))
    assert line.fetched == len(PLAN) and hospital.blobs.has(job.plan.hash)


async def test_a_revoked_worker_is_stopped_before_anything_is_told_and_though_another_row_is_damaged(
    with_table: StateFolder,
) -> None:
    job, hashed = take_offer(with_table)
    approve(with_table, "heart")
    offers.record(with_table, job_for(with_table, experiment="lung"))
    agent, line = agent_of(with_table)
    task = await at_work(agent, line, job, hashed)
    with with_table.database.write() as connection:
        table = schema.experiments
        connection.execute(update(table).where(table.c.experiment == "lung").values(job="{ damaged"))
    decisions.revoke(with_table.database, "heart", note="a patient asked", by=ANNA)
    await agent.decided()
    failed = [(said.key, said.failure.code) for said, _ in line.said if isinstance(said, TaskFailedMessage)]
    assert failed == [(task.key, ErrorCode.REVOKED)]
    assert {at_hand for _, at_hand in line.said} == {"stopped"}
    assert any(getattr(said, "state", "") == "revoked" for said, _ in line.said)
    assert agent.tasks.work == {}


async def test_a_revocation_is_told_though_another_experiment_cannot_be_renewed_and_the_failure_cannot_be_kept(
    with_table: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, hashed = take_offer(with_table)
    approve(with_table, "heart")
    offers.record(with_table, job_for(with_table, experiment="lung"))
    approve(with_table, "lung")
    agent, line = agent_of(with_table)
    task = await at_work(agent, line, job, hashed)
    agent.tasks.work["lung"] = Work(job, hashed, Broken(line), agent.tasks.work["heart"].handler)  # type: ignore[arg-type]

    def broken(*_: Any) -> None:
        raise OSError("no such device")

    monkeypatch.setattr(agent._store, "fail", broken)
    decisions.revoke(with_table.database, "heart", note="a patient asked", by=ANNA)
    await agent.decided()
    failed = [(said.key, said.failure.code) for said, _ in line.said if isinstance(said, TaskFailedMessage)]
    assert failed == [(task.key, ErrorCode.REVOKED)]
    assert any(getattr(said, "state", "") == "revoked" for said, _ in line.said)


async def test_what_two_looks_at_the_same_time_stopped_is_told_by_one_of_them(
    with_table: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, hashed = take_offer(with_table)
    approve(with_table, "heart")
    agent, line = agent_of(with_table)
    task = await at_work(agent, line, job, hashed)
    other = ("heart", str(task.key))

    async def meanwhile(_: str) -> list[tuple[str, str]]:
        # Another look told all that there was, and has stopped something since.
        await agent._tell_revoked()
        agent._stopped.append(other)
        return []

    agent._stopped.append(("lung", "told before"))
    monkeypatch.setattr(agent, "_stop_revoked", meanwhile)
    await agent.decided()
    failed = [said.key for said, _ in line.said if isinstance(said, TaskFailedMessage)]
    assert failed == [task.key] and agent._stopped == []
    await agent.stop()


async def test_a_failure_is_told_though_its_experiment_is_ended_while_it_is_kept(
    with_table: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, hashed = take_offer(with_table)
    approve(with_table, "heart")
    agent, line = agent_of(with_table)
    task = await at_work(agent, line, job, hashed)
    keeping, may_go_on, keep = threading.Event(), threading.Event(), agent._store.fail

    def slowly(*values: Any) -> None:
        keeping.set()
        may_go_on.wait(10)
        keep(*values)

    async def fails(task: Task) -> Any:
        raise BadInput("plan", "is wrong", "mend it")

    monkeypatch.setattr(agent._store, "fail", slowly)
    again = task.model_copy(update={"key": task.key.model_copy(update={"attempt": 2})})
    agent.tasks.work["heart"].handler = fails  # type: ignore[assignment]
    await agent.take(TaskOffer(task=again, remaining_s=60))
    assert await asyncio.to_thread(keeping.wait, 10)
    await agent.tasks.end("heart")
    may_go_on.set()
    await asyncio.gather(*agent._aside)
    assert [said.key for said, _ in line.said if isinstance(said, TaskFailedMessage)] == [again.key]


async def test_a_worker_whose_own_row_is_damaged_is_stopped(with_table: StateFolder) -> None:
    job, hashed = take_offer(with_table)
    approve(with_table, "heart")
    agent, line = agent_of(with_table)
    await at_work(agent, line, job, hashed)
    with with_table.database.write() as connection:
        connection.execute(update(schema.experiments).values(job="{ damaged"))
    await agent.decided()
    assert agent.tasks.work == {} and line.at_hand == "stopped"


async def test_work_on_an_older_job_ends_when_a_task_of_the_new_one_comes(with_table: StateFolder) -> None:
    job, hashed = take_offer(with_table)
    approve(with_table, "heart")
    agent, line = agent_of(with_table)
    task = await at_work(agent, line, job, hashed)
    before = agent.tasks.work["heart"]
    changed, new = take_offer(with_table, seed=7)
    approve(with_table, "heart")
    made = await agent.tasks._work_of(task.model_copy(update={"job_hash": new}))
    assert made is agent.tasks.work["heart"] is not before
    await asyncio.gather(*agent._aside)
    assert line.at_hand == "stopped" and not before.running
    assert agent.tasks.work["heart"].job == changed
    await agent.stop()


async def test_lines_of_the_opt_out_list_that_match_nobody_are_logged_once_for_each_list(
    with_table: StateFolder,
) -> None:
    agent, line = agent_of(with_table)
    listed = with_table.folder / OPT_OUT
    with capture_logs() as logs:
        for names in ("p-001", "p-001\np-0O2", "p-003\np-001\np-0O3"):
            listed.write_text(names)
            for _ in range(2):
                await agent.decided()
    lines = [one for one in logs if "opt-out" in one["event"]]
    assert [(one["log_level"], one["unmatched"]) for one in lines] == [("warning", "line 2"), ("warning", "line 3")]
    assert "p-0O" not in str(lines) + str(line.said)


async def test_an_experiment_that_ends_is_noted_once(with_table: StateFolder) -> None:
    take_offer(with_table)
    agent, _ = agent_of(with_table)
    kept = with_table.spool / "heart.spare"
    for name in ("heart", "unknown"):
        kept.write_bytes(b"an older frame")
        await agent.take(EndedMessage(experiment=name, state="cancelled"))
        assert kept.exists() == (name == "unknown")
    assert offers.offered(with_table.database, "heart").state == "ended"


async def test_seven_jobs_that_take_long_to_read_do_not_keep_a_short_one_waiting(
    hospital: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, line = agent_of(hospital)
    specs = tuple(TensorSpec(name=f"layer.{n:06d}.weight", dtype="float32", shape=(1,)) for n in range(5_000))
    long = [
        job_for(hospital, experiment=f"long-{n}", tensors=TensorSchema(tensors=specs), initial_model=f"blake3:{n:064x}")
        for n in range(7)
    ]
    go_on, reading, most = threading.Event(), [], []
    began, loop, read = asyncio.Event(), asyncio.get_running_loop(), offers.read_offer

    def slowly(experiment: str, hashed: str, document: bytes) -> Job:
        if experiment.startswith("long"):
            reading.append(experiment)
            most.append(len(reading))
            loop.call_soon_threadsafe(began.set)
            assert go_on.wait(30)
            reading.remove(experiment)
        return read(experiment, hashed, document)

    monkeypatch.setattr(offers, "read_offer", slowly)
    waiting = [asyncio.create_task(agent._offered(line.offer(one))) for one in long]
    try:
        await began.wait()
        await asyncio.wait_for(agent._offered(line.offer(job_for(hospital, experiment="short"))), 10)
        assert offers.names(hospital.database) == ["short"]
    finally:
        go_on.set()
        await asyncio.gather(*waiting)
    # Their documents and what is read of them are in memory one at a time.
    assert max(most) == 1
    assert sorted(offers.names(hospital.database)) == sorted(["short", *(one.experiment for one in long)])


async def test_a_long_job_that_is_offered_twice_at_the_same_time_is_read_once(
    hospital: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, line = agent_of(hospital)
    specs = tuple(TensorSpec(name=f"layer.{n:06d}.weight", dtype="float32", shape=(1,)) for n in range(5_000))
    offer = line.offer(job_for(hospital, tensors=TensorSchema(tensors=specs)))
    found, read = [], offers.read_offer

    def counted(*given: Any) -> Job:
        found.append(given[0])
        return read(*given)

    monkeypatch.setattr(offers, "read_offer", counted)
    await asyncio.gather(*(agent._offered(offer) for _ in range(3)))
    assert len(found) == 1
