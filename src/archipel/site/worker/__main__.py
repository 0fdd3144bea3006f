"""The worker's main loop: one message, one answer, until the agent closes the socket."""

from __future__ import annotations

import mmap
import os
import resource
import socket
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from archipel.plans.packaging import load
from archipel.plans.runtime import Outcome, PlanRuntime
from archipel.site.worker.protocol import (
    Done,
    Evaluate,
    NeedState,
    Prepare,
    Prepared,
    Problem,
    Start,
    StateSpace,
    Train,
    receive,
    send,
)
from archipel.vocabulary import ArchipelError, Record, WorkerLimits

_TEXT = 200_000


def main(descriptor: int) -> None:
    """Serve the agent on the inherited socket."""
    channel = socket.socket(fileno=descriptor)
    start, _ = receive(channel)
    if not isinstance(start, Start):
        raise SystemExit("the agent's first message must be a start")
    _limit(start.job.limits)
    served = _Served(start, channel)
    while True:
        try:
            message, descriptors = receive(channel)
        except EOFError:
            return
        try:
            reply: Record = served.answer(message, descriptors)
        except BaseException as error:
            # Whatever a plan raises, SystemExit and KeyboardInterrupt too, is this task's failure and no more.
            reply = _problem(error, start.plan_file)
        finally:
            for one in descriptors:
                os.close(one)
        send(channel, reply)


class _Served:
    """One plan at work."""

    def __init__(self, start: Start, channel: socket.socket) -> None:
        self._start, self._channel = start, channel
        self._runtime: PlanRuntime | None = None

    def answer(self, message: Record, descriptors: Sequence[int]) -> Record:
        match message:
            case Prepare():
                start = self._start
                plan = load(Path(start.plan_file), start.job.plan.class_name)
                runtime = PlanRuntime(plan, start.job, start.site, Path(start.root), start.cohort)
                runtime.prepare()
                self._runtime = runtime
                return Prepared()
            case Train():
                state = _read(descriptors[2]) if message.has_state else None
                with _mapped(descriptors[0], write=False) as model, _mapped(descriptors[1], write=True) as result:
                    outcome = self._ready().train(message.task, model, result, state)
                return self._done(outcome)
            case Evaluate():
                return self._done(self._evaluate(message, descriptors))
            case _:
                raise ValueError("not a request")

    def _evaluate(self, message: Evaluate, descriptors: Sequence[int]) -> Outcome:
        models = [_map(one, write=False) for one in descriptors]
        try:
            return self._ready().evaluate(message.task, [memoryview(one) for one in models])
        finally:
            _close(models)

    def _ready(self) -> PlanRuntime:
        if self._runtime is None:
            raise ValueError("a task came before prepare")
        return self._runtime

    def _done(self, outcome: Outcome) -> Done:
        if outcome.state is not None:
            send(self._channel, NeedState(size=len(outcome.state)))
            message, descriptors = receive(self._channel)
            if not isinstance(message, StateSpace) or len(descriptors) != 1:
                raise ValueError("the agent gave no memory for the optimiser's state")
            os.pwrite(descriptors[0], outcome.state, 0)
            os.close(descriptors[0])
        return Done(
            samples=outcome.samples,
            metrics=outcome.metrics,
            validation=outcome.validation,
            state=outcome.state is not None,
        )


def _read(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


@contextmanager
def _mapped(descriptor: int, *, write: bool) -> Iterator[memoryview]:
    memory = _map(descriptor, write=write)
    try:
        yield memoryview(memory)
    finally:
        _close([memory])


def _map(descriptor: int, *, write: bool) -> mmap.mmap:
    size = os.fstat(descriptor).st_size
    if write:
        return mmap.mmap(descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    # Private: kernels before 6.7 refuse a shared mapping of memory that is sealed against writing.
    return mmap.mmap(descriptor, size, mmap.MAP_PRIVATE, mmap.PROT_READ)


def _close(memories: Sequence[mmap.mmap]) -> None:
    for memory in memories:
        try:
            memory.close()
        except BufferError:
            # The plan kept an array on this memory; it goes when the plan lets go of it.
            continue


def _limit(limits: WorkerLimits) -> None:
    """Limits that the kernel keeps per process; what the whole sandbox uses is measured by the agent outside."""
    largest = limits.tmp_mb << 20
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_FSIZE, largest),
        (resource.RLIMIT_NOFILE, 1024),
    ):
        resource.setrlimit(kind, (value, value))


def _problem(error: BaseException, plan_file: str) -> Problem:
    kind = next((one.__name__ for one in type(error).__mro__ if one.__module__ == "builtins"), "Exception")
    frames = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == plan_file]
    line = frames[-1] if frames else None
    if isinstance(error, SyntaxError) and error.filename == plan_file:
        line = error.lineno
    code = str(error.code) if isinstance(error, ArchipelError) else "plan-error"
    if isinstance(error, MemoryError):
        code = "limit-memory"
    text = "".join(traceback.format_exception(error))[-_TEXT:]
    return Problem(code=code, exception=kind, line=line, text=text)


if __name__ == "__main__":
    main(int(sys.argv[1]))
