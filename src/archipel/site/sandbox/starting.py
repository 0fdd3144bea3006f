"""How a worker is started: files are staged, bubblewrap starts, limits are set, and only then the plan is named."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from contextlib import ExitStack, closing, suppress
from signal import SIGSTOP
from typing import NamedTuple

import structlog

from archipel.data.cohorts import pieces
from archipel.site.gpus import GivenGpu
from archipel.site.sandbox import command, groups, machine_figures, seccomp, tree, trial
from archipel.site.sandbox.dialogue import Dialogue, Gone, Malformed, NotFinite
from archipel.site.sandbox.identities import Identity
from archipel.site.sandbox.limits import ResourceWatch
from archipel.site.sandbox.memory import SharedBuffer
from archipel.site.sandbox.output import Output
from archipel.site.sandbox.resources import Resources
from archipel.site.sandbox.spec import NO_SANDBOX, SandboxSpec, WorkerTaskFailed
from archipel.site.sandbox.staging import StagedFiles
from archipel.site.sandbox.worker import SandboxedWorker, failed
from archipel.site.worker import COHORT, FromWorker, Ready, Start, landlock_version
from archipel.tensors import blob_hash
from archipel.vocabulary import ArchipelError, ErrorCode, Thing

_log = structlog.get_logger("archipel.sandbox")
READY_S = 120.0
"""How long a worker may take until it is ready; no line of a plan runs in that time."""
_LOOK_S = 0.05
"""How often it is looked whether the sandbox's first process still lives while its worker starts."""
_ENDED_S = 5.0
"""How long the sandbox may take to end after its worker, so that its exit status can be read."""
_TOOLS = ("bwrap: ", "setpriv: ")
"""How a line begins with which a program that makes the sandbox says why it cannot."""


class Sandbox:
    """Starts workers."""

    @classmethod
    async def start(cls, spec: SandboxSpec) -> SandboxedWorker:
        """A worker that waits for ``prepare``, frozen until then.

        Raises ArchipelError (code sandbox) when the sandbox cannot be had and the site's owner did not explicitly
        choose to go without, and WorkerTaskFailed (code crashed) when the worker died before it was ready.
        """
        sandboxed = await _sandbox_is_there(spec)
        identity = Identity.claim(spec.uid_base)
        try:
            if spec.gpu is not None:
                spec.gpu.shown.check_open(identity.uid)
            stage = await asyncio.to_thread(_staged, spec, sandboxed)
        except BaseException:
            identity.close()
            raise
        resources = Resources(identity, stage, Output(spec.log_path, spec.log_bytes))
        try:
            return await _started(spec, sandboxed, resources)
        except BaseException:
            resources.close()
            raise


async def _sandbox_is_there(spec: SandboxSpec) -> bool:
    try:
        await trial.check()
    except ArchipelError:
        if spec.mode != NO_SANDBOX:
            raise
        return False
    return True


def _staged(spec: SandboxSpec, sandboxed: bool) -> StagedFiles:
    return StagedFiles(spec.files, spec.state_folder, made={COHORT: pieces(spec.cohort)}, bound=sandboxed)


async def _started(spec: SandboxSpec, sandboxed: bool, resources: Resources) -> SandboxedWorker:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    dialogue = Dialogue(ours)
    process: subprocess.Popen[bytes] | None = None
    try:
        try:
            process, places = _launched(spec, sandboxed, resources, theirs)
        finally:
            # Held here, it would hide that the worker is gone.
            theirs.close()
        device = "cpu" if spec.gpu is None else "cuda"
        start = Start(job=spec.job, site=spec.site, plan=places.plan, root=places.data, device=device)
        await _until_ready(dialogue, start, process, resources)
        inside = tree.descendants(process.pid)[1:] or [process.pid]
        main = inside[-1]
        tree.signal_all(inside, SIGSTOP)
        resources.group = groups.make(spec.limits.memory_mb << 20, spec.limits.processes)
        if resources.group is not None:
            # Nothing of the plan has run and nothing forks any more, so that all of the sandbox is in it from here on.
            resources.group.add(tree.descendants(process.pid))
        on_gpu = None if spec.gpu is None else spec.gpu.watch
        watch = ResourceWatch(process.pid, main, spec.limits, resources.group, scratch=sandboxed, gpu=on_gpu)
        description = describe(sandboxed, resources, spec.gpu)
        return SandboxedWorker(spec, process, main, dialogue, resources, watch, description)
    except BaseException:
        if process is not None:
            tree.kill_tree(process.pid)
            tree.kill_group(process.pid)
            await asyncio.to_thread(process.wait)
        # A worker that outlived its sandbox's first process has run nothing of the plan, and ends when it sees this.
        await dialogue.close()
        raise


