"""Who has which share of which GPU: as many experiments at a time as the owner said, one task at a time for each.

An experiment keeps its share between tasks, because its frozen worker keeps the GPU's memory. When another one waits,
the worker that was frozen first is ended and the share changes hands. The one that has waited longest comes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from archipel.site.gpus.devices import Gpu
from archipel.site.gpus.nvml import NvmlFault


class Holder(Protocol):
    """What computes on a share: the trainer of one experiment."""

    def let_go(self) -> Awaitable[None]:
        """Give the frozen worker up at once; what is returned ends when the worker has. Called between tasks only."""


@dataclass
class Share:
    """One share of a GPU; ``memory`` in bytes is the most that an experiment there may ask for.

    ``ending``: the worker of the holder before is not quite gone.
    """

    gpu: Gpu
    memory: int
    holder: Holder | None = None
    at_work: bool = False
    frozen_since: int = 0
    ending: asyncio.Future[None] | None = None


@dataclass
class _Waiting:
    holder: Holder
    memory: int
    given: asyncio.Future[Share]


class Shares:
    """The shares of a site's GPUs, for one event loop."""

    def __init__(self, gpus: Sequence[Gpu], experiments: int) -> None:
        self._shares = [Share(gpu, gpu.memory // experiments) for gpu in gpus for _ in range(experiments)]
        self._waiting: list[_Waiting] = []
        self._turns = count(1)

    async def claim(self, holder: Holder, memory: int) -> Gpu:
        """A share for a task of this holder, with ``memory`` bytes; waits until there is one.

        Raises NvmlFault when no GPU has so much, not even an unused one.
        """
        fitting = [share for share in self._shares if share.memory >= memory]
        if not fitting:
            most = max((share.memory for share in self._shares), default=0)
            raise NvmlFault(
                "this site's GPUs", f"have {most >> 20} MiB for one experiment, and the job asks for {memory >> 20}",
                "ask the researcher for a job that needs less, or name a larger GPU",
            )  # fmt: skip
        share = self._held_by(holder)
        if share is not None:
            share.at_work = True
        else:
            share = _first_without_work(fitting)
            if share is not None:
                self._hand_over(share, holder)
            else:
                share = await self._waited(holder, memory)
        try:
            if share.ending is not None:
                # Its memory is free only when it has ended; it ends also when this task is cancelled.
                await asyncio.shield(share.ending)
        except BaseException:
            self.release(holder)
            raise
        finally:
            # An end that failed is told to the one who waited for it, and to nobody after.
            if share.ending is not None and share.ending.done():
                share.ending = None
        return share.gpu

    def resume(self, holder: Holder) -> bool:
        """Whether the holder still has its share; a task of it is at work from now on."""
        share = self._held_by(holder)
        if share is not None:
            share.at_work = True
        return share is not None

    def rest(self, holder: Holder) -> None:
        """The holder's task is done; it keeps its share unless another one waits for it."""
        share = self._held_by(holder)
        if share is not None:
            share.at_work, share.frozen_since = False, next(self._turns)
            self._offer(share)

    def release(self, holder: Holder) -> None:
        """The holder's worker is ended; its share is free."""
        share = self._held_by(holder)
        if share is not None:
            share.holder, share.at_work = None, False
            self._offer(share)

    def _held_by(self, holder: Holder) -> Share | None:
        return next((share for share in self._shares if share.holder is holder), None)

    async def _waited(self, holder: Holder, memory: int) -> Share:
        waiting = _Waiting(holder, memory, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            return await waiting.given
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            # It may have been given at the same moment.
            self.release(holder)
            raise

    def _hand_over(self, share: Share, holder: Holder) -> None:
        before, share.holder, share.at_work = share.holder, holder, True
        if before is not None:
            share.ending = asyncio.ensure_future(before.let_go())

    def _offer(self, share: Share) -> None:
        """Give a share where no task is at work to the one that has waited longest for one like it."""
        waiting = next((one for one in self._waiting if one.memory <= share.memory and not one.given.done()), None)
        if waiting is not None:
            self._waiting.remove(waiting)
            self._hand_over(share, waiting.holder)
            waiting.given.set_result(share)


def _first_without_work(shares: Iterable[Share]) -> Share | None:
    """A share that nobody has, else the one whose worker was frozen first."""
    idle = [share for share in shares if not share.at_work]
    return min(idle, key=lambda share: (share.holder is not None, share.frozen_since), default=None)
