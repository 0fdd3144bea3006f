"""Memory, processes, time and disk, used up by a plan that wants all of it; what it leaves behind."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from archipel.site.sandbox import Sandbox, WorkerTaskFailed, groups, tree
from archipel.vocabulary import ErrorCode
from worlds.sandbox import World, exists

pytestmark = pytest.mark.processes

FILL = {
    "anonymous": "import numpy as np; kept = [np.ones(8 << 20) for _ in range(40)]; import time; time.sleep(30)",
    "shared": """
        import mmap, time
        memory = mmap.mmap(-1, 1 << 30)
        for position in range(0, 1 << 30, 1 << 20):
            memory[position:position + (1 << 20)] = b"x" * (1 << 20)
        time.sleep(30)
        """,
    "several processes": """
        import os, time
        for _ in range(4):
            if os.fork() == 0:
                kept = b"x" * (100 << 20)
                time.sleep(30)
                os._exit(0)
        time.sleep(30)
        """,
    "a process whose first thread has ended": """
        import ctypes, os, threading, time
        kept = []
        def fill():
            time.sleep(0.001)
            kept.append(b"x" * (1 << 20))
            if len(kept) < 500:
                threading.Thread(target=fill).start()
            else:
                time.sleep(30)
        if os.fork() == 0:
            threading.Thread(target=fill).start()
            ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
        time.sleep(30)
        """,
    "files in memory": """
        import time
        kept = b"x" * (180 << 20)
        for folder in ("/tmp", "/dev/shm"):
            with open(folder + "/fill", "wb") as file:
                for _ in range(60):
                    file.write(bytes(1 << 20))
        time.sleep(30)
        """,
    "empty files": """
        import os, time
        for number in range(1_000_000):
            os.close(os.open(f"/tmp/{number:0200}", os.O_CREAT | os.O_WRONLY))
        time.sleep(30)
        """,
    "sockets": """
        import os, socket, time
        for _ in range(4):
            if os.fork() == 0:
                kept = [socket.socketpair() for _ in range(500)]
                for one in (end for pair in kept for end in pair):
                    one.setblocking(False)
                    try:
                        while True:
                            one.send(bytes(1 << 16))
                    except BlockingIOError:
                        pass
                time.sleep(30)
                os._exit(0)
        time.sleep(30)
        """,
}


@pytest.fixture(params=["kernel", "agent"])
def keeper(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who keeps the limits: control groups, or the agent alone."""
    if request.param == "agent":
        monkeypatch.setattr(groups, "make", lambda *_: None)
    return request.param


@pytest.mark.parametrize("how", FILL)
async def test_memory_is_bounded(world: World, keeper: str, how: str) -> None:
    worker = await Sandbox.start(world.limited(memory_mb=280, tmp_mb=64))
    assert ("control group" in worker.description) == bool(worker.group_folders)
    try:
        await worker.prepare()
        failed = await world.fails(worker, FILL[how])
    finally:
        await worker.kill()
    assert failed.failure.code is ErrorCode.LIMIT_MEMORY, failed.detail


async def test_a_fork_bomb_stays_small_and_ends_with_the_task(world: World, keeper: str) -> None:
    worker = await Sandbox.start(world.limited(wall_s=1.5))
    root = worker.pid
    try:
        await worker.prepare()
        bomb = """
        import os
        while True:
            try:
                os.fork()
            except OSError:
                pass
        """
        doing = asyncio.create_task(world.fails(worker, bomb))
        most = 0
        while not doing.done():
            most = max(most, len(tree.descendants(root)))
            await asyncio.sleep(0.1)
        assert (await doing).failure.code in (ErrorCode.LIMIT_TIME, ErrorCode.LIMIT_CPU)
        assert 5 < most <= 24 + 8
        assert not worker.alive
        assert not exists(root)
    finally:
        await worker.kill()


async def test_threads_count_as_processes(world: World) -> None:
    worker = await Sandbox.start(world.spec)
    try:
        await worker.prepare()
        said = await world.say(
            worker,
            """
            import threading, time
            said = 0
            go = threading.Event()
            try:
                for _ in range(1000):
                    threading.Thread(target=go.wait, daemon=True).start()
                    said += 1
            except RuntimeError:
                go.set()
            """,
        )
        assert said < 24
    finally:
        await worker.kill()


async def test_wall_time_is_bounded(world: World) -> None:
    worker = await Sandbox.start(world.limited(wall_s=0.3))
    await worker.prepare()
    failed = await world.fails(worker, "import time; time.sleep(60)")
    assert failed.failure.code is ErrorCode.LIMIT_TIME
    assert not worker.alive


@pytest.mark.parametrize(
    "how",
    [
        "while True: pass",
        "import os, time\nfor _ in range(2):\n    if os.fork() == 0:\n        while True: pass\ntime.sleep(60)",
    ],
)
async def test_processor_time_is_bounded(world: World, keeper: str, how: str) -> None:
    worker = await Sandbox.start(world.limited(cpu_s=0.4))
    await worker.prepare()
    failed = await world.fails(worker, how)
    assert failed.failure.code is ErrorCode.LIMIT_CPU


async def test_processor_time_of_earlier_tasks_does_not_count(world: World) -> None:
    worker = await Sandbox.start(world.limited(cpu_s=0.6))
    await worker.prepare()
    for _ in range(3):
        await world.run(worker, "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass")
    await worker.kill()


