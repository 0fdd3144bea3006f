"""A worker process of a simulation: it is some of the sites, for the whole experiment, one task at a time."""

from __future__ import annotations

import asyncio
import pickle
import signal
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

from archipel.plans.packaging import line_of
from archipel.simulation.site_specs import SiteSpec, site_handler
from archipel.tasks import Handler, Made
from archipel.vocabulary import ArchipelError, Task


@dataclass(frozen=True)
class Ready:
    """The plan is loaded for every site."""


@dataclass(frozen=True)
class Raised:
    """An error on its way to the researcher's process: pickled where that is possible, and its traceback as text."""

    text: str
    summary: str
    pickled: bytes | None = None

    @classmethod
    def of(cls, error: BaseException, plan_file: Path) -> Raised:
        """What can be sent of an error."""
        text = "".join(traceback.format_exception(error))
        line = line_of(error, str(plan_file))
        where = "" if line is None else f" (line {line} of {plan_file.name})"
        summary = " ".join(f"{type(error).__name__}: {error}".split()) + where
        try:
            pickled = pickle.dumps(error)
            # Some errors can be pickled and then not be read.
            pickle.loads(pickled)  # noqa: S301 - written two lines above
        except Exception:
            pickled = None
        return cls(text, summary, pickled)

    def error(self, site: str) -> Exception:
        """The error again, in the researcher's process; the worker's traceback is its cause."""
        found: Exception | None = None
        if self.pickled is not None:
            try:
                read = pickle.loads(self.pickled)  # noqa: S301 - from a process that this one started
                found = read if isinstance(read, Exception) else None
            except Exception:
                # A class of the plan's own, which only a worker has loaded.
                found = None
        if found is None:
            found = ArchipelError(f"site {site}", self.summary, "fix the plan, or what it reads")
        found.__cause__ = WorkerTraceback(self.text)
        return found


class WorkerTraceback(Exception):
    """Where in a worker an error was raised, as text."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


Question = tuple[str, Task]
Answer = Ready | Made | Raised


async def _handled(handler: Handler, task: Task) -> Made:
    return await handler(task)


def serve(channel: Connection, specs: Sequence[SiteSpec]) -> None:
    """Answer each (site, task) with what was made, until the other end is closed. The frames stay files."""
    # A Ctrl-C goes to every process of the terminal; the researcher's ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    turn = asyncio.Lock()
    try:
        try:
            handlers = {spec.site: site_handler(spec, turn) for spec in specs}
        except Exception as error:
            channel.send(Raised.of(error, specs[0].plan_file))
            return
        channel.send(Ready())
        with asyncio.Runner() as runner:
            while True:
                site, task = channel.recv()
                try:
                    # The optimiser's state stays here.
                    answer: Answer = replace(runner.run(_handled(handlers[site], task)), state=None)
                except Exception as error:
                    answer = Raised.of(error, specs[0].plan_file)
                channel.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
