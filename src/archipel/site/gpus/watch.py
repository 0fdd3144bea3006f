"""How much of a GPU's memory a worker holds, and whether it still computes, as NVML says.

NVML names processes by the pids of the machine. In a container, or another pid namespace, those are not the pids that
the agent sees: then what the whole GPU holds is compared with what it held before the worker started.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from archipel.site.gpus.devices import Gpu
from archipel.site.gpus.nvml import Nvml

_FIRST_PID_NAMESPACE = 0xEFFFFFFC
"""PROC_PID_INIT_INO of Linux: the namespace in which pids are those of the machine."""


def pids_are_the_machines(proc: Path = Path("/proc")) -> bool:
    """Whether this process sees the pids that the driver counts."""
    try:
        return (proc / "self/ns/pid").stat().st_ino == _FIRST_PID_NAMESPACE
    except OSError:
        return False


@dataclass(frozen=True)
class GpuWatch:
    """Watches one worker's use of a GPU; every call asks the driver and may block for some milliseconds.

    ``memory_mb`` is the most it may hold, in 2**20 bytes; ``used_before`` how many bytes the whole GPU held before it
    started; ``by_process`` whether pids are those of the machine.
    """

    nvml: Nvml
    gpu: Gpu
    memory_mb: int
    by_process: bool
    used_before: int

    @property
    def in_words(self) -> str:
        """What bounds its memory, for the journal."""
        if self.gpu.slice is not None:
            return f"at most {self.gpu.memory >> 20} MiB by its MIG slice, {self.memory_mb} MiB watched by the agent"
        how = "by process" if self.by_process else "as the growth of all that the GPU holds"
        return f"at most {self.memory_mb} MiB of its memory, watched by the agent {how}"

    def excess(self, pids: Set[int]) -> str | None:
        """How the worker with these processes holds more than it may; None while it does not. Raises NvmlFault."""
        used = self._held_by(pids) if self.by_process else None
        how = "of the GPU's memory"
        if used is None:
            used = self.nvml.memory(self.gpu.uuid).used - self.used_before
            how = "more of the GPU's memory than before it started, counted for the whole GPU"
        return f"{used >> 20} MiB {how}" if used > self.memory_mb << 20 else None

    def is_busy(self, pids: Set[int], since_us: int) -> bool:
        """Whether the GPU computed for these processes after a moment (microseconds since 1970).

        False where the driver does not say, as for a MIG slice. Raises NvmlFault.
        """
        busy = self.nvml.busy_pids(self.gpu.uuid, since_us) if self.by_process else None
        if busy is not None:
            return not busy.isdisjoint(pids)
        return bool(self.nvml.is_busy(self.gpu.uuid))

    def _held_by(self, pids: Set[int]) -> int | None:
        """Bytes that these processes hold; None where the driver does not say it of each."""
        held = [one.memory for one in self.nvml.processes(self.gpu.uuid) if one.pid in pids]
        return None if None in held else sum(one for one in held if one is not None)
