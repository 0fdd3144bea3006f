"""A sandboxed worker as the agent sees it: asked, measured, frozen between tasks, ended, and never trusted.

While a task runs its limits are watched; when it is done, the worker is stopped and whatever else it left running is
killed, so that no process writes into a result that the agent reads, and nothing of a plan runs between tasks. The
sandbox's own processes, its process 1 among them, are frozen as well, and all of it is looked at until the next task.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Any, TypeVar

import structlog

from archipel.data import SampleCounts, count_samples
from archipel.plans.in_turn import ReadingOrder
from archipel.plans.kept_state import fault_in, most_bytes
from archipel.plans.runtime import Outcome
from archipel.site.sandbox import tree
from archipel.site.sandbox.dialogue import Dialogue, Gone, Malformed, NotFinite
from archipel.site.sandbox.limits import ResourceWatch
from archipel.site.sandbox.memory import SharedBuffer
from archipel.site.sandbox.resources import Resources
from archipel.site.sandbox.spec import SandboxSpec, WorkerTaskFailed
from archipel.site.worker import (
    Begin,
    Done,
    Evaluate,
    FromWorker,
    Model,
    NeedModel,
    NeedState,
    Prepare,
    StateSpace,
    ToWorker,
    Train,
    WorkerError,
    WorkerReady,
)
from archipel.tasks.failing import sentence_of
from archipel.vocabulary import EXCEPTION_CLASSES, ErrorCode, Failure, MetricSpec, MetricSum, Task
from archipel.vocabulary.failures import MOST_LINES

_log = structlog.get_logger("archipel.sandbox")
_MAY_SAY = frozenset(
    {
        ErrorCode.BAD_DATA,
        ErrorCode.BAD_INPUT,
        ErrorCode.BAD_PLAN,
        ErrorCode.DATA_CHANGED,
        ErrorCode.LIMIT_MEMORY,
        ErrorCode.MODEL_CHANGED,
        ErrorCode.NOT_FINITE,
        ErrorCode.PLAN_ERROR,
    }
)
"""Codes that a worker may give its own error; any other code counts as ``plan-error``."""
_FREEZE_S = 5.0
_LOOK_WHILE_FROZEN_S = 1.0
_SWEEPS = 50
T = TypeVar("T")
GivesModel = Callable[[int], Awaitable[SharedBuffer]]
"""A task's model by its place in the task, in memory that is valid until the next one is asked for."""


