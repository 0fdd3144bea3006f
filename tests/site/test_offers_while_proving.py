"""A task is proven to be allowed beside the control stream: to read a job of 60,000 tensors takes seconds, and the site
hears its server meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from test_agent import Line, Stopped, agent_of

from archipel.site.agent.agent import Agent
from archipel.site.agent.tasks_under_way import Work
from archipel.site.approval import authorisation
from archipel.site.state.folder import StateFolder
from archipel.transport import Heartbeat, TaskAcceptedMessage, TaskFailedMessage, TaskOffer, TaskWithdrawn
from archipel.vocabulary import ErrorCode, Job, Task, TaskKey, TrainingPass
from worlds.people import approve
from worlds.site import take_offer


class SlowProof:
    """The proof of one experiment does not end before the test lets it."""

    def __init__(self, experiment: str) -> None:
        self.experiment, self.begun, self.may_end = experiment, threading.Event(), threading.Event()
        self.calls, self._proof = 0, authorisation.authorise

    def __call__(self, site: StateFolder, experiment: str, job: str) -> authorisation.Authorisation:
        if experiment == self.experiment:
            self.calls += 1
            self.begun.set()
            assert self.may_end.wait(10), "it was waited for"
        return self._proof(site, experiment, job)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowProof]:
    made = SlowProof("heart")
    monkeypatch.setattr(authorisation, "authorise", made)
    yield made
    made.may_end.set()


class Begun:
    """Work on an experiment that says when a task of it is begun, and never ends by itself."""

    def __init__(self, agent: Agent, line: Line, job: Job, hashed: str) -> None:
        self.line, self.job, self.hash, self.tasks, self.one = line, job, hashed, [], asyncio.Event()
        agent.tasks.work[job.experiment] = Work(job, hashed, Stopped(line), self._run)  # type: ignore[arg-type]

    async def _run(self, task: Task) -> Any:
        self.tasks.append(task.key)
        self.one.set()
        await self.line.send(TaskAcceptedMessage(key=task.key))
        await asyncio.Event().wait()

    def offer(self, round_: int = 1) -> TaskOffer:
        one = TrainingPass(round=round_, arguments={"rate": 0.1})
        key = TaskKey(experiment=self.job.experiment, round=round_)
        task = Task(key=key, job_hash=self.hash, models=(self.job.initial_model,), passes=(one,))
        return TaskOffer(task=task, remaining_s=60)


def begun_at(site: StateFolder, agent: Agent, line: Line, experiment: str) -> Begun:
    job, hashed = take_offer(site, experiment=experiment)
    approve(site, experiment)
    return Begun(agent, line, job, hashed)


async def test_other_tasks_and_heartbeats_are_taken_while_a_long_job_is_proven(
    with_table: StateFolder, slow: SlowProof
) -> None:
    agent, line = agent_of(with_table)
    heart, lung = (begun_at(with_table, agent, line, name) for name in ("heart", "lung"))
    await agent.take(heart.offer())
    await asyncio.to_thread(slow.begun.wait, 10)
    await agent.take(Heartbeat(head=None, attested=None))
    await agent.take(lung.offer())
    await asyncio.wait_for(lung.one.wait(), 10)
    assert (heart.tasks, lung.tasks) == ([], [lung.offer().task.key]) and not slow.may_end.is_set()
    slow.may_end.set()
    await asyncio.wait_for(heart.one.wait(), 10)
    assert heart.tasks == [heart.offer().task.key]
    await agent.stop()


async def test_a_task_offered_twice_while_it_is_proven_runs_once(with_table: StateFolder, slow: SlowProof) -> None:
    agent, line = agent_of(with_table)
    heart = begun_at(with_table, agent, line, "heart")
    for _ in range(2):
        await agent.take(heart.offer())
    await asyncio.to_thread(slow.begun.wait, 10)
    assert slow.calls == 1, "the second offer waits for its turn and reads no job meanwhile"
    slow.may_end.set()
    await asyncio.gather(*agent.tasks.proving)
    await asyncio.gather(*agent._aside)
    await asyncio.wait_for(heart.one.wait(), 10)
    assert heart.tasks == [heart.offer().task.key]
    assert {type(said) for said, _ in line.said} == {TaskAcceptedMessage}
    await agent.stop()


@pytest.mark.parametrize("ends", ["withdrawn", "stopped"])
async def test_a_task_that_ends_while_it_is_proven_is_not_begun(
    with_table: StateFolder, slow: SlowProof, ends: str
) -> None:
    agent, line = agent_of(with_table)
    heart = begun_at(with_table, agent, line, "heart")
    for round_ in (1, 2):
        await agent.take(heart.offer(round_))
    await asyncio.to_thread(slow.begun.wait, 10)
    if ends == "withdrawn":
        await agent.take(TaskWithdrawn(key=heart.offer().task.key, reason="-"))
    else:
        await agent.stop()
    slow.may_end.set()
    await asyncio.gather(*agent.tasks.proving, return_exceptions=True)
    if ends == "withdrawn":
        await asyncio.wait_for(heart.one.wait(), 10)
    assert heart.tasks == ([heart.offer(2).task.key] if ends == "withdrawn" else [])
    assert not any(isinstance(said, TaskFailedMessage) for said, _ in line.said)
    await agent.stop()


async def test_a_task_that_is_not_allowed_is_refused_and_makes_no_work(with_table: StateFolder) -> None:
    job, hashed = take_offer(with_table)
    agent, line = agent_of(with_table)
    heart = Begun(agent, line, job, hashed)
    agent.tasks.work.clear()
    await agent.take(heart.offer())
    await asyncio.gather(*agent.tasks.proving)
    await asyncio.gather(*agent._aside)
    (failed,) = [said for said, _ in line.said if isinstance(said, TaskFailedMessage)]
    assert (failed.key, failed.failure.code) == (heart.offer().task.key, ErrorCode.NOT_APPROVED)
    assert agent.tasks.work == {} and heart.tasks == []
