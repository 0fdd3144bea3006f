"""How fast two plans in two sandboxes of one site tell each other something: the figures of docs/security.md.

Run by hand: ``python tests/site/sandbox/measure_channels.py``. One JSON line for each channel; ``bit_per_s`` is what
gets through after correction of the ``wrong`` bits (the capacity of a binary symmetric channel).
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parents[2]
SLOTS = 20

COMMON = """
import ctypes, glob, mmap, os, random, time
def bits(slot):
    return random.Random(slot).choices((0, 1), k=lanes)
def until(moment):
    time.sleep(max(0.0, moment - time.time()))
files = sorted(one for one in glob.glob(os.path.dirname(os.__file__) + "/**/*.py", recursive=True)
               if os.path.getsize(one) > 4096 and "archipel" not in one)[:lanes]
"""


@dataclass(frozen=True)
class Channel:
    """A sender and a receiver of ``lanes`` bits in each slot of ``slot_s`` seconds.

    Without ``slot_s`` the sender knows when a bit arrived; the receiver then says how many seconds all slots took.
    """

    lanes: int
    slot_s: float | None
    send: str
    receive: str


MAPPINGS = (
    """
opened = [open(one, "rb") for one in files]
held = [None] * lanes
for slot in range(slots):
    until(begin + slot * slot_s)
    for lane, bit in enumerate(bits(slot)):
        if bit and held[lane] is None:
            held[lane] = mmap.mmap(opened[lane].fileno(), 4096, access=mmap.ACCESS_COPY)
            held[lane][0]
        elif not bit and held[lane] is not None:
            held[lane].close()
            held[lane] = None
""",
    """
opened = [open(one, "rb") for one in files]
held = [mmap.mmap(one.fileno(), 4096, access=mmap.ACCESS_COPY) for one in opened]
places = [ctypes.addressof(ctypes.c_char.from_buffer(one)) // 4096 * 8 for one in held]
touched = [one[0] for one in held]
table = os.open("/proc/self/pagemap", os.O_RDONLY)
wrong = 0
for slot in range(slots):
    until(begin + (slot + 0.6) * slot_s)
    alone = [os.pread(table, 8, place)[7] & 1 for place in places]
    wrong += sum(bit == one for bit, one in zip(bits(slot), alone))
said = wrong / (slots * lanes)
""",
)
LOAD = (
    """
children = os.cpu_count()
for child in range(children):
    if os.fork() == 0:
        for slot in range(slots):
            until(begin + slot * slot_s)
            while bits(slot)[0] and time.time() < begin + (slot + 1) * slot_s:
                pass
        os._exit(0)
for child in range(children):
    os.wait()
""",
    """
found = []
for slot in range(slots):
    until(begin + (slot + 0.1) * slot_s)
    first = time.process_time()
    while time.time() < begin + (slot + 0.9) * slot_s:
        pass
    found.append(time.process_time() - first)
middle = sorted(found)[slots // 2]
said = sum((one < middle) != bits(slot)[0] for slot, one in enumerate(found)) / slots
""",
)
FUTEX = """
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
page = libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, os.open(files[0], os.O_RDONLY), 0)
held = ctypes.string_at(page, 256)
WAIT, WAKE = 0, 1
number = 202 if os.uname().machine == "x86_64" else 98
half_a_second = (ctypes.c_long * 2)(0, 500_000_000)
turns = 4
def futex(lane, operation, value):
    place = ctypes.c_void_p(page + 16 * lane)
    return libc.syscall(number, place, operation, ctypes.c_int(value), ctypes.byref(half_a_second), None, 0)
message = [bit for slot in range(slots) for bit in bits(slot)]
"""
WAKING = (
    f"""{FUTEX}
until(begin)
for turn, bit in enumerate(message):
    while futex(2 * (turn % turns) + bit, WAKE, 1) != 1 and time.time() < begin + 60:
        pass
""",
    f"""{FUTEX}
import threading
found, times = [[] for turn in range(turns)], []
def wait_for(lane):
    value = int.from_bytes(held[16 * lane : 16 * lane + 4], "little", signed=True)
    while len(times) < len(message) and time.time() < begin + 60:
        if futex(lane, WAIT, value) == 0:
            found[lane // 2].append(lane % 2)
            times.append(time.time())
threads = [threading.Thread(target=wait_for, args=(lane,)) for lane in range(2 * turns)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
wrong = len(message) - sum(bit == one for turn in range(turns) for bit, one in zip(message[turn::turns], found[turn]))
said = wrong / len(message), times[-1] - times[0]
""",
)
CHANNELS = {
    "waking a process by a futex on a page of a shared file": Channel(100, None, *WAKING),
    "who maps a page of a shared file": Channel(256, 0.5, *MAPPINGS),
    "load of the processors": Channel(1, 0.5, *LOAD),
}


def capacity(wrong: float) -> float:
    """What a bit carries when this part of the bits is wrong."""
    if not 0 < wrong < 1:
        return 1.0
    return 1 + wrong * math.log2(wrong) + (1 - wrong) * math.log2(1 - wrong)


async def measured(folder: Path, channel: Channel) -> dict[str, float]:
    """Start a sandbox for each end and let the two work at the same time."""
    from archipel.site.sandbox import Sandbox
    from worlds.sandbox import World

    worlds = []
    for end in ("sender", "receiver"):
        (folder / end).mkdir()
        worlds.append(World.make(folder / end))
    workers = [await Sandbox.start(world.spec) for world in worlds]
    try:
        for worker in workers:
            await worker.prepare()
        head = COMMON.replace("import ctypes", f"lanes = {channel.lanes}\nimport ctypes", 1)
        head += f"begin, slots, slot_s = {time.time() + 1.0}, {SLOTS}, {channel.slot_s}\n"
        _, said = await asyncio.gather(
            worlds[0].run(workers[0], head + channel.send), worlds[1].say(workers[1], head + channel.receive)
        )
    finally:
        for worker in workers:
            await worker.kill()
    wrong, seconds = said if channel.slot_s is None else (said, SLOTS * channel.slot_s)
    return {"wrong": round(wrong, 4), "bit_per_s": round(channel.lanes * SLOTS / seconds * capacity(wrong), 1)}


def main() -> None:
    """Measure each channel."""
    sys.path.insert(0, str(TESTS))
    for name, channel in CHANNELS.items():
        with tempfile.TemporaryDirectory() as place:
            Path(place).chmod(0o755)
            print(json.dumps({"channel": name, **asyncio.run(measured(Path(place), channel))}), flush=True)


if __name__ == "__main__":
    main()
