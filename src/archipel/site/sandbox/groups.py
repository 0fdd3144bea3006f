"""Control groups: the kernel's own limits of memory and processes for a whole sandbox, where the agent may make one.

Version 1: a folder in the memory, pids and cpuacct hierarchies, for an agent that runs as root. Version 2: a folder
beside the agent's own group when that place is the agent's to write and passes the controllers on (systemd's
``Delegate=``). (Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.)
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_MOUNTS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_NUMBER = itertools.count()
_PREFIX = "archipel-"
_OVERHEAD_PROCESSES = 8
"""Bubblewrap's two processes and those that start the worker."""


@dataclass(frozen=True)
class ControlGroup:
    """One sandbox's group: its folder in each hierarchy, by controller. The same folder for all in version 2."""

    folders: dict[str, Path]
    version: int

    @property
    def keeps_memory(self) -> bool:
        """Whether the kernel keeps the sandbox's memory limit."""
        return "memory" in self.folders

    def add(self, pids: Iterable[int]) -> None:
        """Put processes in; what they start from now on is in it as well."""
        for folder in set(self.folders.values()):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    (folder / "cgroup.procs").write_text(str(pid))

    def processes(self) -> set[int]:
        """Every process in the group, in whatever session."""
        folder = next(iter(self.folders.values()))
        with contextlib.suppress(OSError):
            return {int(line) for line in (folder / "cgroup.procs").read_text().split()}
        return set()

    def cpu_s(self) -> float | None:
        """Seconds of processor time of all that ever was in the group; None where the kernel does not count them."""
        if self.version == 1:
            if "cpuacct" not in self.folders:
                return None
            return int((self.folders["cpuacct"] / "cpuacct.usage").read_text()) / 1e9
        counts = _pairs(self.folders["memory"] / "cpu.stat")
        return counts["usage_usec"] / 1e6 if "usage_usec" in counts else None

    def oom_kills(self) -> int:
        """How often the kernel ended a process of the group for its memory."""
        if "memory" not in self.folders:
            return 0
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        return _pairs(self.folders["memory"] / name).get("oom_kill", 0)

    def close(self) -> bool:
        """Remove the folders; False when the kernel still holds one, which the next sweep then removes."""
        for folder in set(self.folders.values()):
            with contextlib.suppress(OSError):
                folder.rmdir()
        return not any(folder.exists() for folder in self.folders.values())


def make(memory: int, processes: int, mounts: Path = _MOUNTS, own: Path = _OWN) -> ControlGroup | None:
    """A new group limited to ``memory`` bytes and ``processes`` processes and threads; None where none can be had."""
    places, version = _places(mounts, own)
    name = f"{_PREFIX}{os.getpid()}-{next(_NUMBER)}"
    folders: dict[str, Path] = {}
    for controller, place in places.items():
        _sweep(place)
        try:
            (place / name).mkdir(exist_ok=version == 2)
            _limit(place / name, controller, version, memory, processes + _OVERHEAD_PROCESSES)
        except OSError:
            with contextlib.suppress(OSError):
                (place / name).rmdir()
            continue
        folders[controller] = place / name
    if version == 2 and "memory" not in folders:
        return None
    return ControlGroup(folders, version) if folders else None


def _places(mounts: Path, own: Path) -> tuple[dict[str, Path], int]:
    """Where groups can be made, by controller, and the version."""
    first: dict[str, Path] = {}
    second: dict[str, Path] = {}
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return {}, 1
    for line in lines:
        _, names, path = line.split(":", 2)
        if names:
            for name in {"memory", "pids", "cpuacct"} & set(names.split(",")):
                mount = mounts / name
                inside = mount / path.lstrip("/")
                place = inside if inside.is_dir() else mount
                if place.is_dir() and os.access(place, os.W_OK):
                    first[name] = place
            continue
        root = mounts if (mounts / "cgroup.controllers").exists() else mounts / "unified"
        place = (root / path.lstrip("/")).parent if path != "/" else root
        passes = root / "cgroup.controllers"
        with contextlib.suppress(OSError):
            passes = place / "cgroup.subtree_control"
            controllers = set(passes.read_text().split())
            if "memory" in controllers and os.access(place, os.W_OK) and os.access(place / "cgroup.procs", os.W_OK):
                second = {name: place for name in ("memory", "pids") if name in controllers}
    return (second, 2) if second else (first, 1)


def _limit(folder: Path, controller: str, version: int, memory: int, processes: int) -> None:
    if controller == "pids":
        (folder / "pids.max").write_text(str(processes))
    elif controller == "memory" and version == 1:
        (folder / "memory.limit_in_bytes").write_text(str(memory))
        with contextlib.suppress(OSError):
            # Absent without swap accounting.
            (folder / "memory.memsw.limit_in_bytes").write_text(str(memory))
    elif controller == "memory":
        (folder / "memory.max").write_text(str(memory))
        with contextlib.suppress(OSError):
            (folder / "memory.swap.max").write_text("0")


def _sweep(place: Path) -> None:
    """Remove the empty groups of agents that were killed."""
    for folder in place.glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            with contextlib.suppress(OSError):
                folder.rmdir()


def _pairs(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text().split("\n")
    except OSError:
        return {}
    pairs = (line.split() for line in lines if line.count(" ") == 1)
    return {name: int(value) for name, value in pairs if value.isdigit()}
