"""A wake-up reaches everybody who listens, wherever the folder is; a port that is taken is named."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
import time
from pathlib import Path

import pytest

from archipel.lab.ports import free_port
from archipel.transport.listening import listen
from archipel.transport.wakeup import FOLDER, Wakeup, wake
from archipel.transport.wakeup import _address as socket_address
from archipel.vocabulary import ArchipelError, ErrorCode


@pytest.fixture(params=["short", "a-folder-whose-name-makes-the-path-too-long-for-a-socket" * 4], ids=["short", "long"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    found = tmp_path / str(request.param)
    found.mkdir()
    return found


async def test_a_wakeup_reaches_the_listener_once(folder: Path) -> None:
    bell = Wakeup(folder)
    try:
        assert wake(folder)
        await asyncio.wait_for(bell.wait(), 10)
        # A wake-up lies in the socket's queue as soon as it is sent: nobody need wait to know that there is none.
        assert not await bell.wait(0)
        waiting = asyncio.ensure_future(bell.wait())
        await asyncio.sleep(0)
        assert wake(folder)
        await asyncio.wait_for(waiting, 10)
    finally:
        bell.close()


async def test_a_burst_of_wakeups_never_blocks_and_is_one(folder: Path) -> None:
    bell = Wakeup(folder)
    try:
        assert all(wake(folder) for _ in range(2000))
        await asyncio.wait_for(bell.wait(), 10)
        assert not await bell.wait(0)
        assert wake(folder) and await bell.wait(0)
    finally:
        bell.close()


def test_nobody_listening_is_no_error(folder: Path) -> None:
    assert not wake(folder)


async def test_a_second_listener_takes_nothing_from_the_first(folder: Path) -> None:
    serving = Wakeup(folder)
    follower = Wakeup(folder, follower=True)
    try:
        assert wake(folder)
        assert await serving.wait(10) and await follower.wait(10)
        follower.close()
        assert wake(folder)
        assert await serving.wait(10)
    finally:
        serving.close()


async def test_a_follower_is_woken_and_is_not_the_process_that_serves(folder: Path) -> None:
    follower = Wakeup(folder, follower=True)
    try:
        assert not wake(folder)
        assert await follower.wait(10)
    finally:
        follower.close()


async def test_without_a_wakeup_the_wait_ends_and_says_so(folder: Path) -> None:
    bell = Wakeup(folder)
    try:
        assert not await bell.wait(0.01)
        assert wake(folder)
        assert await bell.wait(10)
    finally:
        bell.close()


async def test_what_a_listener_that_crashed_left_is_removed_and_the_next_one_is_woken(folder: Path) -> None:
    dead = Wakeup(folder)
    dead._socket.close()
    assert dead._path.exists() and not wake(folder)
    assert not dead._path.exists()
    bell = Wakeup(folder)
    assert wake(folder)
    await asyncio.wait_for(bell.wait(), 10)
    bell.close()
    assert not list((folder / FOLDER).iterdir()) and not wake(folder)


def test_a_socket_that_is_being_made_is_left_alone_and_one_left_by_a_kill_goes(folder: Path) -> None:
    place = folder / FOLDER
    place.mkdir()
    new, old = place / ".process.new", place / ".process.old"
    new.touch()
    old.touch()
    os.utime(old, (time.time() - 3600,) * 2)
    assert not wake(folder) and new.exists()
    Wakeup(folder).close()
    assert new.exists() and not old.exists()


async def test_only_the_owner_may_wake(folder: Path) -> None:
    bell = Wakeup(folder)
    assert bell._path.stat().st_mode & 0o777 == 0o600
    assert (folder / FOLDER).stat().st_mode & 0o777 == 0o700
    bell.close()


def put_hostile(place: Path) -> list[socket.socket]:
    """What others may have left among the listeners, and sockets that keep them alive."""
    (place / "process.folder").mkdir()
    (place / "process.file").write_text("text")
    os.mkfifo(place / "process.pipe")
    (place / "process.loop").symlink_to(place / "process.loop")
    (place / "process.nowhere").symlink_to(place / "nothing")
    (place / ("process." + "x" * 200)).write_text("a name that no socket can have")
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with socket_address(place / "process.stream") as address:
        stream.bind(address)
    stream.listen()
    return [stream]


async def test_what_cannot_be_woken_disturbs_neither_a_commit_nor_the_other_listeners(folder: Path) -> None:
    bell = Wakeup(folder)
    place = folder / FOLDER
    others = put_hostile(place)
    before = {path.name for path in place.iterdir()}
    try:
        assert wake(folder)
        assert await bell.wait(10)
        assert {path.name for path in place.iterdir()} == before, "what is not a listener's is left alone"
        bell.close()
        assert not wake(folder), "none of the others serves this folder"
    finally:
        bell.close()
        for one in others:
            one.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root follows a folder of another account")
async def test_a_follower_of_root_breaks_nothing_for_the_account_of_the_agent() -> None:
    nobody = 65534
    # Not below pytest's folder, which lets no other account through.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chown(folder, nobody, nobody)
        follower = Wakeup(folder, follower=True)
        try:
            os.setegid(nobody)
            os.seteuid(nobody)
            try:
                assert not wake(folder)
                serving = Wakeup(folder)
                assert wake(folder) and await serving.wait(10)
                serving.close()
            finally:
                os.seteuid(0)
                os.setegid(0)
            assert not wake(folder) and await follower.wait(10)
        finally:
            follower.close()


def test_a_taken_port_is_named() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(ArchipelError) as caught:
            listen("127.0.0.1", port, "grpc_port")
        assert caught.value.code is ErrorCode.PORT_IN_USE
        assert str(port) in caught.value.thing and "server.toml" in caught.value.remedy
    listen("127.0.0.1", port, "grpc_port").close()
