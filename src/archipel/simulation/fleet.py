"""A fleet whose sites are handlers: they train in this process, or pass their tasks on to another one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from archipel.rounds import Accepted, Delivered, Failed, FleetEvent
from archipel.tasks import LocalUpdate, StartingModels, failure_of
from archipel.vocabulary import Job, RoundClosed, Task, TaskKey


class SimulatedHandler(Protocol):
    """Everything that a simulated site does: its tasks, one by one, and what follows from the result of each stage."""

    async def __call__(self, task: Task) -> LocalUpdate:
        """Do the task. Raises ArchipelError when the site refuses or cannot do it."""

    def settle(self, closed: RoundClosed) -> None:
        """Keep what the site made of a stage for later ones, or drop it."""


class SimulatedFleet:
    """Sites by name, each a handler; always connected.

    ``problems`` keeps the full text of every error, which a deployed site would keep to itself.
    """

    def __init__(self, sites: Mapping[str, SimulatedHandler], job: Job) -> None:
        self.events: asyncio.Queue[FleetEvent] = asyncio.Queue()
        self.problems: dict[str, Exception] = {}
        self._sites = dict(sites)
        self._models = {site: StartingModels(job) for site in sites}
        self._running: set[asyncio.Task[None]] = set()

    def absent_since(self, site: str) -> float | None:
        """None for each site of this fleet; any other was never there."""
        return None if site in self._sites else 0.0

    async def offer(self, site: str, task: Task, remaining_s: float) -> None:
        """Start the site's work on the task."""
        work = asyncio.create_task(self._work(site, task))
        self._running.add(work)
        work.add_done_callback(self._running.discard)

    async def withdraw(self, site: str, key: TaskKey, reason: str) -> None:
        """Nothing to stop: a simulated site finishes before it could be asked."""

    async def announce(self, sites: Sequence[str], closed: RoundClosed) -> None:
        """Let each site note which model the round made, and keep or drop what it made of it."""
        for site in sorted(self._models.keys() & set(sites)):
            self._models[site].settle(closed)
            self._sites[site].settle(closed)

    async def close(self) -> None:
        """Stop what still runs and is no longer awaited."""
        for work in self._running:
            work.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _work(self, site: str, task: Task) -> None:
        await self.events.put(Accepted(site, task.key))
        try:
            self._models[site].begin(task)
            made = await self._sites[site](task)
            settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            await self.events.put(Delivered(site, made.update, made.tensor_file, settled))
            await settled
        except Exception as error:
            self.problems[site] = error
            await self.events.put(Failed(site, task.key, failure_of(error)))
