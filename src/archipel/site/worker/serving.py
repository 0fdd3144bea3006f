"""Serve the agent's requests with one plan: load it, prepare it, then train and evaluate on memory the agent made."""

from __future__ import annotations

import mmap
import os
import socket
import traceback
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from archipel.data import PreparedSource
from archipel.data.cohorts import PIECE, cohort_of
from archipel.plans.in_turn import ReadInTurn
from archipel.plans.loading import load_packaged, plan_line_of
from archipel.plans.packaging import PackagedPlan, declared
from archipel.plans.runtime import Outcome, PlanRuntime
from archipel.site.worker.protocol import (
    COHORT,
    LONGEST_TEXT,
    Begin,
    Done,
    Evaluate,
    Model,
    NeedModel,
    NeedState,
    Prepare,
    Start,
    StateSpace,
    Train,
    WorkerError,
    WorkerReady,
    receive,
    send,
)
from archipel.vocabulary import EXCEPTION_CLASSES, ArchipelError, ErrorCode, Record, Task


class Windows:
    """Tensor files mapped into this process, and kept: the agent uses the same memory round after round.

    A mapping made again costs a page fault for every few pages touched. ``most`` are kept, the latest used.
    """

    def __init__(self, most: int = 3) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[int, int, bool], mmap.mmap] = OrderedDict()

    def on(self, descriptor: int, *, write: bool = False) -> memoryview:
        """The whole tensor file behind a descriptor."""
        about = os.fstat(descriptor)
        key = (about.st_dev, about.st_ino, write)
        if key not in self._kept:
            self._kept[key] = _mapped(descriptor, about.st_size, write)
        self._kept.move_to_end(key)
        return memoryview(self._kept[key])

    def trim(self) -> None:
        """Release all but the latest; memory on which a plan still has arrays is released with them."""
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)


