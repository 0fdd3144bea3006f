"""Worker processes of a simulation, as the researcher's process sees them: started, asked, and ended with it."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing import Pipe
from typing import Any

from archipel.simulation import child_processes
from archipel.simulation.site_specs import SiteSpec
from archipel.simulation.worker import Answer, Question, Raised, serve
from archipel.tasks import LocalUpdate
from archipel.vocabulary import ArchipelError, ErrorCode, RoundClosed, Task, Thing
from archipel.vocabulary.threads import thread_variables

_END_S = 5.0
_ROOM = 4
"""How many tasks a worker has at a time, the one that trains included."""


@dataclass(frozen=True)
class HandlerInWorker:
    """The handler of a site: it passes everything on to the process."""

    worker: SimulationWorker
    site: str

    async def __call__(self, task: Task) -> LocalUpdate:
        """Let the process do the task. Raises what it raised there."""
        return await self.worker.handle(self.site, task)

    def settle(self, closed: RoundClosed) -> None:
        """Let the process keep or drop what it made of a stage."""
        self.worker.settle(self.site, closed)


class SimulationWorker:
    """One process that acts as some of the sites. ``died`` gets the error when the process ends without having been
    stopped.
    """

    def __init__(self, specs: Sequence[SiteSpec], died: asyncio.Future[None]) -> None:
        self.sites = [spec.site for spec in specs]
        self._died, self._loop = died, asyncio.get_running_loop()
        # Some wait there, so that the process is never idle while this one is busy or waits for a processor; few, so
        # that neither pipe fills up.
        self._room = asyncio.Semaphore(_ROOM)
        self._numbers = itertools.count(1)
        self._ready: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting = {0: self._ready}
        self._error: ArchipelError | None = None
        self._channel, theirs = Pipe()
        variables = thread_variables(specs[0].job.limits.threads)
        self._process = child_processes.started(serve, theirs, tuple(specs), variables=variables)
        theirs.close()
        assert self._process.pid is not None
        # Unlike the end of the pipe, this is noticed even if a process that the plan started is still alive.
        self._end = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._channel.fileno(), self._hear)
        self._loop.add_reader(self._end, self._ended)

    async def handle(self, site: str, task: Task) -> LocalUpdate:
        """Let the process do a task of one of its sites."""
        async with self._room:
            made = await self._answer(site, task)
        if isinstance(made, Raised):
            raise made.error(site)
        assert isinstance(made, LocalUpdate)
        return made

    def settle(self, site: str, closed: RoundClosed) -> None:
        """Let the process act on the result of a stage; a process that has ended is noticed elsewhere."""
        if self._error is None:
            self._ask((0, site, closed))

    async def ready(self) -> None:
        """Wait until the plan is loaded for all sites. Raises what loading it raised."""
        answer = await self._ready
        if isinstance(answer, Raised):
            raise answer.error(self.sites[0])

    def close(self, *, kill: bool) -> None:
        """End the process: at once, or as soon as it sees that there are no more questions."""
        self._listen_no_more()
        for waiting in self._waiting.values():
            waiting.cancel()
        if kill:
            self._process.kill()
        self._channel.close()
        self._process.join(_END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        os.close(self._end)

    async def _answer(self, site: str, task: Task) -> Answer:
        if self._error is not None:
            raise self._error
        number = next(self._numbers)
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting[number] = answer
        self._ask((number, site, task))
        return await answer

    def _ask(self, question: Question) -> None:
        try:
            self._channel.send(question)
        except OSError:
            self._lose()

    def _hear(self) -> None:
        try:
            number, answer = self._channel.recv()
        except (EOFError, OSError):
            self._lose()
            return
        waiting = self._waiting.pop(number)
        if not waiting.done():
            waiting.set_result(answer)

    def _ended(self) -> None:
        while self._error is None and self._channel.poll():
            self._hear()
        self._lose()

    def _lose(self) -> None:
        """The process has ended: every call that waits for it fails with the reason."""
        if self._error is not None:
            return
        self._listen_no_more()
        self._error = self._dead()
        lost: list[asyncio.Future[Any]] = [*self._waiting.values(), self._died]
        for waiting in lost:
            if not waiting.done():
                waiting.set_exception(self._error)
                # A caller that no longer waits is not a reason for a warning.
                waiting.exception()
        self._waiting.clear()

    def _listen_no_more(self) -> None:
        if not self._channel.closed:
            self._loop.remove_reader(self._channel.fileno())
        self._loop.remove_reader(self._end)

    def _dead(self) -> ArchipelError:
        self._process.join(_END_S)
        code = self._process.exitcode
        how = f"by signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit code {code}"
        several = "sites" if len(self.sites) > 1 else "site"
        return ArchipelError(
            Thing.worded(f"simulation worker of {several} {', '.join(self.sites)}", sites=", ".join(self.sites)),
            f"ended {how} before it answered",
            "see what it printed above; for want of memory use fewer workers, and call simulate() only below "
            'if __name__ == "__main__" in a script',
            code=ErrorCode.CRASHED,
        )


@asynccontextmanager
async def worker_handlers(
    specs: Sequence[SiteSpec], workers: int
) -> AsyncIterator[tuple[dict[str, HandlerInWorker], asyncio.Future[None]]]:
    """A handler for each site, backed by this many processes, and a future that fails when one of them dies.

    Sites are distributed in order and stay with their process. All processes have ended when the context is left.
    """
    died: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    started: list[SimulationWorker] = []
    kill = True
    try:
        for first in range(workers):
            started.append(SimulationWorker(specs[first::workers], died))
        await asyncio.gather(*(worker.ready() for worker in started))
        yield {site: HandlerInWorker(worker, site) for worker in started for site in worker.sites}, died
        kill = False
    finally:
        for worker in started:
            worker.close(kill=kill)
