"""A worker process of a simulation: it acts as some of the sites for the whole experiment, one task at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

from archipel.plans.loading import PlanLine, RaisedInAnotherProcess, plan_line_of
from archipel.plans.packaging import PackagedPlan
from archipel.simulation.collecting import settled_objects
from archipel.simulation.site_specs import SiteHandler, SiteSpec, site_handler
from archipel.tasks import Handler, LocalUpdate
from archipel.vocabulary import ArchipelError, RoundClosed, Task, Thing


@dataclass(frozen=True)
class WorkerStarted:
    """The plan is loaded for every site."""


@dataclass(frozen=True)
class Raised:
    """An error that is sent to the researcher's process: pickled where that is possible, and its traceback as text."""

    text: str
    summary: str
    line: PlanLine | None = None
    pickled: bytes | None = None

    @classmethod
    def of(cls, error: BaseException, plan: PackagedPlan) -> Raised:
        """What can be sent of an error."""
        text = "".join(traceback.format_exception(error))
        place = plan_line_of(error, plan.files)
        where = "" if place is None else f" ({place})"
        summary = " ".join(f"{type(error).__name__}: {error}".split()) + where
        try:
            pickled = pickle.dumps(error)
            # Some errors can be pickled but not unpickled.
            pickle.loads(pickled)  # noqa: S301 - written two lines above
        except Exception:
            pickled = None
        return cls(text, summary, place, pickled)

    def error(self, site: str) -> Exception:
        """The error again, in the researcher's process; the worker's traceback is its cause."""
        failure: Exception | None = None
        if self.pickled is not None:
            try:
                read = pickle.loads(self.pickled)  # noqa: S301 - from a process that this one started
                failure = read if isinstance(read, Exception) else None
            except Exception:
                # A class of the plan's own, which only a worker has loaded.
                failure = None
        if failure is None:
            failure = ArchipelError(Thing("site", site), self.summary, "fix the plan, or what it reads")
        failure.__cause__ = RaisedInAnotherProcess(self.text, self.line)
        return failure


Question = tuple[int, str, Task | RoundClosed]
"""A number that identifies the answer, the site and its task; or the result of a stage, which has no answer."""
Answer = WorkerStarted | LocalUpdate | Raised


def serve(channel: Connection, specs: Sequence[SiteSpec]) -> None:
    """Answer questions until the other end is closed: (number, update). The tensor files stay files."""
    turn = asyncio.Lock()
    try:
        handlers = {spec.site: site_handler(spec, turn) for spec in specs}
    except Exception as error:
        channel.send((0, Raised.of(error, specs[0].plan)))
        return
    channel.send((0, WorkerStarted()))
    with settled_objects():
        asyncio.run(_until_closed(channel, handlers, specs[0].plan))


async def _until_closed(channel: Connection, handlers: Mapping[str, SiteHandler], plan: PackagedPlan) -> None:
    """While one site trains, another's result may be sealed: the ``turn`` of the handlers keeps training apart."""
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()
    working: set[asyncio.Task[None]] = set()

    def take() -> None:
        try:
            number, site, task = channel.recv()
        except (EOFError, OSError):
            closed.set()
            return
        if isinstance(task, RoundClosed):
            handlers[site].settle(task)
            return
        work = loop.create_task(_answer(channel, number, handlers[site], task, plan))
        working.add(work)
        work.add_done_callback(working.discard)

    loop.add_reader(channel.fileno(), take)
    await closed.wait()
    if working:
        # Its result is no longer awaited, and a thread that trains cannot be stopped otherwise.
        os._exit(1)


async def _answer(channel: Connection, number: int, handler: Handler, task: Task, plan: PackagedPlan) -> None:
    try:
        # What the site keeps stays here.
        answer: Answer = replace(await handler(task), state=None)
    except Exception as error:
        answer = Raised.of(error, plan)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        channel.send((number, answer))