async def test_preparing_is_bounded_too(tmp_path: Path) -> None:
    world = World.make(tmp_path, prepare="import time; time.sleep(60)")
    worker = await Sandbox.start(replace(world.spec, prepare_wall_s=0.3))
    with pytest.raises(WorkerTaskFailed) as failed:
        await worker.prepare()
    assert failed.value.failure.code is ErrorCode.LIMIT_TIME


async def test_what_a_task_leaves_running_is_ended_and_the_worker_lives(world: World, keeper: str) -> None:
    worker = await Sandbox.start(world.spec)
    try:
        await worker.prepare()
        own = tree.descendants(worker.pid)
        await world.run(
            worker,
            """
            import os, time
            for _ in range(3):
                if os.fork() == 0:
                    os.setsid()
                    if os.fork() == 0:
                        while True: time.sleep(1)
                    os._exit(0)
            """,
        )
        assert [pid for pid in tree.descendants(worker.pid) if not tree.has_ended(pid)] == own
        await world.run(worker, "")
    finally:
        await worker.kill()


async def test_between_tasks_no_thread_runs(world: World) -> None:
    worker = await Sandbox.start(world.spec)
    try:
        await worker.prepare()
        await world.run(
            worker,
            """
            import threading
            plan.count = 0
            def burn():
                while True: plan.count += 1
            threading.Thread(target=burn, daemon=True).start()
            """,
        )
        # Each of its threads is stopped, and only its sandbox could let it go on.
        assert tree.is_frozen(worker.main)
        await world.run(worker, "")
    finally:
        await worker.kill()


async def test_a_result_that_the_agent_reads_is_not_written_any_more(world: World) -> None:
    worker = await Sandbox.start(world.spec)
    try:
        await worker.prepare()
        await world.run(
            worker,
            """
            import threading
            def scribble(array):
                while True: array += 1
            threading.Thread(target=scribble, args=(model["weight"],), daemon=True).start()
            model["weight"][:] = 1
            """,
        )
        with world.result.view():
            assert tree.is_frozen(worker.main)
    finally:
        await worker.kill()


async def test_what_a_plan_prints_is_kept_small_and_plain(world: World) -> None:
    worker = await Sandbox.start(replace(world.limited(wall_s=2), log_bytes=100_000))
    await worker.prepare()
    flood = """
        import os, time
        end = time.time() + 1
        while time.time() < end:
            os.write(1, b"\\x1b]0;title\\x07 flood\\n" * 4000)
        """
    await world.run(worker, flood)
    kept = [path for path in world.folder.iterdir() if path.suffix == ".log"]
    await worker.kill()
    assert 0 < sum(path.stat().st_size for path in kept) < 800_000
    assert b"\x1b" not in b"".join(path.read_bytes() for path in kept)


async def test_printing_to_a_full_pipe_does_not_stop_a_plan(world: World) -> None:
    worker = await Sandbox.start(world.spec)
    await worker.prepare()
    await world.run(worker, "for _ in range(40): print('x' * 10_000)")
    await worker.kill()
    assert (world.folder / "hostile.log").stat().st_size > 300_000


@pytest.mark.parametrize("how", ["os.kill(os.getpid(), 9)", "os._exit(0)", "ctypes.string_at(0)"])
async def test_a_worker_that_dies_by_itself_is_lost_and_may_be_tried_again(world: World, how: str) -> None:
    worker = await Sandbox.start(world.spec)
    await worker.prepare()
    failed = await world.fails(worker, f"import os, ctypes; {how}")
    assert (failed.failure.code, failed.failure.retry) == (ErrorCode.CRASHED, True)
    assert not worker.alive
    assert not list(world.folder.rglob("core*"))


async def test_a_child_that_holds_the_socket_does_not_keep_a_dead_worker_waiting(world: World) -> None:
    worker = await Sandbox.start(world.spec)
    await worker.prepare()
    hold = "import os, time\nif os.fork() == 0:\n    os.setsid(); time.sleep(60)\nos._exit(1)"
    failed = await world.fails(worker, hold)
    assert failed.failure.code is ErrorCode.CRASHED


async def test_a_worker_killed_while_it_waits_is_known_to_be_dead(world: World) -> None:
    worker = await Sandbox.start(world.spec)
    await worker.prepare()
    os.kill(worker.main, signal.SIGKILL)
    failed = await world.fails(worker, "")
    assert failed.failure.retry
    assert not worker.alive


async def test_nothing_is_left_after_the_end(world: World) -> None:
    before = set(world.folder.rglob("*"))
    worker = await Sandbox.start(world.spec)
    root = worker.pid
    await worker.prepare()
    started = await world.say(worker, "said = open('/data/rows.prepared', 'rb').read(8)")
    assert started == b"ARCHPRE2"
    made = list(worker.group_folders)
    await worker.kill()
    assert set(world.folder.rglob("*")) - before == {world.folder / "hostile.log"}
    assert not exists(root)
    assert not any(folder.exists() for folder in made)


async def test_a_cancelled_task_ends_the_worker_at_once(world: World) -> None:
    worker = await Sandbox.start(world.spec)
    await worker.prepare()
    doing = asyncio.create_task(world.run(worker, "import time; time.sleep(60)"))
    while tree.is_frozen(worker.main):  # noqa: ASYNC110 - the process sets no event here
        await asyncio.sleep(0.01)
    doing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doing
    assert not exists(worker.pid)
