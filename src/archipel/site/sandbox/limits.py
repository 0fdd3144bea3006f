"""A sandbox's limits, kept by the kernel where it can and watched from outside where it cannot.

The kernel keeps a sandbox's memory where there is a control group, and the number of its processes by uid. Wall time
and processor time of a task are always the agent's to measure: a limit of the kernel on processor time would add up
over the life of a warm worker.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from archipel.site.gpus import GpuWatch, NvmlFault
from archipel.site.sandbox.groups import ControlGroup
from archipel.site.sandbox.tree import descendants
from archipel.site.sandbox.usage import kernel_memory, measure, pinned_memory, proportional_memory, scratch_memory
from archipel.vocabulary import ErrorCode, WorkerLimits

LOOK_S = 0.1
_GPU_SETTLES_S = 1.5
"""How long after its task the figures of a GPU may still count work that was done before it."""
SCRATCH = ("/tmp", "/dev/shm")  # noqa: S108 - inside the sandbox


@dataclass(frozen=True)
class Broken:
    """A limit that was exceeded, and how."""

    code: ErrorCode
    detail: str


class ResourceWatch:
    """Measures a worker while it works; ``scratch`` says whether its temporary folders are its own, ``gpu`` watches the
    GPU that it computes on.
    """

    def __init__(
        self,
        root: int,
        main: int,
        limits: WorkerLimits,
        group: ControlGroup | None,
        scratch: bool,
        gpu: GpuWatch | None = None,
    ) -> None:
        self._gpu, self._at_work = gpu, 0.0
        self._root, self._main, self._limits, self._group = root, main, limits, group
        self._folders = SCRATCH if scratch else ()
        self._paused_s = 0.0
        self._paused_at: float | None = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count no wall time: the worker waits for something that the agent has to fetch."""
        self._paused_at = began = time.monotonic()
        try:
            yield
        finally:
            self._paused_at = None
            self._paused_s += time.monotonic() - began

    def _clock(self) -> float:
        now = time.monotonic() if self._paused_at is None else self._paused_at
        return now - self._paused_s

    async def until_broken(self, wall_s: float, cpu_s: float) -> Broken:
        """Waits as long as the limits are kept. Measures ten times per second."""
        began, first = self._clock(), self.cpu_s()
        while True:
            self._at_work = time.time()
            await asyncio.sleep(min(LOOK_S, max(0.0, wall_s - (self._clock() - began)) + 0.001))
            if self._clock() - began > wall_s:
                return Broken(ErrorCode.LIMIT_TIME, f"more than {wall_s:.1f} s of wall time")
            if self.cpu_s() - first > cpu_s:
                return Broken(ErrorCode.LIMIT_CPU, f"more than {cpu_s:.1f} s of processor time")
            if (broken := await self.memory_broken()) is not None:
                return broken

    async def memory_broken(self) -> Broken | None:
        """The limit of memory, when more is held now; a frozen worker is asked about too."""
        pinned = 0 if self._gpu is None else pinned_memory(self._pids())
        watched = self._group is None or not self._group.keeps_memory
        used = pinned + (await self._memory() if watched else 0)
        if used > self._limits.memory_mb << 20:
            beside = f", {pinned >> 20} of them pinned for a GPU" if pinned else ""
            return Broken(ErrorCode.LIMIT_MEMORY, f"{used >> 20} MiB of memory{beside}")
        if self._group is not None and not watched and self._group.oom_kills():
            return Broken(ErrorCode.LIMIT_MEMORY, "the kernel ended a process of it for its memory")
        return None if self._gpu is None else await self._gpu_broken(self._gpu)

    async def _gpu_broken(self, gpu: GpuWatch) -> Broken | None:
        try:
            excess = await asyncio.to_thread(gpu.excess, self._pids())
        except NvmlFault as error:
            # What cannot be watched does not run.
            return Broken(ErrorCode.GPU, f"its GPU cannot be watched: {error}")
        return None if excess is None else Broken(ErrorCode.LIMIT_MEMORY, excess)

    async def broken_while_frozen(self) -> Broken | None:
        """The limit that a frozen worker broke.

        Stopping a process does not stop the GPU, which may still write to the memory of the result.
        """
        broken, settled = await self.memory_broken(), self._at_work + _GPU_SETTLES_S
        if broken is not None or self._gpu is None or time.time() <= settled:
            return broken
        try:
            busy = await asyncio.to_thread(self._gpu.is_busy, self._pids(), int(settled * 1e6))
        except NvmlFault as error:
            return Broken(ErrorCode.GPU, f"its GPU cannot be watched: {error}")
        return Broken(ErrorCode.PLAN_ERROR, "its GPU was still at work") if busy else None

    def _pids(self) -> frozenset[int]:
        grouped = self._group.processes() if self._group is not None else set()
        return frozenset({*descendants(self._root), *grouped})

    def cpu_s(self) -> float:
        """Seconds of processor time so far."""
        counted = self._group.cpu_s() if self._group is not None else None
        return measure(self._root).cpu_s if counted is None else counted

    async def _memory(self) -> int:
        """Bytes; the exact count, which is slow, only when the quick one, which counts shared pages twice, is high."""
        now = measure(self._root)
        scratch = scratch_memory(self._main, self._folders)
        kernel = kernel_memory(self._main, self._folders) if self._folders else 0
        if now.memory + scratch + kernel <= self._limits.memory_mb << 20:
            return now.memory + scratch + kernel
        return kernel + await asyncio.to_thread(proportional_memory, now.processes, scratch)
