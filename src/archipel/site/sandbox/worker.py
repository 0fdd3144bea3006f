"""A sandboxed worker as the agent sees it: started, asked, measured, ended, and never believed.

Limits that the kernel does not keep for a whole sandbox (processor time of a task, memory, wall time) are watched here;
whoever breaks one is killed with everything it started.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import structlog
from pydantic import ValidationError

from archipel.data import Cohort
from archipel.plans.runtime import Outcome
from archipel.site.sandbox import command, seccomp
from archipel.site.sandbox.memory import SharedFrame
from archipel.site.sandbox.staging import Stage
from archipel.site.sandbox.usage import descendants, measure, proportional_memory
from archipel.site.worker.protocol import (
    HEADER,
    LARGEST_REPLY,
    Done,
    Evaluate,
    NeedState,
    Prepare,
    Prepared,
    Problem,
    Start,
    StateSpace,
    Train,
    frame,
    from_worker,
)
from archipel.tasks.failing import sentence_of
from archipel.vocabulary import (
    EXCEPTION_CLASSES,
    ArchipelError,
    ErrorCode,
    Failure,
    Job,
    MetricSpec,
    MetricSum,
    Record,
    Task,
    WorkerLimits,
)

_log = structlog.get_logger("archipel.sandbox")
_MAY_SAY = frozenset(
    {
        ErrorCode.BAD_DATA,
        ErrorCode.BAD_INPUT,
        ErrorCode.BAD_PLAN,
        ErrorCode.DATA_CHANGED,
        ErrorCode.LIMIT_MEMORY,
        ErrorCode.NOT_FINITE,
        ErrorCode.PLAN_ERROR,
    }
)
"""Codes that a worker may give its own error; any other word of it counts as ``plan-error``."""
LOOK_S = 0.1
T = TypeVar("T")
PREPARE_WALL_S = 3600.0
LOG_LIMIT = 4 << 20
NO_SANDBOX = "none-i-accept-the-risk"


class TaskFailed(Exception):
    """A task failed in the worker. ``failure`` may leave the site, ``detail`` may not."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(str(failure))
        self.failure, self.detail = failure, detail


@dataclass(frozen=True)
class SandboxSpec:
    """What a worker is for and what it may use."""

    job: Job
    site: str
    plan_file: Path
    class_name: str
    dataset_root: Path
    cohort: Cohort
    limits: WorkerLimits
    mode: str
    log_path: Path
    state_folder: Path
    uid_base: int = 200_000


class Sandbox:
    """Starts workers; knows which uids are taken."""

    _slots: ClassVar[set[int]] = set()

    @classmethod
    async def start(cls, spec: SandboxSpec) -> SandboxedWorker:
        """A running worker that waits for ``prepare``.

        Raises ArchipelError (code sandbox) when the sandbox cannot be had and the site's owner did not choose to go
        without in so many words.
        """
        slot = next(number for number in range(10_000) if number not in cls._slots)
        cls._slots.add(slot)
        uid = spec.uid_base + slot if os.getuid() == 0 else None
        try:
            return await SandboxedWorker.launch(spec, uid, lambda: cls._slots.discard(slot))
        except BaseException:
            cls._slots.discard(slot)
            raise