class SandboxedWorker:
    """One worker process and everything below it. Made by ``Sandbox.start``, which hands it over frozen."""

    def __init__(
        self, spec: SandboxSpec, process: subprocess.Popen[bytes], main: int, dialogue: Dialogue, resources: Resources,
        watch: ResourceWatch, description: str,
    ) -> None:  # fmt: skip
        self.spec, self.description, self.main = spec, description, main
        self._process, self._dialogue, self._resources, self._watch = process, dialogue, resources, watch
        self._own = frozenset(tree.descendants(process.pid))
        self._inside = sorted(self._own - {process.pid} | {main})
        self._broken: WorkerTaskFailed | None = None
        self._between = asyncio.ensure_future(self._stays_frozen())
        self._samples = SampleCounts(0, 0)

    @property
    def pid(self) -> int:
        """The sandbox's first process as this machine counts; ``main`` is the worker's own."""
        return self._process.pid

    @property
    def group_folders(self) -> tuple[Path, ...]:
        """The folders of its control groups."""
        group = self._resources.group
        return tuple(group.folders.values()) if group is not None else ()

    @property
    def alive(self) -> bool:
        """Whether it can take a task."""
        # Its process 1 is frozen too and would not tell of the worker's end.
        return self._broken is None and self._process.poll() is None and not tree.has_ended(self.main)

    async def prepare(self, frozen: SharedBuffer | None = None) -> None:
        """Load the plan and its data; what the worker may then claim to count is counted here.

        ``frozen`` is the frozen part of the job's model, for all tasks of this worker; without it a job that has one
        must ``begin``. Raises WorkerTaskFailed.
        """
        if frozen is not None:
            frozen.seal()
        cohort, job = self.spec.cohort, self.spec.job
        self._samples = await asyncio.to_thread(count_samples, cohort, job.validation_fraction, job.needs)
        given = [frozen.fd] if frozen is not None else []
        reply = await self._guarded(self._ask(Prepare(), given), self.spec.prepare_wall_s, self.spec.limits.cpu_s)
        if not isinstance(reply, WorkerReady):
            raise await self._misbehaved("answered another question than prepare")

    async def begin(self, *results: SharedBuffer) -> None:
        """Make the plan's own initial model into memory for what is sent, then frozen, then local, where there is such
        a part. Raises WorkerTaskFailed."""
        for result in results:
            result.lend()
        limits = self.spec.limits
        reply = await self._guarded(self._ask(Begin(), [one.fd for one in results]), limits.wall_s, limits.cpu_s)
        if not isinstance(reply, Done):
            raise await self._misbehaved("answered another question than begin")

    async def train(self, task: Task, model: SharedBuffer, result: SharedBuffer, state: bytes | None) -> Outcome:
        """Train the model into the result's memory, in place if it is the same memory. Raises WorkerTaskFailed; the
        worker may be dead then.
        """
        buffers = [result]
        result.lend()
        if model is not result:
            model.seal()
            buffers.insert(0, model)
        kept = None if state is None else SharedBuffer.holding(state)
        try:
            request = Train(task=task, has_state=kept is not None)
            given = [buffer.fd for buffer in (*buffers, kept) if buffer is not None]
            return await self._task(request, given, passes=len(task.passes))
        finally:
            if kept is not None:
                kept.close()

    async def evaluate(self, task: Task, model: GivesModel, local: bytes | None = None) -> Outcome:
        """Validate one model or the ensemble of several, which ``model`` gives by its place in the task; ``local`` is
        this site's local part.

        An ensemble's models are asked for one at a time, and one may be written over when the next is asked for.
        Raises WorkerTaskFailed, and what ``model`` raises; then the worker is ended.
        """
        if len(task.models) > 1:
            return await self._task(Evaluate(task=task), (), passes=1, model=model)
        buffers = [await model(0)]
        buffers[0].seal()
        if local is not None:
            buffers.append(SharedBuffer.holding(local))
        try:
            request = Evaluate(task=task, has_state=local is not None)
            return await self._task(request, [one.fd for one in buffers], passes=1)
        finally:
            for buffer in buffers[1:]:
                buffer.close()

    async def kill(self) -> None:
        """End the worker and everything it started."""
        self._between.cancel()
        if self._broken is None:
            self._broken = failed(ErrorCode.CRASHED, "the worker was ended", retry=True)
        await self._end()

    async def _task(
        self, request: Train | Evaluate, descriptors: Sequence[int], passes: int, model: GivesModel | None = None
    ) -> Outcome:
        limits = self.spec.limits
        work = self._work(request, descriptors, model)
        return await self._guarded(work, limits.wall_s * passes, limits.cpu_s * passes)

    async def _work(self, request: Train | Evaluate, descriptors: Sequence[int], model: GivesModel | None) -> Outcome:
        reply = await self._ask(request, descriptors)
        if model is not None:
            reply = await self._in_turn(reply, len(request.task.models), model)
        state: SharedBuffer | None = None
        try:
            if isinstance(reply, NeedState):
                state = await self._room_for_state(request, reply.size)
                reply = await self._ask(StateSpace(), [state.fd])
            if not isinstance(reply, Done) or reply.state != (state is not None):
                raise await self._misbehaved("answered another question than the task")
            job = self.spec.job
            self._check_names(reply.metrics, job.metrics)
            self._check_names(reply.validation, job.validation)
            # The worker may still write here; a state is only ever given back to it.
            kept = None if state is None else bytes(state.view())
            if fault := fault_in(job, request.task.key.kind, kept):
                raise await self._misbehaved(fault)
            return Outcome(self._samples, dict(reply.metrics), dict(reply.validation), kept)
        finally:
            if state is not None:
                state.close()

    async def _in_turn(self, reply: FromWorker, count: int, model: GivesModel) -> FromWorker:
        """Give the worker the models that it asks for; returns its first other reply.

        Its wall time is not counted while a model is fetched, but only as often as there are models.
        """
        asked, order = 0, ReadingOrder(count, times=self._samples.validation)
        while isinstance(reply, NeedModel):
            if not order.allows(reply.number):
                raise await self._misbehaved(f"asked for model {reply.number} of an ensemble of {count} out of turn")
            with self._watch.paused() if asked < count else contextlib.nullcontext():
                buffer = await model(reply.number)
            asked += 1
            buffer.seal()
            reply = await self._ask(Model(), [buffer.fd])
        return reply

    async def _room_for_state(self, request: Train | Evaluate, size: int) -> SharedBuffer:
        if size > (most := most_bytes(self.spec.job, request.task.key.kind)):
            raise await self._misbehaved(f"asked for {size} bytes of state; at most {most} are given")
        return SharedBuffer.create(size)

    def _check_names(self, found: dict[str, MetricSum], declared: Sequence[MetricSpec]) -> None:
        unknown = sorted(set(found) - {spec.name for spec in declared})
        if unknown:
            raise failed(ErrorCode.PLAN_ERROR, f"the worker reported a metric that is not in the job: {unknown[0]}")

    async def _ask(self, request: ToWorker, descriptors: Sequence[int]) -> FromWorker:
        try:
            await self._dialogue.say(request, descriptors)
            reply = await self._dialogue.hear()
        except Gone as error:
            raise failed(ErrorCode.CRASHED, f"the worker is gone: {error}", retry=True) from error
        except NotFinite as error:
            raise failed(ErrorCode.NOT_FINITE, f"a reply held NaN or infinite numbers: {error}") from error
        except Malformed as error:
            raise await self._misbehaved(str(error)) from error
        if isinstance(reply, WorkerError):
            raise self._told(reply)
        return reply

    async def _guarded(self, work: Coroutine[Any, Any, T], wall_s: float, cpu_s: float) -> T:
        """Let the worker run for this work, within limits; frozen and alone again afterwards, or ended."""
        if self._broken is not None:
            work.close()
            raise self._broken
        self._between.cancel()
        tree.signal_all(self._inside, SIGCONT)
        doing = asyncio.ensure_future(work)
        watching = asyncio.ensure_future(self._watch.until_broken(wall_s, cpu_s))
        try:
            await asyncio.wait({doing, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                broken = watching.result()
                raise failed(broken.code, broken.detail)
            outcome = doing.result()
            await self._freeze()
            return outcome
        except WorkerTaskFailed as error:
            failure = await self._after(error)
            if failure is error:
                raise
            raise failure from error
        except BaseException:
            # Cancelled, or an error of the agent's own: the worker is not left running.
            await self.kill()
            raise
        finally:
            for task in (doing, watching):
                task.cancel()
            await asyncio.gather(doing, watching, return_exceptions=True)

    async def _after(self, error: WorkerTaskFailed) -> WorkerTaskFailed:
        """The failure to report; the worker is frozen again where the failure is the plan's own, else ended."""
        if self._broken is not None:
            return self._broken
        code = error.failure.code
        if code in (ErrorCode.PLAN_ERROR, ErrorCode.NOT_FINITE) or error.told:
            try:
                await self._freeze()
            except WorkerTaskFailed:
                _log.warning("worker ended after a failure", site=self.spec.site, experiment=self.spec.job.experiment)
            return error
        if code is ErrorCode.CRASHED and self._resources.oom_kills():
            error = failed(ErrorCode.LIMIT_MEMORY, f"the kernel ended it for its memory ({error.detail})")
        self._broken = error
        await self._end()
        return error

    async def _freeze(self) -> None:
        """Stop the worker and kill all else below it. Raises WorkerTaskFailed, the worker ended, when that fails."""
        killed = 0
        for _ in range(_SWEEPS):
            # Each time: the end of a child, or of the last process that joins two groups, may have woken it.
            await self._stopped([self.main])
            left = self._others()
            if not left:
                break
            killed += len(left)
            tree.signal_all(left, SIGSTOP)
            tree.signal_all(left, SIGKILL)
            await asyncio.sleep(0.005)
        else:
            raise await self._misbehaved("left processes behind that could not be ended")
        await self._stopped(self._inside)
        if killed:
            _log.warning(
                "processes outlived their task and were ended",
                site=self.spec.site, experiment=self.spec.job.experiment, processes=killed,
            )  # fmt: skip
        try:
            self._dialogue.check_silent()
        except Malformed as error:
            raise await self._misbehaved(str(error)) from error
        except Gone as error:
            raise failed(ErrorCode.CRASHED, f"the worker is gone: {error}", retry=True) from error
        self._between = asyncio.ensure_future(self._stays_frozen())

    async def _stopped(self, pids: Sequence[int]) -> None:
        """Stop these processes. Raises WorkerTaskFailed, the worker ended, when one still runs."""
        running, wait, waited = list(pids), 0.0002, 0.0
        while running:
            if waited > _FREEZE_S:
                raise await self._misbehaved("could not be stopped after its task")
            # Again each time: a SIGCONT that comes before the process has stopped takes back the SIGSTOP.
            tree.signal_all(running, SIGSTOP)
            await asyncio.sleep(wait)
            waited, wait = waited + wait, min(2 * wait, 0.02)
            running = [pid for pid in running if not tree.is_frozen(pid)]

    async def _stays_frozen(self) -> None:
        """Look at the frozen sandbox once a second, and end it when something runs or more memory is held."""
        while self.alive:
            await asyncio.sleep(_LOOK_WHILE_FROZEN_S)
            try:
                awake = [pid for pid in self._inside if not tree.is_frozen(pid)] or self._others()
                broken = None if awake else await self._watch.broken_while_frozen()
            except OSError as error:
                # Nobody waits for this task: without an end here the worker would never be looked at again.
                await self._misbehaved(f"could not be looked at between tasks ({error})")
                return
            if awake:
                await self._misbehaved(f"ran between tasks ({len(awake)} processes)")
            elif broken is not None:
                self._broken = failed(broken.code, f"{broken.detail} between tasks")
                _log.error("worker ended", site=self.spec.site, detail=self._broken.detail)
                await self._end()

    def _others(self) -> set[int]:
        """Living processes of the sandbox beside its own."""
        if self._resources.group is None:
            return set(tree.living_below(self._process.pid, self._own))
        return {pid for pid in self._resources.grouped() - self._own if not tree.has_ended(pid)}

    def _told(self, problem: WorkerError) -> WorkerTaskFailed:
        """The failure that may leave the site, from an error that the worker reported."""
        code = ErrorCode(problem.code) if problem.code in set(_MAY_SAY) else ErrorCode.PLAN_ERROR
        exception = problem.exception if problem.exception in EXCEPTION_CLASSES else "Exception"
        failure = Failure(code=code, sentence=sentence_of(code), exception=exception)
        if self._is_line_of_plan(problem.file, problem.line):
            failure = failure.model_copy(update={"file": problem.file, "line": problem.line})
        return WorkerTaskFailed(failure, problem.text, told=True)

    def _is_line_of_plan(self, file: str | None, line: int | None) -> bool:
        """Whether the approved plan has this line: a worker's other names and numbers may not leave the site."""
        blob = self.spec.job.plan.files.get(file or "")
        if blob is None or line is None:
            return False
        with self.spec.open_file(blob) as path:
            return 1 <= line <= min(path.read_bytes().count(b"\n") + 1, MOST_LINES)

    async def _misbehaved(self, detail: str) -> WorkerTaskFailed:
        """The worker broke the protocol and is ended."""
        self._broken = failed(ErrorCode.PLAN_ERROR, f"the worker {detail}")
        _log.error("worker ended", site=self.spec.site, experiment=self.spec.job.experiment, detail=detail[-500:])
        await self._end()
        return self._broken

    async def _end(self) -> None:
        if self._process.poll() is None:
            tree.kill_tree(self._process.pid, self._resources.grouped())
        await asyncio.to_thread(self._process.wait)
        for _ in range(_SWEEPS):
            # Processes that end with bubblewrap's process 1 are gone a moment later.
            left = self._resources.grouped()
            if not left and self._resources.leave_group():
                break
            tree.signal_all(left, SIGKILL)
            await asyncio.sleep(0.01)
        await self._dialogue.close()
        self._resources.close()


def failed(code: ErrorCode, detail: str, *, retry: bool = False) -> WorkerTaskFailed:
    """A failure in the agent's own words."""
    return WorkerTaskFailed(Failure(code=code, sentence=sentence_of(code), retry=retry), detail)
