"""A strategy's memory in the server's experiment store: committed with its round, found again, replaced, never handed
out.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from other_strategies import registered

from archipel.governance import job_hash, record_hash
from archipel.rounds import Delivered, ExperimentLoop, ExperimentState, FleetEvent
from archipel.server.experiments import views
from archipel.server.experiments.experiment_store import SqlExperimentStore
from archipel.server.membership.federation import ServerContext
from archipel.tensors import blob_hash, decode, encode
from archipel.vocabulary import BadInput, PrivacyTerms, Release, RoundClosed, StrategyTerms, Task, TaskKey, Update
from worlds.server import Applicant, job_of, records_of, running_job, sql_store_of

TERMS = StrategyTerms(name="fedavgm", parameters={"beta": 0.5})


class Trains:
    """A fleet whose one site answers round r with weights of r, up to round ``last``; then it says nothing."""

    def __init__(self, spool: Path, last: int) -> None:
        self.events: asyncio.Queue[FleetEvent] = asyncio.Queue()
        self.spool, self.last, self.silent = spool, last, asyncio.Event()

    def absent_since(self, site: str) -> float | None:
        return None

    async def offer(self, site: str, task: Task, remaining_s: float) -> None:
        if task.key.round > self.last:
            self.silent.set()
            return
        data = encode({"w": np.full(4, float(task.key.round), np.float32)})
        tensor_file = self.spool / f"first.{task.key.round}.{task.key.attempt}.{site}"
        tensor_file.write_bytes(data)
        made = Update(
            key=task.key,
            site=site,
            task_hash=record_hash(task),
            model=blob_hash(data),
            model_bytes=len(data),
            samples=3,
        )
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.events.put_nowait(Delivered(site, made, tensor_file, settled))

    async def withdraw(self, site: str, key: TaskKey, reason: str) -> None: ...

    async def announce(self, sites: object, closed: RoundClosed) -> None: ...


async def test_memory_survives_a_kill_between_rounds_and_is_replaced(
    federation: ServerContext, enrolled: Applicant
) -> None:
    with registered():
        job = running_job(federation, enrolled, TERMS)

        def store() -> SqlExperimentStore:
            return sql_store_of(federation, job, job_hash(job))

        model, momentum, seen = np.ones(4), np.zeros(4), []
        for last in (1, 2, 3):
            fleet = Trains(federation.state.spool, last)
            loop = asyncio.create_task(ExperimentLoop(job, job_hash(job), store(), fleet).run())
            over = asyncio.create_task(fleet.silent.wait())
            done, _ = await asyncio.wait({loop, over}, timeout=20, return_when="FIRST_COMPLETED")
            assert done, "the round never closed"
            if last == 3:
                assert await loop is ExperimentState.FINISHED
            # The process dies while the next round is open; nothing but the database and the blobs is left.
            loop.cancel()
            over.cancel()
            await asyncio.gather(loop, over, return_exceptions=True)
            momentum = 0.5 * momentum + (model - last)
            model = model - momentum
            progress = store().progress()
            seen.append(progress.memory["momentum"])
            assert progress.rounds_done == last
            with store().local(progress.model) as made, store().local(seen[-1]) as kept:
                np.testing.assert_allclose(decode(made.read_bytes())["w"], model, rtol=1e-6)
                np.testing.assert_allclose(decode(kept.read_bytes())["w"], momentum, rtol=1e-6)
        assert len(set(seen)) == 3
        assert [federation.blobs.has(blob) for blob in seen] == [False, False, True]
        names = [one.name for one in views.models(federation.database, "first")]
        assert names == ["initial", "last"], "a memory is no model that anybody fetches"


def test_a_strategy_that_looks_at_each_update_is_refused_when_only_sums_leave(
    federation: ServerContext, enrolled: Applicant
) -> None:
    with registered():
        job = job_of(federation, enrolled, StrategyTerms(name="median"))
        job = job.model_copy(update={"privacy": PrivacyTerms(release=Release.SUM)})
        with pytest.raises(BadInput, match="strategy median needs each site's own update"):
            records_of(federation).keep_job(job, job_hash(job), "ada")
    with pytest.raises(BadInput, match="is not known here"):
        job = job_of(federation, enrolled, TERMS)
        records_of(federation).keep_job(job, job_hash(job), "ada")