class SandboxedWorker:
    """One worker process and everything below it."""

    def __init__(
        self,
        spec: SandboxSpec,
        process: subprocess.Popen[bytes],
        channel: socket.socket,
        stage: Stage,
        description: str,
    ) -> None:
        self.spec, self.description = spec, description
        self._process, self._channel, self._stage = process, channel, stage
        self._release: Any = None
        self._broken: TaskFailed | None = None

    @classmethod
    async def launch(cls, spec: SandboxSpec, uid: int | None, release: Any) -> Self:
        """Start the process and hand it its start message."""
        plan = SharedFrame.holding(spec.plan_file.read_bytes())
        stage = Stage(spec.dataset_root, spec.cohort, uid, spec.state_folder)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        filter_ = SharedFrame.holding(seccomp.program())
        passed = (theirs.fileno(), plan.fd, filter_.fd)
        log = _open_log(spec.log_path)
        sandboxed = True
        try:
            try:
                arguments = command.bubblewrap_arguments(
                    plan=plan.fd,
                    plan_name=spec.job.plan.file_name,
                    dataset=stage.files,
                    limits=spec.limits,
                    seccomp=filter_.fd,
                    uid=uid,
                    hidden=spec.state_folder,
                )
                await _can_sandbox(arguments[0])
            except ArchipelError as error:
                if error.code is not ErrorCode.SANDBOX or spec.mode != NO_SANDBOX:
                    raise
                sandboxed = False
                arguments = _bare_arguments(uid)
            process = subprocess.Popen(  # noqa: ASYNC220 - returns once the child has begun
                [*arguments, *command.worker_arguments(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=passed,
                env={} if sandboxed else command.environment(spec.limits),
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            stage.close()
            raise
        finally:
            theirs.close()
            os.close(log)
            filter_.close()
            plan.close()
        worker = cls(spec, process, ours, stage, _describe(sandboxed, uid, stage))
        worker._release = release
        root = command.DATA if sandboxed else str(spec.dataset_root)
        plan_file = f"{command.PLAN}/{spec.job.plan.file_name}" if sandboxed else str(spec.plan_file)
        start = Start(job=spec.job, site=spec.site, plan_file=plan_file, root=root, cohort=spec.cohort)
        await worker._say(start, ())
        return worker

    @property
    def alive(self) -> bool:
        """Whether it can take a task."""
        return self._broken is None and self._process.poll() is None

    async def prepare(self) -> None:
        """Load the plan and its data. Raises TaskFailed."""
        reply = await self._guarded(self._ask(Prepare(), ()), passes=None)
        if not isinstance(reply, Prepared):
            raise await self._misbehaved("answered another question than prepare")

    async def train(self, task: Task, model: SharedFrame, result: SharedFrame, state: bytes | None) -> Outcome:
        """Train the model into the result's memory. Raises TaskFailed; the worker may be dead then."""
        frames = [model, result]
        if state is not None:
            frames.append(SharedFrame.holding(state))
        try:
            request = Train(task=task, has_state=state is not None)
            return await self._guarded(self._work(request, [one.fd for one in frames]), passes=len(task.passes))
        finally:
            for one in frames[2:]:
                one.close()

    async def evaluate(self, task: Task, models: Sequence[SharedFrame]) -> Outcome:
        """Validate one model or the ensemble of several. Raises TaskFailed."""
        return await self._guarded(self._work(Evaluate(task=task), [one.fd for one in models]), passes=1)

    async def kill(self) -> None:
        """End the worker and everything it started."""
        if self._broken is None:
            self._broken = self._failure(ErrorCode.CRASHED, "the worker was ended", retry=True)
        await self._end()

    async def _end(self) -> None:
        if self._process.poll() is None:
            # Process 1 of the sandbox dies with bubblewrap, and everything with it; one that is still starting has not
            # asked for that yet.
            for pid in descendants(self._process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(self._process.wait)
        self._channel.close()
        self._stage.close()
        if self._release is not None:
            self._release()
            self._release = None

    async def _work(self, request: Train | Evaluate, descriptors: Sequence[int]) -> Outcome:
        reply = await self._ask(request, descriptors)
        state: SharedFrame | None = None
        try:
            if isinstance(reply, NeedState):
                most = 4 * self.spec.job.tensors.nbytes + (64 << 20)
                if reply.size > most or isinstance(request, Evaluate):
                    raise await self._misbehaved(f"asked for {reply.size} bytes of state; at most {most} are given")
                state = SharedFrame.create(reply.size)
                reply = await self._ask(StateSpace(), [state.fd])
            if not isinstance(reply, Done):
                raise await self._misbehaved("answered another question than the task")
            job = self.spec.job
            self._check_names(reply.metrics, job.metrics)
            self._check_names(reply.validation, job.validation)
            kept = None
            if state is not None:
                with state.view() as window:
                    kept = bytes(window)
            return Outcome(reply.samples, dict(reply.metrics), dict(reply.validation), kept)
        finally:
            if state is not None:
                state.close()

    def _check_names(self, found: dict[str, MetricSum], declared: Sequence[MetricSpec]) -> None:
        unknown = sorted(set(found) - {spec.name for spec in declared})
        if unknown:
            detail = f"the worker reported a metric that is not in the job: {unknown[0]}"
            raise self._failure(ErrorCode.PLAN_ERROR, detail)

    async def _ask(self, request: Record, descriptors: Sequence[int]) -> Record:
        await self._say(request, descriptors)
        reply = await self._hear()
        if isinstance(reply, Problem):
            raise self._told(reply)
        return reply

    async def _say(self, message: Record, descriptors: Sequence[int]) -> None:
        loop = asyncio.get_running_loop()
        data = frame(message)
        try:
            if descriptors:
                sent = socket.send_fds(self._channel, [data[:1]], list(descriptors))
                data = data[sent:]
            await loop.sock_sendall(self._channel, data)
        except OSError as error:
            raise self._failure(ErrorCode.CRASHED, f"the worker is gone: {error}", retry=True) from error

    async def _hear(self) -> Record:
        (length,) = HEADER.unpack(await self._exactly(HEADER.size))
        if length > LARGEST_REPLY:
            raise await self._misbehaved(f"began a reply of {length} bytes")
        try:
            return from_worker.validate_json(await self._exactly(length))
        except ValidationError as error:
            if any(one["type"] == "finite_number" for one in error.errors()):
                raise self._failure(ErrorCode.NOT_FINITE, f"a reply held NaN or infinite numbers: {error}") from error
            raise await self._misbehaved(f"sent a reply that does not fit: {error}") from error

    async def _exactly(self, length: int) -> bytes:
        loop = asyncio.get_running_loop()
        data = bytearray()
        while len(data) < length:
            try:
                more = await loop.sock_recv(self._channel, min(length - len(data), 1 << 16))
            except OSError as error:
                raise self._failure(ErrorCode.CRASHED, f"the worker is gone: {error}", retry=True) from error
            if not more:
                raise self._failure(ErrorCode.CRASHED, "the worker ended without an answer", retry=True)
            data += more
        return bytes(data)

    async def _guarded(self, work: Coroutine[Any, Any, T], passes: int | None) -> T:
        """Do the work while its use of time and memory is watched; after a failure that broke the worker, end it."""
        if self._broken is not None:
            work.close()
            raise self._broken
        doing = asyncio.ensure_future(work)
        watching = asyncio.ensure_future(self._watch(passes))
        try:
            await asyncio.wait({doing, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                self._broken = watching.result()
                await self._end()
                raise self._broken
            return doing.result()
        except TaskFailed as error:
            if error.failure.code is ErrorCode.CRASHED and self._broken is None:
                self._broken = error
                await self._end()
            raise
        except asyncio.CancelledError:
            await self.kill()
            raise
        finally:
            for one in (doing, watching):
                one.cancel()
            await asyncio.gather(doing, watching, return_exceptions=True)

    async def _watch(self, passes: int | None) -> TaskFailed:
        """Returns when a limit is broken."""
        limits, began = self.spec.limits, time.monotonic()
        wall = PREPARE_WALL_S if passes is None else limits.wall_s * passes
        cpu = limits.cpu_s * (passes or 1)
        first = measure(self._process.pid).cpu_s
        while True:
            await asyncio.sleep(LOOK_S)
            if self._process.poll() is not None:
                return self._failure(ErrorCode.CRASHED, f"bubblewrap ended with {self._process.returncode}", retry=True)
            now = measure(self._process.pid)
            if time.monotonic() - began > wall:
                return self._failure(ErrorCode.LIMIT_TIME, f"more than {wall:.0f} s of wall time")
            if now.cpu_s - first > cpu:
                return self._failure(ErrorCode.LIMIT_CPU, f"more than {cpu:.0f} s of processor time")
            if now.memory > limits.memory_mb << 20:
                exact = await asyncio.to_thread(proportional_memory, now.processes)
                if exact > limits.memory_mb << 20:
                    return self._failure(ErrorCode.LIMIT_MEMORY, f"{exact >> 20} MiB of memory")

    def _told(self, problem: Problem) -> TaskFailed:
        """The failure that may leave the site, from an error that the worker told."""
        code = ErrorCode(problem.code) if problem.code in set(_MAY_SAY) else ErrorCode.PLAN_ERROR
        lines = self.spec.plan_file.read_bytes().count(b"\n") + 1
        line = problem.line if problem.line is not None and 1 <= problem.line <= lines else None
        exception = problem.exception if problem.exception in EXCEPTION_CLASSES else "Exception"
        failure = Failure(code=code, sentence=sentence_of(code), exception=exception, line=line)
        return TaskFailed(failure, problem.text)

    async def _misbehaved(self, detail: str) -> TaskFailed:
        """The worker broke the protocol: it is ended, whatever it is."""
        self._broken = self._failure(ErrorCode.PLAN_ERROR, f"the worker {detail}")
        _log.error("worker ended", site=self.spec.site, experiment=self.spec.job.experiment, detail=detail[:500])
        await self._end()
        return self._broken

    def _failure(self, code: ErrorCode, detail: str, *, retry: bool = False) -> TaskFailed:
        return TaskFailed(Failure(code=code, sentence=sentence_of(code), retry=retry), detail)


async def _can_sandbox(program: str) -> None:
    """Raise ArchipelError (code sandbox) when bubblewrap is there but cannot work on this kernel."""
    trial = [program, "--unshare-net", "--unshare-pid", "--ro-bind", "/", "/", "--", "/bin/true"]
    if os.getuid() != 0:
        trial.insert(1, "--unshare-user")
    process = await asyncio.create_subprocess_exec(
        *trial, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    if process.returncode != 0:
        raise ArchipelError(
            "bubblewrap",
            f"cannot make a sandbox here ({said.decode(errors='replace').strip()[:200]})",
            "allow unprivileged user namespaces on this machine",
            code=ErrorCode.SANDBOX,
        )


def _bare_arguments(uid: int | None) -> list[str]:
    if uid is None:
        return []
    return ["/usr/bin/setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs", "--"]


def _describe(sandboxed: bool, uid: int | None, stage: Stage) -> str:
    if not sandboxed:
        return "sandbox: NONE, by the owner's configuration"
    who = f"uid {uid}" if uid is not None else "a user namespace"
    copies = f", {stage.copied} files copied for it" if stage.copied else ""
    return f"sandbox: bubblewrap, {who}, no network, system-call filter, memory watched by the agent{copies}"


def _open_log(path: Path) -> int:
    """The worker's output, appended; begun anew when it has grown beyond its limit."""
    if path.exists() and path.stat().st_size > LOG_LIMIT:
        path.replace(path.with_suffix(".old.log"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
