"""One experiment's turns on the site's GPUs: a GPU for each task, given up between tasks when another one waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from archipel.site.gpus import GivenGpu, GpuPool
from archipel.vocabulary import Job

_log = structlog.get_logger("archipel.training")


class GpuTurns:
    """The turns of one job. ``give_up`` detaches its frozen worker at once; what it returns ends when the worker has.

    On the CPU there are no turns: nothing is claimed, and a frozen worker may always continue.
    """

    def __init__(self, gpus: GpuPool, job: Job, give_up: Callable[[], Awaitable[None]]) -> None:
        self._gpus, self._job, self._give_up = gpus, job, give_up

    async def claim(self) -> GivenGpu | None:
        """The GPU for the next task, when it is this experiment's turn; None for the CPU. Raises NvmlFault."""
        asked = self._job.gpu
        return await self._gpus.claim(self, asked) if asked is not None and self._gpus.serves(asked) else None

    def resume(self) -> bool:
        """Whether the frozen worker may continue: unless another experiment got its GPU."""
        return not self._gpus.serves(self._job.gpu) or self._gpus.resume(self)

    def rest(self) -> None:
        """The task is done."""
        self._gpus.rest(self)

    def release(self) -> None:
        """The worker is ended."""
        self._gpus.release(self)

    def let_go(self) -> Awaitable[None]:
        """Give up the frozen worker and the GPU's memory that it keeps."""
        _log.info("the frozen worker is ended: another experiment waits for its GPU", experiment=self._job.experiment)
        return self._give_up()
