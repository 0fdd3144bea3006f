"""What ``/proc`` says of the whole machine, as a worker sees it: constants, so that no figure of it moves.

The kernel keeps these files once for all sandboxes. One plan that starts processes or takes memory would change what
another one reads there. Whatever of ``/proc`` is not of a process is covered, also what later kernels add.
"""

from __future__ import annotations

import os
from pathlib import Path

from archipel.vocabulary import WorkerLimits

_PROC = Path("/proc")
_SHOWN = frozenset({"filesystems", "version"})
"""Constants of the running kernel."""

_SETTINGS = (
    "kernel/cap_last_cap",
    "kernel/ngroups_max",
    "kernel/osrelease",
    "kernel/overflowgid",
    "kernel/overflowuid",
    "kernel/pid_max",
    "vm/max_map_count",
    "vm/overcommit_memory",
)
"""Settings that only root changes, and that setpriv, bubblewrap, the C library or plans' libraries read."""


def covered_folders() -> list[str]:
    """Folders of ``/proc`` that are empty to a worker, except for ``figures`` in them."""
    return [str(path) for path in _of_the_machine() if path.is_dir()]


def figures(limits: WorkerLimits) -> dict[str, bytes]:
    """Files of ``/proc`` with the text that a worker reads there; empty where none is needed."""
    found = {str(path): b"" for path in _of_the_machine() if not path.is_dir()}
    for name in _SETTINGS:
        setting = _PROC / "sys" / name
        if setting.exists():
            found[str(setting)] = setting.read_bytes()
    for name, text in _made(limits).items():
        if str(_PROC / name) in found:
            found[str(_PROC / name)] = text.encode()
    return found


def _of_the_machine() -> list[Path]:
    names = (path for path in _PROC.iterdir() if not path.name.isdigit() and not path.is_symlink())
    return sorted(path for path in names if path.name not in _SHOWN)


def _made(limits: WorkerLimits) -> dict[str, str]:
    memory = limits.memory_mb << 10
    held = {"MemTotal": memory, "MemFree": memory, "MemAvailable": memory}
    nothing = ("Buffers", "Cached", "SwapCached", "Active", "Inactive", "SwapTotal", "SwapFree", "Shmem", "Slab")
    processors = ["cpu", *(f"cpu{number}" for number in range(os.cpu_count() or 1))]
    return {
        # The processor's clock moves in it, so that it is a copy from the worker's start.
        "cpuinfo": (_PROC / "cpuinfo").read_text(),
        "loadavg": "0.00 0.00 0.00 1/1 1\n",
        "meminfo": "".join(f"{name}: {size} kB\n" for name, size in {**held, **dict.fromkeys(nothing, 0)}.items()),
        "stat": "".join(f"{name} 0 0 0 0 0 0 0 0 0 0\n" for name in processors) + "btime 0\n",
        "uptime": "0.00 0.00\n",
    }
