"""Blocking work for a caller that waits: it shows its progress, and cancelling the caller stops the work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from archipel.vocabulary import Cancellation, ShowProgress, Watch, show_nothing

Result = TypeVar("Result")


async def run_in_thread(work: Callable[[Watch], Result], show: ShowProgress = show_nothing) -> Result:
    """What blocking work gives, run in a thread.

    When the caller is cancelled, the work is asked to stop and its end is awaited, so that nothing of it continues
    after the caller returned.
    """
    cancellation = Cancellation()
    doing = asyncio.ensure_future(asyncio.to_thread(work, Watch(show, cancellation)))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        cancellation.cancel()
        while not doing.done():
            try:
                await asyncio.wait({doing})
            except asyncio.CancelledError:
                # Cancelled once more: the work is stopping already.
                continue
        _ = doing.cancelled() or doing.exception()
        raise
