"""The link to the server: one heartbeat whatever the server says, and none that floods or falls silent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from archipel.governance import JournalHead, sign_head
from archipel.site.agent.connection import ServerConnection
from archipel.site.audit import journal_heads
from archipel.site.state.folder import StateFolder
from archipel.transport import Welcome
from worlds.site import SERVER

WELCOME = {"federation": "North", "time": ""}


@pytest.mark.parametrize("seconds", [0, -1.0, 0.09, 3601, 1e300, float("inf"), float("nan")])
def test_a_heartbeat_that_floods_or_never_comes_is_no_welcome(seconds: float) -> None:
    with pytest.raises(ValidationError):
        Welcome.model_validate({**WELCOME, "heartbeat_s": seconds})


class Clock:
    """Sleeps that never end by themselves; ``sleeping`` are the seconds of those that go on."""

    def __init__(self) -> None:
        # The tasks are held, so that one that was forgotten is not collected but found.
        self._tasks: dict[asyncio.Task[Any], float] = {}
        self._changed = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        mine = asyncio.current_task()
        assert mine is not None
        self._tasks[mine] = seconds
        self._changed.set()
        try:
            await asyncio.Event().wait()
        finally:
            del self._tasks[mine]
            self._changed.set()

    @property
    def sleeping(self) -> list[float]:
        return list(self._tasks.values())

    async def until(self, true: Callable[[list[float]], bool]) -> None:
        async with asyncio.timeout(20):
            while not true(self.sleeping):
                self._changed.clear()
                await self._changed.wait()


class Uplink:
    """A server that welcomes three times, each time when the heart beats as it asked before, and then says nothing."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.said: list[Any] = []
        self.asked = 10.0

    async def __aenter__(self) -> Uplink:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing to close."""

    def control(self) -> Uplink:
        return self

    async def send(self, message: Any) -> None:
        self.said.append(message)

    async def receive(self) -> Any:
        if self.asked > 10:
            await self.clock.until(lambda sleeping: self.asked in sleeping)
        if self.asked == 13:
            await asyncio.Event().wait()
        self.asked += 1
        return Welcome.model_validate({**WELCOME, "heartbeat_s": self.asked})

    def cancel(self) -> None:
        """Nothing to cancel."""


async def test_a_server_that_welcomes_again_gets_one_heartbeat(hospital: StateFolder) -> None:
    clock = Clock()
    uplink = Uplink(clock)
    known = sign_head(SERVER, JournalHead(owner="server", number=7, hash="sha256:" + "1" * 64, at=""))
    journal_heads.record_seen(hospital, known.model_dump(mode="json"), None)
    link = ServerConnection(hospital, dial=lambda *_, **__: uplink, sleep=clock.sleep)

    async def take(_: Any) -> None:
        """Nothing to do."""

    running = asyncio.create_task(link.run(take, tuple))
    # The hearts that were to stop were stopped before this one was started.
    await clock.until(lambda sleeping: 13 in sleeping)
    assert clock.sleeping == [13]
    assert uplink.said[0].attested == known.model_dump(mode="json")
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await clock.until(lambda sleeping: not sleeping)