def _mapped(descriptor: int, size: int, write: bool) -> mmap.mmap:
    if write:
        return mmap.mmap(descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    try:
        return mmap.mmap(descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ)
    except PermissionError:
        # Kernels before 6.7 refuse a shared mapping of memory that is sealed against writing.
        return mmap.mmap(descriptor, size, mmap.MAP_PRIVATE, mmap.PROT_READ)


def serve(channel: socket.socket, start: Start) -> None:
    """Answer requests until the agent closes the socket. Raises EOFError or OSError then."""
    served = Served(channel, start)
    while True:
        request, descriptors = receive(channel)
        try:
            reply = served.answer(request, descriptors)
        except BaseException as error:
            # Everything that a plan raises, SystemExit and KeyboardInterrupt too, fails only this task.
            reply = problem(error, served.plan)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
            served.windows.trim()
        send(channel, reply)


class Served:
    """One plan at work."""

    def __init__(self, channel: socket.socket, start: Start) -> None:
        self._channel, self._start = channel, start
        self._runtime: PlanRuntime | None = None
        self.plan: PackagedPlan | None = None
        self.windows = Windows()

    def answer(self, request: Record, descriptors: Sequence[int]) -> Record:
        """The reply to a request. Raises whatever the plan raises."""
        match request:
            case Prepare():
                self._runtime = self._prepared(descriptors)
                return WorkerReady()
            case Begin() if self._runtime is not None:
                self._runtime.begin(*(self.windows.on(one, write=True) for one in descriptors))
                return Done()
            case Train() if self._runtime is not None:
                given = descriptors[:-1] if request.has_state else descriptors
                state = _contents(descriptors[-1]) if request.has_state else None
                result = self.windows.on(given[-1], write=True)
                model = self.windows.on(given[0]) if len(given) > 1 else result
                return self._done(self._runtime.train(request.task, model, result, state))
            case Evaluate() if self._runtime is not None:
                state = _contents(descriptors[-1]) if request.has_state else None
                return self._done(self._evaluated(self._runtime, request.task, descriptors, state))
            case _:
                raise ValueError("a request out of order")

    def _prepared(self, descriptors: Sequence[int]) -> PlanRuntime:
        start = self._start
        self.plan = declared(start.job.plan, ((path, Path(place).read_bytes()) for path, place in start.plan.items()))
        root = Path(start.root)
        with (root / COHORT).open("rb") as file:
            cohort = cohort_of(iter(lambda: file.read(PIECE), b""))
        source = PreparedSource(root, cohort)
        runtime = PlanRuntime(load_packaged(self.plan), start.job, start.site, source, cohort, start.device)
        if descriptors:
            # For the worker's whole life, and so not one of the windows that make room for others.
            runtime.freeze(memoryview(_mapped(descriptors[0], os.fstat(descriptors[0]).st_size, write=False)))
        runtime.prepare()
        return runtime

    def _evaluated(self, runtime: PlanRuntime, task: Task, descriptors: Sequence[int], state: bytes | None) -> Outcome:
        """Evaluate the model whose memory came with the task, or the ensemble of models that are asked for in turn."""
        if len(task.models) == 1:
            return runtime.evaluate(task, [self.windows.on(descriptors[0])], state)
        over = False

        def read(number: int) -> memoryview:
            if over:
                raise ValueError("a model of an ensemble was asked for after its evaluation")
            return self._model(number)

        try:
            return runtime.evaluate(task, ReadInTurn(len(task.models), read))
        finally:
            over = True

    def _model(self, number: int) -> memoryview:
        """A model of the ensemble, copied: the agent writes the next one over it."""
        send(self._channel, NeedModel(number=number))
        reply, descriptors = receive(self._channel)
        try:
            if not isinstance(reply, Model) or len(descriptors) != 1:
                raise ValueError("the agent gave no model of the ensemble")
            with _mapped(descriptors[0], os.fstat(descriptors[0]).st_size, write=False) as window:
                return memoryview(window[:])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _done(self, outcome: Outcome) -> Done:
        if outcome.state is not None:
            send(self._channel, NeedState(size=len(outcome.state)))
            request, descriptors = receive(self._channel)
            if not isinstance(request, StateSpace) or len(descriptors) != 1:
                raise ValueError("the agent gave no memory for what stays at the site")
            try:
                # Through a mapping: a write would be held to the limit of a file's size.
                with mmap.mmap(descriptors[0], len(outcome.state)) as window:
                    window[:] = outcome.state
            finally:
                os.close(descriptors[0])
        return Done(
            metrics=outcome.metrics,
            validation=outcome.validation,
            state=outcome.state is not None,
        )


def _contents(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def problem(error: BaseException, plan: PackagedPlan | None) -> WorkerError:
    """The error for the agent: in full, with the class and the plan's line that may leave the site picked out."""
    code = error.code if isinstance(error, ArchipelError) else ErrorCode.PLAN_ERROR
    if isinstance(error, MemoryError) or _is_out_of_gpu_memory(error):
        code = ErrorCode.LIMIT_MEMORY
    kind = next((one.__name__ for one in type(error).__mro__ if one.__name__ in EXCEPTION_CLASSES), "Exception")
    place = plan_line_of(error, plan.files) if plan is not None else None
    file, line = (place.file, place.line) if place is not None else (None, None)
    return WorkerError(code=code.value, exception=kind, file=file, line=line, text=_text(error))


def _is_out_of_gpu_memory(error: BaseException) -> bool:
    """Whether it is torch's own error; torch is not imported here, since not every plan uses it."""
    kinds = [kind for kind in type(error).__mro__ if kind.__module__.partition(".")[0] == "torch"]
    return any(kind.__name__ == "OutOfMemoryError" for kind in kinds)


def _text(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(error))
    except Exception as second:
        # A plan's exception can raise in its own __str__.
        text = f"{type(error).__name__}, whose text is not available: {type(second).__name__}"
    if len(text) > LONGEST_TEXT:
        half = LONGEST_TEXT // 2 - 16
        text = f"{text[:half]}\n[...]\n{text[-half:]}"
    return text.encode("utf-8", "replace").decode()