class _Places(NamedTuple):
    """Where the worker finds its plan's files, by their paths, and its data."""

    plan: dict[str, str]
    data: str


def _launched(
    spec: SandboxSpec, sandboxed: bool, resources: Resources, theirs: socket.socket
) -> tuple[subprocess.Popen[bytes], _Places]:
    shown = None if spec.gpu is None else spec.gpu.shown
    with ExitStack() as given:
        given.callback(resources.output.given)
        plan = {
            path: given.enter_context(closing(SharedBuffer.holding(_approved_file(spec, path)))).fd
            for path in spec.job.plan.paths
        }
        if sandboxed:
            filter_ = given.enter_context(closing(SharedBuffer.holding(seccomp.program_here()))).fd
            places = _Places({path: f"{command.PLAN}/{path}" for path in plan}, command.DATA)
            figures = {
                place: given.enter_context(closing(SharedBuffer.holding(text))).fd
                for place, text in _figures(spec).items()
            }
            passed = [*plan.values(), filter_, *figures.values()]
            arguments = command.bubblewrap_arguments(
                plan=plan,
                figures=figures,
                dataset=resources.stage.files,
                limits=spec.limits,
                seccomp=filter_,
                uid=resources.identity.uid,
                hidden=spec.state_folder,
                gpu=shown,
            )
        else:
            # Handed over open: only the agent's uid may enter the state folder, where both are.
            data = os.open(resources.stage.root, os.O_RDONLY | os.O_DIRECTORY)
            given.callback(os.close, data)
            places = _Places({path: f"/proc/self/fd/{file}" for path, file in plan.items()}, f"/proc/self/fd/{data}")
            passed = [*plan.values(), data]
            arguments = command.bare_arguments(resources.identity.uid)
        process = subprocess.Popen(
            [*arguments, *command.worker_arguments(theirs.fileno(), sandboxed)],
            stdin=subprocess.DEVNULL,
            stdout=resources.output.descriptor,
            stderr=resources.output.descriptor,
            pass_fds=[theirs.fileno(), *passed],
            env={} if sandboxed else _bare_environment(spec),
            cwd="/",
            start_new_session=True,
        )
    return process, places


def _figures(spec: SandboxSpec) -> dict[str, bytes]:
    """Files of ``/proc`` with the text that the worker reads there."""
    found = machine_figures.figures(spec.limits)
    return found if spec.gpu is None else {**found, **spec.gpu.shown.figures}


def _bare_environment(spec: SandboxSpec) -> dict[str, str]:
    """The variables of a worker without a sandbox: it finds the driver's libraries where they are."""
    found = command.environment(spec.limits, None if spec.gpu is None else spec.gpu.shown)
    if spec.gpu is not None and spec.gpu.shown.libraries:
        folder = str(spec.gpu.shown.libraries[0][0].parent)
        found |= {"LD_LIBRARY_PATH": folder, "TRITON_LIBCUDA_PATH": folder}
    return found


def _approved_file(spec: SandboxSpec, path: str) -> bytes:
    """One file of the plan. Raises ArchipelError (code trust) when it is not the one that was approved."""
    approved = spec.job.plan.files[path]
    with spec.open_file(approved) as place:
        source = place.read_bytes()
    if (actual := blob_hash(source)) != approved:
        raise ArchipelError(
            Thing.worded(f"the plan's file {path}, kept as {place},", file=path, place=place),
            f"is not the approved text: its hash is {actual}, the job's is {approved}",
            "find out who changed it, remove it and start the agent again, which fetches the text again",
            code=ErrorCode.TRUST,
            values={"found": actual, "approved": approved},
        )
    return source


