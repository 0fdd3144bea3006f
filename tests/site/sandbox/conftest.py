from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from archipel.site.sandbox import Sandbox, SandboxedWorker
from worlds.sandbox import World


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if shutil.which("bwrap") is not None:
        return
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("processes") is not None:
            item.add_marker(pytest.mark.skip(reason="the Debian package bubblewrap is not installed"))


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    yield World.make(tmp_path_factory.mktemp("world"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_worker(shared_world: World) -> AsyncIterator[SandboxedWorker]:
    """One worker for attacks that must leave it well; its tests run in the module's loop."""
    worker = await Sandbox.start(shared_world.spec)
    await worker.prepare()
    yield worker
    assert worker.alive, "an attack that was to bounce off ended the worker"
    await worker.kill()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path)
