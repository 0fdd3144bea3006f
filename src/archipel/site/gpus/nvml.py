"""What is asked of NVML, the NVIDIA Management Library: cards and slices, their memory, and who uses them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from archipel.vocabulary import ArchipelError, ErrorCode


@dataclass(frozen=True)
class Card:
    """One GPU. ``minor`` is the number of its device node, which need not be its ``index``; ``bus`` its address as
    Linux writes it (``0000:3b:00.0``), ``memory`` its size in bytes.
    """

    index: int
    uuid: str
    name: str
    minor: int
    bus: str
    memory: int


@dataclass(frozen=True)
class Slice:
    """A MIG slice of a card: its GPU instance, its compute instance there, and its memory in bytes."""

    uuid: str
    card: Card
    gpu_instance: int
    compute_instance: int
    memory: int


class GpuMemory(NamedTuple):
    """Bytes of one GPU or slice."""

    total: int
    used: int


class GpuProcess(NamedTuple):
    """A process that computes on a GPU; ``memory`` in bytes, None where the driver does not say."""

    pid: int
    memory: int | None


class NvmlFault(ArchipelError):
    """The driver cannot be asked, or answers with an error."""

    code = ErrorCode.GPU


class Nvml(Protocol):
    """The part of NVML that a site uses. ``uuid`` is that of a card or of a slice. Each call raises NvmlFault."""

    def cards(self) -> list[Card]:
        """Every card of the machine, by index."""

    def slice_of(self, uuid: str) -> Slice:
        """A MIG slice."""

    def slices_of(self, card: Card) -> list[Slice]:
        """Every slice of a card; none where it is not divided."""

    def memory(self, uuid: str) -> GpuMemory:
        """Its memory now."""

    def processes(self, uuid: str) -> list[GpuProcess]:
        """The processes that have memory of it, with pids as the driver counts them."""

    def busy_pids(self, uuid: str, since_us: int) -> frozenset[int] | None:
        """Processes that computed on it after a moment (microseconds since 1970); None where it does not say."""

    def is_busy(self, uuid: str) -> bool | None:
        """Whether anything computed on it within the last second; None where it does not say."""
