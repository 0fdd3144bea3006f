"""Worker processes of a simulation, as the researcher's process sees them: started, asked, and ended with it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from multiprocessing import get_context
from multiprocessing.connection import wait

from archipel.simulation.site_specs import SiteSpec
from archipel.simulation.worker import Answer, Question, Raised, serve
from archipel.tasks import Handler, Made
from archipel.vocabulary import ArchipelError, ErrorCode, Task
from archipel.vocabulary.threads import thread_variables

_END_S = 5.0


class SimulationWorker:
    """One process that is some of the sites. It is asked in threads of ``threads``, one question at a time.

    ``died`` gets the error when the process ends although nobody ended it.
    """

    def __init__(self, specs: Sequence[SiteSpec], threads: ThreadPoolExecutor, died: asyncio.Future[None]) -> None:
        self.sites = [spec.site for spec in specs]
        self._threads, self._died, self._turn = threads, died, asyncio.Lock()
        start = get_context("spawn")
        self._channel, theirs = start.Pipe()
        self._process = start.Process(target=serve, args=(theirs, tuple(specs)))
        with _environment_of_a_worker(specs[0].job.limits.threads):
            self._process.start()
        theirs.close()
        assert self._process.pid is not None
        # Unlike the end of the pipe this is seen also when a process that the plan started lives on.
        self._end = os.pidfd_open(self._process.pid)

    def handler(self, site: str) -> Handler:
        """The site's handler: it passes each task on to the process."""

        async def handle(task: Task) -> Made:
            made = await self._answer(site, (site, task))
            assert isinstance(made, Made)
            return made

        return handle

    async def ready(self) -> None:
        """Wait until the plan is loaded for all sites. Raises what loading it raised."""
        await self._answer(self.sites[0], None)

    def close(self, *, kill: bool) -> None:
        """End the process: at once, or as soon as it sees that there are no more questions."""
        if kill:
            self._process.kill()
        else:
            self._channel.close()
        self._process.join(_END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._channel.close()
        os.close(self._end)

    async def _answer(self, site: str, question: Question | None) -> Answer:
        async with self._turn:
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._threads, self._asked, question)
        if answer is None:
            error = self._dead()
            if not self._died.done():
                self._died.set_exception(error)
            raise error
        if isinstance(answer, Raised):
            raise answer.error(site)
        return answer

    def _asked(self, question: Question | None) -> Answer | None:
        """The answer, or None when there will be none."""
        try:
            if question is not None:
                self._channel.send(question)
            if self._channel not in wait([self._channel, self._end]):
                return None
            answer: Answer = self._channel.recv()
        except (EOFError, OSError):
            return None
        return answer

    def _dead(self) -> ArchipelError:
        self._process.join(_END_S)
        code = self._process.exitcode
        how = f"by signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit code {code}"
        several = "sites" if len(self.sites) > 1 else "site"
        return ArchipelError(
            f"simulation worker of {several} {', '.join(self.sites)}",
            f"ended {how} before it answered",
            "see what it printed above; for want of memory use fewer workers, and call simulate() only below "
            'if __name__ == "__main__" in a script',
            code=ErrorCode.CRASHED,
        )


@asynccontextmanager
async def worker_handlers(
    specs: Sequence[SiteSpec], workers: int
) -> AsyncIterator[tuple[dict[str, Handler], asyncio.Future[None]]]:
    """A handler for each site, backed by this many processes, and a future that fails when one of them dies.

    Sites are dealt out in order and stay with their process. All processes have ended when the context is left.
    """
    died: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    started: list[SimulationWorker] = []
    kill = True
    with ThreadPoolExecutor(workers, thread_name_prefix="simulation-worker") as threads:
        try:
            for first in range(workers):
                started.append(SimulationWorker(specs[first::workers], threads, died))
            await asyncio.gather(*(worker.ready() for worker in started))
            yield {site: worker.handler(site) for worker in started for site in worker.sites}, died
            kill = False
        finally:
            for worker in started:
                worker.close(kill=kill)
            # Whoever waited for it has seen it.
            if died.done():
                died.exception()


@contextmanager
def _environment_of_a_worker(threads: int) -> Iterator[None]:
    """What a process that is started here inherits: the job's number of threads, and no Ctrl-C before it is ready."""
    given = thread_variables(threads)
    before = {name: os.environ.get(name) for name in given}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
