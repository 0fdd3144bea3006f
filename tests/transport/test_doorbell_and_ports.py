"""The wake-up wakes whoever listens, wherever the folder lies; a port that is taken is named."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from archipel.transport.service import check_port
from archipel.transport.wakeup import Wakeup, wake
from archipel.vocabulary import ArchipelError, ErrorCode


@pytest.fixture(params=["short", "a-folder-whose-name-makes-the-path-too-long-for-a-socket" * 4], ids=["short", "long"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    found = tmp_path / str(request.param)
    found.mkdir()
    return found


async def test_a_ring_wakes_the_listener_once(folder: Path) -> None:
    bell = Wakeup(folder)
    try:
        assert wake(folder)
        await asyncio.wait_for(bell.wait(), 10)
        waiting = asyncio.ensure_future(bell.wait())
        await asyncio.sleep(0.02)
        assert not waiting.done()
        assert wake(folder)
        await asyncio.wait_for(waiting, 10)
    finally:
        bell.close()


async def test_a_burst_of_rings_never_blocks_and_is_one(folder: Path) -> None:
    bell = Wakeup(folder)
    try:
        assert all(wake(folder) for _ in range(2000))
        await asyncio.wait_for(bell.wait(), 10)
        waiting = asyncio.ensure_future(bell.wait())
        await asyncio.sleep(0.02)
        assert not waiting.done()
        waiting.cancel()
    finally:
        bell.close()


def test_nobody_listening_is_no_error(folder: Path) -> None:
    assert not wake(folder)


async def test_a_listener_that_crashed_is_nobody_and_the_next_one_takes_its_place(folder: Path) -> None:
    dead = Wakeup(folder)
    dead._socket.close()
    assert (folder / "doorbell").exists() and not wake(folder)
    bell = Wakeup(folder)
    assert wake(folder)
    await asyncio.wait_for(bell.wait(), 10)
    bell.close()
    assert not (folder / "doorbell").exists() and not wake(folder)


async def test_only_the_owner_may_ring(folder: Path) -> None:
    bell = Wakeup(folder)
    assert (folder / "doorbell").stat().st_mode & 0o777 == 0o600
    bell.close()


def test_a_taken_port_is_named_and_a_free_one_is_left_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ArchipelError) as caught:
            check_port("127.0.0.1", port)
        assert caught.value.code is ErrorCode.PORT_IN_USE
        assert str(port) in caught.value.thing and "server.toml" in caught.value.remedy
    check_port("127.0.0.1", port)
    socket.create_server(("127.0.0.1", port)).close()
