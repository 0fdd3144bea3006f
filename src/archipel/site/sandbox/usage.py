"""What a sandbox uses, measured from outside: processes, processor time and memory of everything below bubblewrap.

Orphans are adopted, and counted when they have ended, by the sandbox's own process 1. Processor time of children that
their parent chose not to wait for is lost to this count; a control group, where there is one, keeps it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from archipel.site.sandbox.tree import descendants, has_ended, living_thread

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_FILE = 1300
"""Bytes of the kernel for a file in memory and its name, measured with a million of them on Linux 6."""
_TRIES = 100
"""How often a process is asked for its memory whose threads end while it is asked."""
T = TypeVar("T")
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError, ValueError, IndexError)


@dataclass(frozen=True)
class Usage:
    """What a sandbox uses at one moment: live processes, seconds of processor time so far, bytes of memory now."""

    processes: tuple[int, ...]
    cpu_s: float
    memory: int


def measure(root: int) -> Usage:
    """Everything at and below process ``root``. A process that ends meanwhile does not count."""
    pids = descendants(root)
    cpu, memory = 0.0, 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            cpu += sum(int(value) for value in fields[11:15]) / _TICKS
            if fields[0] == "Z":
                # Of a process whose first thread has ended the kernel shows memory at its other threads only.
                fields = _shown_by_a_thread(pid, _stat).rpartition(")")[2].split()
            memory += int(fields[21]) * _PAGE
        except _GONE:
            continue
    return Usage(tuple(pids), cpu, memory)


def _stat(thread: Path) -> str:
    return (thread / "stat").read_text()


def _room(folder: str) -> Callable[[Path], os.statvfs_result]:
    return lambda thread: os.statvfs(f"{thread}/root{folder}")


def _shown_by_a_thread(pid: int, read: Callable[[Path], T]) -> T:
    """What a living thread of the process shows. Raises OSError when the process has ended."""
    for _ in range(_TRIES):
        try:
            return read(living_thread(pid))
        except (FileNotFoundError, ProcessLookupError):
            if has_ended(pid):
                raise
    return read(living_thread(pid))


def scratch_memory(pid: int, folders: tuple[str, ...]) -> int:
    """Bytes that files in these folders, as process ``pid`` sees them, hold in memory."""
    total = 0
    for folder in folders:
        try:
            about = _shown_by_a_thread(pid, _room(folder))
        except _GONE:
            continue
        total += (about.f_blocks - about.f_bfree) * about.f_frsize
    return total


def kernel_memory(pid: int, folders: tuple[str, ...]) -> int:
    """Bytes that the kernel may keep for the sandbox of process ``pid`` beside its pages: for files and for sockets.

    Of files in memory their number is known, of sockets' buffers only how many sockets there are in the sandbox's own
    network; each is taken to be full, as far as the filter of system calls lets a plan fill it.
    """
    total = 0
    for folder in folders:
        try:
            about = _shown_by_a_thread(pid, _room(folder))
        except _GONE:
            continue
        total += (about.f_files - about.f_ffree) * _FILE
    try:
        words = _shown_by_a_thread(pid, lambda thread: (thread / "net/sockstat").read_text()).split()
        return total + int(words[words.index("used") + 1]) * _socket_buffer()
    except _GONE:
        return total


_DRIVERS_MEMORY = "/dev/nvidiactl"
"""Memory of the machine that the NVIDIA driver took for a process is mapped by this node; a card's by its own node."""


def pinned_memory(pids: Collection[int], proc: Path = Path("/proc")) -> int:
    """Bytes of the machine's memory that the NVIDIA driver holds for these processes, for fast copies to a GPU.

    The kernel counts these pages neither as a process's nor, with every driver, as its control group's.
    """
    total = 0
    for pid in pids:
        try:
            lines = (proc / str(pid) / "maps").read_text(errors="replace").splitlines()
        except _GONE:
            continue
        for line in lines:
            if line.endswith(f" {_DRIVERS_MEMORY}"):
                first, _, last = line.partition(" ")[0].partition("-")
                total += int(last, 16) - int(first, 16)
    return total


@cache
def _socket_buffer() -> int:
    """Bytes that may wait in a socket whose buffer cannot be enlarged; the kernel counts what it keeps beside them."""
    return int(Path("/proc/sys/net/core/wmem_default").read_text())


def proportional_memory(pids: tuple[int, ...], scratch: int) -> int:
    """Bytes with shared pages counted once (PSS); slower than ``measure``, for when that counts too much.

    Pages of files on disk are not counted: the kernel takes them back when it needs them, so that a plan may map more
    data than it may have memory.
    ``scratch`` bytes of files in memory are counted once as well: those that are mapped are in the PSS already.
    """
    private, shared = 0, 0
    for pid in pids:
        try:
            lines = _shown_by_a_thread(pid, lambda thread: (thread / "smaps_rollup").read_text()).splitlines()
        except _GONE:
            continue
        sizes = {name: int(rest.split()[0]) << 10 for name, _, rest in (line.partition(":") for line in lines[1:])}
        in_memory_files = sizes.get("Pss_Shmem", 0)
        private += sizes.get("Pss", 0) - in_memory_files - sizes.get("Pss_File", 0)
        shared += in_memory_files
    return private + max(shared, scratch)
