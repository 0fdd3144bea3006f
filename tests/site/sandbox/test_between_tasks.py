"""A plan that wants to run between its tasks: it wakes its frozen worker, or hides a process from the agent."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from archipel.site.sandbox import Sandbox, groups, seccomp, tree
from archipel.site.sandbox.dialogue import Dialogue, Gone
from worlds.sandbox import World

pytestmark = pytest.mark.processes

CALLS = """
import ctypes, fcntl, os, signal, time
libc = ctypes.CDLL(None, use_errno=True)
x86 = os.uname().machine == "x86_64"
"""
WAKE = {
    "a timer": """
        event = (ctypes.c_int * 16)(0, 0, signal.SIGCONT, 0)
        timer, each = ctypes.c_int(), (ctypes.c_long * 4)(0, 200_000_000, 0, 200_000_000)
        libc.syscall(222 if x86 else 107, 1, ctypes.byref(event), ctypes.byref(timer))
        libc.syscall(223 if x86 else 110, timer, 0, each, None)
        """,
    "the end of a child": """
        if libc.syscall(56 if x86 else 220, int(signal.SIGCONT), 0, 0, 0, 0) == 0:
            time.sleep(60)
            os._exit(0)
        """,
    "the end of the last process that joins two groups": """
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        group, (heard, told) = os.getpgid(0), os.pipe()
        if os.fork() == 0:
            os.setpgid(0, 0)
            if os.fork() == 0:
                os.setpgid(0, group)
                os.write(told, b"x")
            time.sleep(60)
            os._exit(0)
        os.read(heard, 1)
        """,
    "the end of a terminal": """
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.setsid()
        try:
            typed, screen = os.openpty()
        except OSError:
            pass
        else:
            os.close(os.open(os.ttyname(screen), os.O_RDWR))
            if os.fork() == 0:
                time.sleep(60)
            os.close(typed)
        """,
    "output that the agent reads": """
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        F_SETSIG, O_ASYNC = 10, 0o20000
        fcntl.fcntl(1, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | O_ASYNC)
        os.set_blocking(1, False)
        libc.fcntl(1, F_SETSIG, int(signal.SIGCONT))
        try:
            while True:
                os.write(1, bytes(4096))
        except BlockingIOError:
            pass
        """,
}
LETS_ALL_PASS = struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000)


def woken(way: str) -> str:
    body = WAKE[way].strip("\n")
    return CALLS + "\n".join(line[8:] for line in body.splitlines())


async def after(world: World, way: str) -> tuple[str, bool]:
    """What a worker's first thread did in the two seconds after a task with this attack; whether it lives then."""
    worker = await Sandbox.start(world.spec)
    try:
        await worker.prepare()
        await world.run(worker, woken(way))
        until, states = time.monotonic() + 2.2, ""
        while time.monotonic() < until:
            states += tree.state_of(worker.main)
            await asyncio.sleep(0.02)
        if worker.alive:
            await world.run(worker, "")
        return states, worker.alive
    finally:
        await worker.kill()


async def all_ways(folder: Path) -> dict[str, tuple[str, bool]]:
    made = await asyncio.gather(*(after(world, way) for world, way in zip(worlds_in(folder), WAKE, strict=True)))
    return dict(zip(WAKE, made, strict=True))


def worlds_in(folder: Path) -> list[World]:
    folders = [folder / str(number) for number in range(len(WAKE))]
    for one in folders:
        one.mkdir()
    return [World.make(one) for one in folders]


async def test_no_signal_wakes_a_frozen_worker(tmp_path: Path) -> None:
    for way, (states, alive) in (await all_ways(tmp_path)).items():
        assert (set(states), alive) == ({"T"}, True), way


async def test_a_worker_that_wakes_where_no_filter_stops_it_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seccomp, "program_here", lambda: LETS_ALL_PASS)
    ways = await all_ways(tmp_path)
    for way, (states, alive) in ways.items():
        # Stopped again where it was woken once; ended where it goes on.
        assert states[-1] == ("T" if alive else "X"), way
    states, alive = ways["a timer"]
    assert set(states) - set("TX") and not alive


async def test_a_worker_that_is_woken_before_it_has_stopped_is_stopped_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, send, sent = await Sandbox.start(world.spec), tree.signal_all, 0

    def and_wakes(pids: Iterable[int], which: signal.Signals) -> None:
        nonlocal sent
        send(pids, which)
        if which is signal.SIGSTOP and sent == 0:
            sent = 1
            send(pids, signal.SIGCONT)

    try:
        await worker.prepare()
        monkeypatch.setattr(tree, "signal_all", and_wakes)
        await world.run(worker, "")
        assert sent and worker.alive and tree.state_of(worker.main) == "T"
    finally:
        await worker.kill()


async def test_whoever_waits_for_a_worker_that_is_ended_is_told() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        dialogue = Dialogue(ours)
        hearing = asyncio.create_task(dialogue.hear())
        await asyncio.sleep(0.01)
        await dialogue.close()
        with pytest.raises(Gone):
            await asyncio.wait_for(hearing, 5)


HIDDEN = """
import ctypes, os, threading, time
def beat():
    with open("/tmp/beat", "ab") as file:
        file.write(b"x")
    time.sleep(pause)
    threading.Thread(target=beat).start()
if os.fork() == 0:
    threading.Thread(target=beat).start()
    ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
time.sleep(0.3)
"""


ENDED = """
import os, time
child, until = 0, time.monotonic() + 3
while child == 0 and time.monotonic() < until:
    # Says nothing of a process as long as any of its threads lives.
    child, status = os.waitpid(-1, os.WNOHANG)
    time.sleep(0.01)
said = os.path.getsize("/tmp/beat"), os.WTERMSIG(status) if child else None
"""


@pytest.mark.parametrize("pause", [0.01, 0.0])
@pytest.mark.parametrize("keeper", ["kernel", "agent"])
async def test_a_process_whose_first_thread_has_ended_does_not_outlive_the_task(
    world: World, monkeypatch: pytest.MonkeyPatch, keeper: str, pause: float
) -> None:
    if keeper == "agent":
        monkeypatch.setattr(groups, "make", lambda *_: None)
    worker = await Sandbox.start(world.spec)
    try:
        await worker.prepare()
        await world.run(worker, f"pause = {pause}\n{HIDDEN}")
        beats, signalled = await world.say(worker, ENDED)
        assert beats > 0 and signalled == signal.SIGKILL
    finally:
        await worker.kill()


async def test_all_of_the_sandbox_is_frozen_its_process_1_too(world: World) -> None:
    worker = await Sandbox.start(world.spec)
    try:
        for work in (worker.prepare(), world.run(worker, "")):
            await work
            inside = tree.descendants(worker.pid)[1:]
            assert len(inside) >= 2
            assert {tree.state_of(pid) for pid in inside} == {"T"}
    finally:
        await worker.kill()


def fill(path: Path, megabytes: int) -> None:
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(bytes(1 << 20))


@pytest.mark.skipif(os.getuid() != 0, reason="only root reaches a sandbox's temporary folder from outside")
async def test_memory_is_watched_between_tasks_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "make", lambda *_: None)
    worker = await Sandbox.start(world.limited(memory_mb=280, tmp_mb=260))
    try:
        await worker.prepare()
        fill(Path(f"/proc/{worker.main}/root/tmp/fill"), 250)
        until = time.monotonic() + 60
        while worker.alive and time.monotonic() < until:  # noqa: ASYNC110 - the worker's end sets no event
            await asyncio.sleep(0.05)
        assert not worker.alive
        assert "memory between tasks" in (await world.fails(worker, "")).detail
    finally:
        await worker.kill()
