"""Two experiments and one GPU: tasks in turn, wall time from the turn on, a frozen worker ended for the other one."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from archipel.governance import job_hash
from archipel.plans.job_builder import draft
from archipel.site.approval import authorisation, offers
from archipel.site.audit import journal
from archipel.site.execution import SandboxTrainer, SiteTaskStore
from archipel.site.gpus import Driver, GpuPool
from archipel.site.state import SiteSettings
from archipel.site.state.folder import StateFolder
from archipel.vocabulary import RosterEntry, RoundTerms, Task, TaskKey, TrainingPass, WorkerLimits
from worlds.gpus import ASKED, MadeUpNvml, made_up_driver
from worlds.people import approve
from worlds.sandbox import PLAN
from worlds.site import SERVER

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="the Debian package bubblewrap is not installed"),
]


class Experiment:
    """An approved experiment of the hostile plan that asks for the site's GPU."""

    def __init__(self, site: StateFolder, pool: GpuPool, name: str, wall_s: float) -> None:
        made = draft(
            PLAN,
            experiment=name,
            roster=[RosterEntry(site=site.name, identity_key=site.identity.public, dataset="table")],
            server_key=SERVER.public,
            terms=RoundTerms(rounds=9, quorum=1),
            limits=WorkerLimits(memory_mb=400, wall_s=wall_s, tmp_mb=16, processes=24),
            gpu=ASKED,
        )
        self.site, self.name, self.job, self.hash = site, name, made.job, job_hash(made.job)
        for content in made.plan.files.blobs.values():
            site.blobs.put(content)
        offers.record(site, made.job)
        approve(site, name)

        async def fetch(blob: str, window: memoryview) -> None:
            window[:] = made.initial_model

        def allowed() -> authorisation.Authorisation:
            return authorisation.authorise(site, name, self.hash)

        self.trainer = SandboxTrainer(site, SiteTaskStore(site), made.job, allowed, fetch, pool)

    async def run(self, seconds: float, round_: int = 1) -> None:
        one = TrainingPass(round=round_, arguments={"code": f"import time; time.sleep({seconds})"})
        key = TaskKey(experiment=self.name, round=round_)
        task = Task(key=key, job_hash=self.hash, models=(self.job.initial_model,), passes=(one,))
        async with self.trainer.run(task):
            pass

    def starts(self) -> int:
        kinds = (line for line in journal.lines(self.site.database) if line.kind == "worker-started")
        return sum(self.name in str(line.body) for line in kinds)


@pytest.fixture
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeUpNvml:
    tmp_path.chmod(0o755)
    driver, found = made_up_driver(tmp_path / "gpus")
    monkeypatch.setattr(Driver, "load", classmethod(lambda cls, settings: driver))
    return found


async def test_two_experiments_take_turns_on_one_gpu(with_table: StateFolder, nvml: MadeUpNvml) -> None:
    with_table.settings = SiteSettings(site=with_table.name, gpus=("0",))
    pool = GpuPool(with_table.settings)
    first, second = Experiment(with_table, pool, "first", 30), Experiment(with_table, pool, "second", 1.5)
    try:
        doing = asyncio.create_task(first.run(2.5))
        for _ in range(1000):
            if first.starts():
                break
            await asyncio.sleep(0.01)
        # It waits longer than a task of it may last, which does not count.
        await second.run(0.1)
        assert doing.done() and first.starts() == second.starts() == 1
        await second.run(0.1, round_=2)
        assert second.starts() == 1, "nobody waited, so that its frozen worker was kept"
        await first.run(0.1, round_=2)
        assert first.starts() == 2, "its frozen worker was ended for the other experiment"
    finally:
        await first.trainer.close()
        await second.trainer.close()
