"""A server that stops waits for the requests that are open, and for nothing else."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from archipel.server.membership.federation import ServerContext
from archipel.transport.rest import ExperimentSummary
from worlds.memory_experiments import MemoryExperiments
from worlds.server import Served, serving


async def test_without_a_connection_nothing_is_waited_for(
    federation: ServerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    async def noted(seconds: float) -> None:
        waited.append(seconds)

    async with serving(federation):
        monkeypatch.setattr(asyncio, "sleep", noted)
    assert waited == []


class Slow(MemoryExperiments):
    """Says when somebody asks for all experiments, and takes longer than a tenth of a second to list them."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def all(self) -> list[ExperimentSummary]:
        self.asked.set()
        await asyncio.sleep(0.2)
        return await super().all()


async def test_an_open_request_is_answered_first(federation: ServerContext) -> None:
    async def answered(served: Served) -> httpx.Response:
        async with served.client("read") as client:
            return await client.get("/v1/experiments")

    slow = Slow()
    async with serving(federation, slow) as served:
        asking = asyncio.create_task(answered(served))
        await slow.asked.wait()
    assert (await asking).status_code == 200
