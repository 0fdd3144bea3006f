"""The watcher that cuts revoked certificates: an error costs it one look, not its life."""

from __future__ import annotations

import asyncio

import pytest

from archipel.server import process
from archipel.vocabulary import StorageFull


class Bell:
    def __init__(self) -> None:
        self.rung: asyncio.Queue[None] = asyncio.Queue()

    async def wait(self) -> None:
        await self.rung.get()


class Wire:
    """Fails at its first look."""

    def __init__(self) -> None:
        self.looks: list[str] = []
        self.looked: asyncio.Queue[str] = asyncio.Queue()

    async def cut_revoked(self) -> None:
        self.looks.append("look")
        if len(self.looks) == 1:
            raise StorageFull("disk", "the disk is full", "free space there")
        self.looked.put_nowait("cut")


async def test_an_error_in_one_look_is_logged_and_the_next_look_cuts() -> None:
    bell, wire = Bell(), Wire()
    watching = asyncio.create_task(process._watch(bell, wire.cut_revoked, 0.0))  # type: ignore[arg-type]
    for looks in (2, 3):
        bell.rung.put_nowait(None)
        await asyncio.wait_for(wire.looked.get(), 10)
        assert len(wire.looks) == looks
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