async def _until_ready(
    dialogue: Dialogue, start: Start, process: subprocess.Popen[bytes], resources: Resources
) -> None:
    try:
        async with asyncio.timeout(READY_S):
            reply = await _answer(dialogue, start, process)
    except TimeoutError as error:
        said = resources.output.tail(400).strip()
        raise _died(
            f"it did not answer for {READY_S:.0f} s: {said}" if said else f"no answer for {READY_S:.0f} s"
        ) from error
    except (Gone, Malformed, NotFinite) as error:
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, _ENDED_S)
        raise _not_started(process.poll(), resources.output.tail(400).strip(), error) from error
    if not isinstance(reply, Ready):
        raise ArchipelError("the worker", "did not report that it is ready", "report this", code=ErrorCode.INTERNAL)


async def _answer(dialogue: Dialogue, start: Start, process: subprocess.Popen[bytes]) -> FromWorker:
    """What the worker says to its start. Raises Gone, Malformed, and NotFinite.

    The worker dies with the sandbox's first process only once bubblewrap has made the sandbox. Killed before that, the
    first process leaves behind what nothing would freeze or measure, or what holds the socket open and never answers:
    its end ends the start, whatever was said.
    """
    asking = asyncio.ensure_future(_asked(dialogue, start))
    try:
        while not asking.done() and process.poll() is None:
            await asyncio.wait({asking}, timeout=_LOOK_S)
        if process.poll() is not None:
            raise Gone("its sandbox ended")
        return asking.result()
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def _asked(dialogue: Dialogue, start: Start) -> FromWorker:
    await dialogue.say(start)
    return await dialogue.hear()


def _not_started(status: int | None, said: str, error: Exception) -> ArchipelError | WorkerTaskFailed:
    """Why a worker ended before it was ready, from the sandbox's exit status and what it ``said``.

    Only the programs that make the sandbox can say that there is none. A worker that was killed or ended says nothing
    of that, so that its task is done again.
    """
    killed = status is not None and trial.was_killed(status)
    if not killed and any(line.startswith(_TOOLS) for line in said.splitlines()):
        remedy = "read the experiment's log at the site"
        return ArchipelError("the worker", f"did not start ({said})", remedy, code=ErrorCode.SANDBOX)
    ended = "it closed its end" if status is None else f"exit status {status}"
    return _died(f"{ended}: {said or error}")


def _died(detail: str) -> WorkerTaskFailed:
    return failed(ErrorCode.CRASHED, f"the worker did not start ({detail})", retry=True)


def describe(sandboxed: bool, resources: Resources, gpu: GivenGpu | None = None) -> str:
    """In plain words, for the journal: what isolates this worker, and what enforces each limit."""
    uid, group = resources.identity.uid, resources.group
    kept = set(group.folders) if group is not None else set()
    memory = "memory limited by the kernel (control group)" if "memory" in kept else "memory watched by the agent"
    processes = "processes limited by the kernel (control group and uid)" if "pids" in kept else "processes by uid"
    limits = f"{memory}, {processes}, processor and wall time watched by the agent, frozen between tasks"
    if gpu is not None:
        limits += f"; GPU {gpu.gpu.in_words}, {gpu.watch.in_words}"
    if not sandboxed:
        own = f"its own uid {uid}, with every file that this uid may read"
        who = own if uid is not None else f"the agent's uid {os.getuid()}, with the agent's files"
        return f"sandbox: NONE, by the owner's configuration; {who}, and with the machine's network; {limits}"
    who = f"its own uid {uid}" if uid is not None else "a user namespace of its own"
    second = ", Landlock" if landlock_version() else ""
    return (
        f"sandbox: bubblewrap, {who}, no network, system-call filter{second}, sized temporary memory, "
        f"{resources.stage.count} prepared files read-only and no other of this site's data; {limits}"
    )
