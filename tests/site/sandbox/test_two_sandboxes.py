"""Two plans at one site that want to tell each other something: what one does is nothing that the other can read."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import pytest_asyncio

from archipel.site.sandbox import Sandbox
from worlds.sandbox import World

pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]

SHARED = "import ctypes, fcntl, os, signal, time\nlibc = ctypes.CDLL(None, use_errno=True)\nfile = os.__file__\n"

SENDER = """
page = open(file, "rb")
def attempt(what, *values):
    try:
        return what(*values)
    except OSError:
        pass
end = time.monotonic() + 2.5
while time.monotonic() < end:
    attempt(fcntl.flock, page, fcntl.LOCK_EX)
    attempt(os.posix_fadvise, page.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    child = os.fork()
    if child == 0:
        time.sleep(0.05)
        os._exit(0)
    taken = b"x" * (60 << 20)
    open(file, "rb").read(1)
    os.waitpid(child, 0)
    del taken
    os.write(1, b"y" * 65536)
    attempt(fcntl.flock, page, fcntl.LOCK_UN)
    time.sleep(0.05)
"""

READINGS = {
    "a lock": "fcntl.flock(page, fcntl.LOCK_EX | fcntl.LOCK_NB) or fcntl.flock(page, fcntl.LOCK_UN)",
    "a note about a folder": "(fcntl.fcntl(folder, fcntl.F_NOTIFY, fcntl.DN_ACCESS), len(heard))",
    "inotify": "watched()",
    "pages in memory": "os.preadv(page.fileno(), [bytearray(1)], 4096, os.RWF_NOWAIT)",
    "processes in sysinfo": "counted()",
    "processes in loadavg": "open('/proc/loadavg').read()",
    "processes by a pidfd": "numbered()",
    "memory of the machine": "open('/proc/meminfo').read()",
    "work of the processors": "open('/proc/stat').read()",
    "idle time": "open('/proc/uptime').read()",
    "events of the kernel": "open('/proc/vmstat').read()",
    "interrupts": "open('/proc/interrupts').read() + open('/proc/softirqs').read()",
    "pressure": "open('/proc/pressure/cpu').read()",
    "open files": "open('/proc/sys/fs/file-nr').read() + open('/proc/sys/fs/inode-nr').read()",
    "room on the disk": "os.statvfs('/usr')",
}

READER = """
heard = []
signal.signal(signal.SIGIO, lambda *_: heard.append(1))
page, folder = open(file, "rb"), os.open(os.path.dirname(file), os.O_RDONLY)
notes = libc.inotify_init1(os.O_NONBLOCK)
libc.inotify_add_watch(notes, file.encode(), 0xFFF)
def watched():
    try:
        return os.read(notes, 4096)
    except BlockingIOError:
        return b""
def counted():
    about = ctypes.create_string_buffer(512)
    back = libc.sysinfo(about)
    return back, about.raw[:96]
def numbered():
    child = os.fork()
    if child == 0:
        os._exit(0)
    back = libc.syscall(434, child, 0)
    os.waitpid(child, 0)
    return back if back < 0 else os.fstat(back).st_ino
said = {name: set() for name in readings}
end = time.monotonic() + 1.8
while time.monotonic() < end:
    for name, reading in readings.items():
        try:
            said[name].add(repr(eval(reading)))
        except OSError as error:
            said[name].add(repr(error.errno))
    time.sleep(0.03)
said = {name: sorted(found)[:3] for name, found in said.items()}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def readings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What one plan read while the other did all it could, by channel: every value that there was, up to three."""
    return await exchanged(tmp_path_factory.mktemp("sender"), tmp_path_factory.mktemp("reader"))


async def exchanged(first: Path, second: Path) -> dict[str, list[str]]:
    worlds = [World.make(first), World.make(second)]
    workers = [await Sandbox.start(world.limited(memory_mb=600)) for world in worlds]
    try:
        for worker in workers:
            await worker.prepare()
        _, said = await asyncio.gather(
            worlds[0].run(workers[0], SHARED + SENDER),
            worlds[1].say(workers[1], SHARED + f"readings = {READINGS!r}\n" + READER),
        )
    finally:
        for worker in workers:
            await worker.kill()
    return said


@pytest.mark.parametrize("channel", READINGS)
async def test_nothing_that_a_plan_reads_moves_with_what_another_does(
    readings: dict[str, list[str]], channel: str
) -> None:
    assert len(readings[channel]) == 1, readings[channel]
