"""The link to the server: one heartbeat whatever the server says, and none that floods or falls silent."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from pydantic import ValidationError

from archipel.governance import JournalHead, sign_head
from archipel.site.agent import connection as of_link
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


class Uplink:
    """A server that welcomes three times and then says nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.said: list[Any] = []
        self.left = 3

    async def __aenter__(self) -> Uplink:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing to close."""

    def control(self) -> Uplink:
        return self

    async def send(self, message: Any) -> None:
        self.said.append(message)

    async def receive(self) -> Any:
        if self.left:
            self.left -= 1
            return Welcome.model_validate({**WELCOME, "heartbeat_s": 10})
        await asyncio.Event().wait()

    def cancel(self) -> None:
        """Nothing to cancel."""


async def test_a_server_that_welcomes_again_gets_one_heartbeat(
    hospital: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    uplinks: list[Uplink] = []

    def dialled(*_: Any, **__: Any) -> Uplink:
        uplinks.append(Uplink())
        return uplinks[-1]

    monkeypatch.setattr(of_link, "Uplink", dialled)
    known = sign_head(SERVER, JournalHead(owner="server", number=7, hash="sha256:" + "1" * 64, at=""))
    journal_heads.record_seen(hospital, known.model_dump(mode="json"), None)
    link, welcomes, beating = ServerConnection(hospital), asyncio.Queue[None](), set()

    async def beat(_: float) -> None:
        beating.add(asyncio.current_task())
        try:
            await asyncio.Event().wait()
        finally:
            beating.discard(asyncio.current_task())

    async def take(_: Any) -> None:
        await asyncio.sleep(0)
        welcomes.put_nowait(None)

    monkeypatch.setattr(link, "_beat", beat)
    running = asyncio.create_task(link.run(take, tuple))
    for _ in range(3):
        await asyncio.wait_for(welcomes.get(), 20)
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(beating) == 1
    assert uplinks[0].said[0].attested == known.model_dump(mode="json")
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    for _ in range(5):
        await asyncio.sleep(0)
    assert not beating
