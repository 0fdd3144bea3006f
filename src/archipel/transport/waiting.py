"""Ways of waiting: for the other side with a timeout, and for work begun here always to its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import TypeVar

from archipel.vocabulary import ArchipelError, ErrorCode
from archipel.vocabulary.remedies import Nothing

T = TypeVar("T")


async def with_timeout(seconds: float, what: Awaitable[T]) -> T:
    """The other side's message. Raises ArchipelError (code lost) when none comes for that long."""
    try:
        async with asyncio.timeout(seconds):
            return await what
    except TimeoutError as error:
        raise ArchipelError(
            "connection",
            f"sent nothing for {seconds:.0f} s",
            "it is tried again",
            code=ErrorCode.LOST,
            values={"seconds": seconds},
            command=Nothing(),
        ) from error


async def shielded(work: asyncio.Future[T]) -> T:
    """The result of work that must not be left alone, such as a thread that writes to a file which closes after it.

    Being cancelled, however often, does not end the waiting; it is raised when the work is done.
    """
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        # The result is read, so that asyncio does not report an error that was never retrieved.
        _ = work.cancelled() or work.exception()
        raise cancelled
    return work.result()


async def in_thread(pool: Executor, work: Callable[[], T], stop: Callable[[], None]) -> T:
    """The result of work in a thread. When this is cancelled, ``stop`` makes the thread end, which is waited for."""
    job = pool.submit(work)
    working = asyncio.wrap_future(job)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        if not job.cancel():
            stop()
            # Its error is that it was stopped, or one that the next try meets again.
            with contextlib.suppress(Exception):
                await shielded(working)
        raise
