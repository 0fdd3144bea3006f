"""A task that the server withdrew is withdrawn for good: the same attempt, offered again, runs no plan."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from test_agent import Stopped, agent_of, at_work

from archipel.site.agent.tasks_under_way import Work
from archipel.site.audit import journal
from archipel.site.execution.task_store import SiteTaskStore
from archipel.site.state import changes
from archipel.site.state.folder import StateFolder
from archipel.tasks import Idempotent
from archipel.transport import TaskFailedMessage, TaskOffer, TaskWithdrawn
from archipel.vocabulary import Conflict, ErrorCode, Failure, Task, TaskKey, TrainingPass
from worlds.people import approve
from worlds.site import take_offer


def kinds_of(site: StateFolder) -> list[str]:
    return [line.kind for line in journal.lines(site.database) if line.kind.startswith("task")]


def withdrawals_of(site: StateFolder) -> int:
    return [change.kind for change in changes.read(site, 0)].count("task-withdrawn")


async def test_a_task_that_the_server_withdrew_and_offers_again_is_not_run_again(with_table: StateFolder) -> None:
    job, hashed = take_offer(with_table)
    approve(with_table, "heart")
    agent, line = agent_of(with_table)
    runs: list[TaskKey] = []
    began = asyncio.Event()

    async def endless(task: Task) -> Any:
        runs.append(task.key)
        began.set()
        await asyncio.Event().wait()

    def at_hand() -> None:
        handler = Idempotent(endless, agent._store)
        agent.tasks.work["heart"] = Work(job, hashed, Stopped(line), handler)  # type: ignore[arg-type]

    def task_of(attempt: int) -> Task:
        key = TaskKey(experiment="heart", round=1, attempt=attempt)
        one = TrainingPass(round=1, arguments={"rate": 0.1})
        return Task(key=key, job_hash=hashed, models=(job.initial_model,), passes=(one,))

    at_hand()
    first = task_of(1)
    await agent.take(TaskOffer(task=first, remaining_s=60))
    await began.wait()
    for _ in range(3):
        await agent.take(TaskWithdrawn(key=first.key, reason="-"))
        await agent.take(TaskOffer(task=first, remaining_s=60))
        await asyncio.gather(*agent.tasks.proving)
        ends = asyncio.gather(*agent.tasks.work["heart"].running.values(), *agent._aside)
        await asyncio.wait_for(ends, 10)
    assert (runs, withdrawals_of(with_table)) == ([first.key], 1)
    assert not any(isinstance(said, TaskFailedMessage) for said, _ in line.said)
    # What a late error of the cancelled work says does not open it again, and neither does a new process.
    agent._store.fail(first, Failure(code=ErrorCode.INTERNAL, sentence="something went wrong"), "in full")
    with pytest.raises(Conflict, match="was withdrawn by the server") as refused:
        SiteTaskStore(with_table).find(first)
    assert refused.value.code is ErrorCode.ROUND_CLOSED
    # Another attempt is another task: a site that was withdrawn takes part again.
    began.clear()
    await agent.take(TaskOffer(task=task_of(2), remaining_s=60))
    await asyncio.wait_for(began.wait(), 10)
    assert runs == [first.key, task_of(2).key] and kinds_of(with_table) == ["task-accepted"] * 2
    await agent.stop()


async def test_a_task_that_is_withdrawn_while_nothing_runs_is_not_begun_again(with_table: StateFolder) -> None:
    job, hashed = take_offer(with_table)
    approve(with_table, "heart")
    agent, line = agent_of(with_table)
    task = await at_work(agent, line, job, hashed)
    await agent.stop()
    agent, line = agent_of(with_table)
    await agent.take(TaskWithdrawn(key=task.key, reason="-"))
    with pytest.raises(Conflict, match="was withdrawn by the server"):
        agent._store.find(task)
    # One that was never offered is not known here, and is no change.
    await agent.take(TaskWithdrawn(key=task.key.model_copy(update={"round": 9}), reason="-"))
    assert withdrawals_of(with_table) == 1


async def test_a_withdrawal_is_kept_though_the_connection_is_lost_while_it_is_acted_on(with_table: StateFolder) -> None:
    job, hashed = take_offer(with_table)
    approve(with_table, "heart")
    agent, line = agent_of(with_table)
    task = await at_work(agent, line, job, hashed)
    acting = asyncio.create_task(agent.take(TaskWithdrawn(key=task.key, reason="-")))
    await asyncio.sleep(0)
    acting.cancel()
    await asyncio.gather(acting, *agent.tasks.work["heart"].running.values(), return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()
    with pytest.raises(Conflict, match="was withdrawn by the server"):
        agent._store.find(task)
