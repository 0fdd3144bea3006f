"""The processes below one, found, frozen and ended; whatever a plan starts stays below its sandbox's first process.

Processes are stopped before they are killed, so that a process which forks without end cannot escape. SIGSTOP
cannot be caught. A process lives as long as one of its threads does: its first thread may have ended, and the kernel
then says "zombie" of the process and shows no memory of it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

_PASSES = 200
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)
_CHILDREN_ARE_LISTED = Path("/proc/thread-self/children").exists()


def descendants(root: int) -> list[int]:
    """``root`` and every process below it, parents first."""
    children = _children_listed if _CHILDREN_ARE_LISTED else _ChildrenByParent()
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop(0)
        found.append(pid)
        waiting += children(pid)
    return found


def state_of(pid: int) -> str:
    """The kernel's letter for what the process does: R, S, D, T, Z ...; X when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except _GONE:
        return "X"


def has_ended(pid: int) -> bool:
    """Whether no thread of the process runs any code again: but for its first, ended threads are not listed."""
    threads = _threads(pid)
    return not threads or (threads == [str(pid)] and _thread_state(pid, str(pid)) in "ZX")


def living_thread(pid: int) -> Path:
    """The kernel's folder of a thread that has not ended. Raises FileNotFoundError when none was found."""
    for thread in _threads(pid):
        if _thread_state(pid, thread) not in "ZX":
            return Path(f"/proc/{pid}/task/{thread}")
    raise FileNotFoundError(pid)


def is_frozen(pid: int) -> bool:
    """Whether every thread of the process is stopped, dead or gone."""
    return all(_thread_state(pid, thread) in "TtZX" for thread in _threads(pid))


def signal_all(pids: Iterable[int], which: signal.Signals) -> None:
    """Send a signal to each that still lives."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, which)


def kill_tree(root: int, others: Iterable[int] = ()) -> None:
    """SIGKILL for ``root``, everything below it and ``others``, all stopped first so that none forks meanwhile."""
    stopped: set[int] = set()
    for _ in range(_PASSES):
        new = {*descendants(root), *others} - stopped
        if not new:
            break
        signal_all(new, signal.SIGSTOP)
        stopped |= new
    signal_all(stopped, signal.SIGKILL)


def kill_group(leader: int) -> None:
    """SIGKILL for what is left of the process group that ``leader`` began; call it when ``leader`` has just ended.

    While one process of the group lives, the kernel gives the group's number to no other.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def living_below(root: int, spared: frozenset[int]) -> list[int]:
    """The processes below ``root`` beside the spared ones that have not ended."""
    return [pid for pid in descendants(root) if pid not in spared and not has_ended(pid)]


def _threads(pid: int) -> list[str]:
    try:
        return sorted((thread.name for thread in Path(f"/proc/{pid}/task").iterdir()), key=int)
    except _GONE:
        return []


def _thread_state(pid: int, thread: str) -> str:
    try:
        return Path(f"/proc/{pid}/task/{thread}/stat").read_text().rpartition(")")[2].split()[0]
    except _GONE:
        return "X"


def _children_listed(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(*_GONE):
                found += map(int, (thread / "children").read_text().split())
    except _GONE:
        return found
    return found


class _ChildrenByParent:
    """The same from every process's parent, for kernels built without CONFIG_PROC_CHILDREN."""

    def __init__(self) -> None:
        self._below: dict[int, list[int]] = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(*_GONE):
                    fields = (folder / "stat").read_text().rpartition(")")[2].split()
                    self._below.setdefault(int(fields[1]), []).append(int(folder.name))

    def __call__(self, pid: int) -> list[int]:
        return self._below.get(pid, [])
