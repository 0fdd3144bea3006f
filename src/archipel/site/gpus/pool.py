"""The GPUs that a site's owner named, for the process that runs its tasks: found when first needed, given in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from pathlib import Path

from archipel.site.gpus.devices import Gpu, find
from archipel.site.gpus.driver_tree import DriverTree, libraries
from archipel.site.gpus.nvml import Nvml
from archipel.site.gpus.nvml_library import LIBRARY, NvmlLibrary
from archipel.site.gpus.shares import Holder, Shares
from archipel.site.gpus.shown import ShownGpu, shown
from archipel.site.gpus.watch import GpuWatch, pids_are_the_machines
from archipel.site.state import SiteSettings
from archipel.vocabulary.gpus import GpuTerms


@dataclass(frozen=True)
class GivenGpu:
    """A GPU as one worker is given it: what its sandbox shows, and the watch over its use."""

    gpu: Gpu
    shown: ShownGpu
    watch: GpuWatch


@dataclass(frozen=True)
class Driver:
    """NVML, the driver's files and its libraries on this machine."""

    nvml: Nvml
    tree: DriverTree
    libraries: Mapping[str, Path]
    by_process: bool

    @classmethod
    def load(cls, settings: SiteSettings) -> Driver:
        """The driver of this machine. Raises NvmlFault when it is not there."""
        found = libraries(settings.gpu_libraries)
        return cls(NvmlLibrary(found.get(LIBRARY, LIBRARY)), DriverTree(), found, pids_are_the_machines())

    def experiments(self, settings: SiteSettings) -> int:
        """How many experiments may share a GPU here: one, where memory cannot be counted by process."""
        return settings.experiments_per_gpu if self.by_process else 1


class GpuPool:
    """Gives the tasks of a site's experiments its GPUs, one task at a time on each share.

    A site whose owner named none has a pool that gives none; then nothing of the driver is touched.
    """

    def __init__(self, settings: SiteSettings) -> None:
        self._settings = settings
        self._open: tuple[Driver, Shares] | None = None
        self._opening = asyncio.Lock()

    def serves(self, asked: GpuTerms | None) -> bool:
        """Whether a job that asks for this runs on a GPU here; else it runs on the CPU."""
        return asked is not None and bool(self._settings.gpus)

    async def claim(self, holder: Holder, asked: GpuTerms) -> GivenGpu:
        """A GPU for one task of the holder, who then calls ``rest`` or ``release``. Waits until one is free.

        Raises NvmlFault when the driver, a device node or the memory asked for is not there.
        """
        driver, shares = await self._opened()
        gpu = await shares.claim(holder, asked.memory_mb << 20)
        try:
            return await asyncio.to_thread(given, driver, gpu, asked)
        except BaseException:
            shares.release(holder)
            raise

    async def claim_alone(self, asked: GpuTerms) -> GivenGpu:
        """A GPU where nobody else asks this pool for one: for a check, while no agent runs. Raises as ``claim``."""
        return await self.claim(_Alone(), asked)

    def resume(self, holder: Holder) -> bool:
        """Whether the holder's frozen worker still has its GPU; a task of it is at work from now on."""
        return self._open is not None and self._open[1].resume(holder)

    def rest(self, holder: Holder) -> None:
        """The holder's task is done; its frozen worker keeps the GPU until another experiment waits."""
        if self._open is not None:
            self._open[1].rest(holder)

    def release(self, holder: Holder) -> None:
        """The holder's worker is ended."""
        if self._open is not None:
            self._open[1].release(holder)

    async def _opened(self) -> tuple[Driver, Shares]:
        async with self._opening:
            if self._open is None:
                driver, gpus = await asyncio.to_thread(self._found)
                self._open = driver, Shares(gpus, driver.experiments(self._settings))
        return self._open

    def _found(self) -> tuple[Driver, list[Gpu]]:
        driver = Driver.load(self._settings)
        found = {gpu.uuid: gpu for gpu in (find(name, driver.nvml) for name in self._settings.gpus)}
        # One GPU may be named twice, by its index and by its UUID.
        return driver, list(found.values())


class _Alone:
    """A holder that nobody waits for."""

    def let_go(self) -> Awaitable[None]:
        raise AssertionError("only its own pool could ask, and nobody else claims there")


def given(driver: Driver, gpu: Gpu, asked: GpuTerms) -> GivenGpu:
    """A GPU for a worker that starts now. Raises NvmlFault."""
    used = driver.nvml.memory(gpu.uuid).used
    watch = GpuWatch(driver.nvml, gpu, asked.memory_mb, driver.by_process, used)
    return GivenGpu(gpu, shown(driver.tree, gpu, driver.libraries), watch)
