"""What a sandbox uses, measured from outside: processes, processor time and memory of everything below bubblewrap.

Whatever a plan starts stays a descendant: the sandbox's own process 1 adopts orphans, and its count of reaped children
keeps the processor time of those that have ended.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """A look at a sandbox: live processes, seconds of processor time so far, bytes of memory now."""

    processes: tuple[int, ...]
    cpu_s: float
    memory: int


def measure(root: int) -> Usage:
    """Everything at and below process ``root``. A process that ends meanwhile counts no more."""
    pids = descendants(root)
    cpu, memory = 0.0, 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            cpu += sum(int(value) for value in fields[11:15]) / _TICKS
            memory += int(fields[21]) * _PAGE
        except (FileNotFoundError, ProcessLookupError, ValueError):
            continue
    return Usage(tuple(pids), cpu, memory)


def descendants(root: int) -> list[int]:
    """``root`` and every process below it."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        try:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                children = (thread / "children").read_text()
                waiting += [int(child) for child in children.split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def proportional_memory(pids: tuple[int, ...]) -> int:
    """Bytes with shared pages counted once (PSS); slower than ``measure``, for when that says too much."""
    total = 0
    for pid in pids:
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) << 10
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return total
