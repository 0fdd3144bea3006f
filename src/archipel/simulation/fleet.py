"""A fleet whose sites are handlers: they train in this process, or pass their tasks on to another one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from archipel.rounds import Accepted, Delivered, Failed, FleetEvent
from archipel.tasks import Handler, StartingModels, failure_of
from archipel.vocabulary import Job, RoundClosed, Task, TaskKey


class SimulatedFleet:
    """Sites by name, each a handler; always connected.

    ``problems`` keeps the full text of every error, which a deployed site would keep to itself.
    """

    def __init__(self, sites: Mapping[str, Handler], job: Job) -> None:
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
        """A simulated site keeps no tensor files to commit, only which model the round made."""
        for site in self._models.keys() & set(sites):
            self._models[site].settle(closed)

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
