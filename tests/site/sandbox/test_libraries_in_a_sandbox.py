"""What plans use every day goes on working where nothing is locked and nothing is watched."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from archipel.site.sandbox import Sandbox, SandboxedWorker
from worlds.sandbox import World

pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]

LIBRARIES = {
    "a loader with two processes": """
        import torch
        from torch.utils.data import DataLoader, TensorDataset
        rows = TensorDataset(torch.arange(12.0))
        said = sum(float(batch.sum()) for (batch,) in DataLoader(rows, batch_size=4, num_workers=2))
        """,
    "a lock on a file": """
        from filelock import FileLock
        said = 0.0
        for _ in range(2):
            with FileLock("/tmp/shared.lock", timeout=5):
                said += 33.0
        """,
    "a compiled function": """
        import torch
        doubled = torch.compile(lambda x: (2 * x).sum())
        said = float(doubled(torch.arange(12.0))) / 2
        """,
    "a dataset that is kept on disk": """
        from monai.data import DataLoader, PersistentDataset
        kept = PersistentDataset([float(n) for n in range(12)], transform=lambda x: x, cache_dir="/tmp/kept")
        read = lambda: sum(float(batch.sum()) for batch in DataLoader(kept, batch_size=4, num_workers=2))
        read()
        import os
        said = read() if len(os.listdir("/tmp/kept")) == 12 else -1.0
        """,
    "a dataset that is kept in memory": """
        from monai.data import CacheDataset, ThreadDataLoader
        kept = CacheDataset([float(n) for n in range(12)], transform=lambda x: x, num_workers=2, progress=False)
        said = sum(float(batch.sum()) for batch in ThreadDataLoader(kept, batch_size=4, num_workers=0))
        """,
    "a database with a lock": """
        import sqlite3
        with sqlite3.connect("/tmp/rows.db") as rows:
            rows.execute("create table n (x real)")
            rows.executemany("insert into n values (?)", [(float(n),) for n in range(12)])
        said = rows.execute("select sum(x) from n").fetchone()[0]
        """,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def roomy_worker(shared_world: World) -> AsyncIterator[SandboxedWorker]:
    worker = await Sandbox.start(shared_world.limited(memory_mb=4000, tmp_mb=500, processes=200, wall_s=300, cpu_s=300))
    await worker.prepare()
    yield worker
    await worker.kill()


@pytest.mark.parametrize("what", LIBRARIES)
async def test_it_works(shared_world: World, roomy_worker: SandboxedWorker, what: str) -> None:
    assert await shared_world.say(roomy_worker, LIBRARIES[what]) == 66.0
