"""NVML by its C library, ``libnvidia-ml.so.1``, which comes with the driver.

Source: NVIDIA, NVML API Reference Guide, and the layouts of ``nvml.h``. Only calls are used whose name and layout the
driver keeps for later versions. NVIDIA's own Python package has the same calls, but opens the library by its name
alone, so that the folder which a site's owner names would not count.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

from archipel.site.gpus.nvml import Card, GpuMemory, GpuProcess, NvmlFault, Slice

LIBRARY = "libnvidia-ml.so.1"
_NOT_SUPPORTED, _NO_PERMISSION, _NOT_FOUND, _TOO_SMALL = 3, 4, 6, 7
_UNKNOWN = 2**64 - 1
_TRIES = 5


class _PciInfo(ctypes.Structure):
    _fields_ = [
        ("legacy", ctypes.c_char * 16),
        *((name, ctypes.c_uint) for name in ("domain", "bus", "device", "id", "subsystem")),
        ("bus_id", ctypes.c_char * 32),
    ]


class _Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


class _Process(ctypes.Structure):
    _fields_ = [
        ("pid", ctypes.c_uint),
        ("memory", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    ]


class _Sample(ctypes.Structure):
    _fields_ = [
        ("pid", ctypes.c_uint),
        ("time_us", ctypes.c_ulonglong),
        *((name, ctypes.c_uint) for name in ("sm", "memory", "encoder", "decoder")),
    ]


class _Utilisation(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class NvmlLibrary:
    """NVML, loaded from ``place``: a file, or a name that the system's loader finds. Raises NvmlFault."""

    def __init__(self, place: Path | str = LIBRARY) -> None:
        try:
            self._library = ctypes.CDLL(str(place))
        except OSError as error:
            raise NvmlFault(
                str(place), f"cannot be loaded ({error})", "install the NVIDIA driver with its libraries, or name "
                "their folder as gpu_libraries in site.toml",
            ) from error  # fmt: skip
        self._call("nvmlInit_v2")

    def cards(self) -> list[Card]:
        """Every card, by index."""
        count = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        return [self._card(self._by_index(index), index) for index in range(count.value)]

    def slice_of(self, uuid: str) -> Slice:
        """A MIG slice. Raises NvmlFault for what is not one."""
        slice_, card = self._by_uuid(uuid), ctypes.c_void_p()
        self._call("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", slice_, ctypes.byref(card))
        index = self._number("nvmlDeviceGetIndex", card)
        return self._slice(slice_, self._card(card, index))

    def slices_of(self, card: Card) -> list[Slice]:
        """Every MIG slice of the card."""
        whole, most = self._by_uuid(card.uuid), ctypes.c_uint()
        if self._status("nvmlDeviceGetMaxMigDeviceCount", whole, ctypes.byref(most)):
            return []
        return [self._slice(handle, card) for handle in self._slice_handles(whole, most.value)]

    def memory(self, uuid: str) -> GpuMemory:
        """Total and used bytes."""
        found = self._memory(self._by_uuid(uuid))
        return GpuMemory(found.total, found.used)

    def processes(self, uuid: str) -> list[GpuProcess]:
        """The processes with memory of the card or slice."""
        handle, count = self._by_uuid(uuid), ctypes.c_uint(0)
        name = "nvmlDeviceGetComputeRunningProcesses_v3"
        status = self._status(name, handle, ctypes.byref(count), None)
        for _ in range(_TRIES):
            if status != _TOO_SMALL:
                break
            # Some more: others may start between the two calls.
            count.value = 2 * count.value + 8
            found = (_Process * count.value)()
            status = self._status(name, handle, ctypes.byref(count), found)
            if not status:
                return [
                    GpuProcess(one.pid, None if one.memory == _UNKNOWN else one.memory) for one in found[: count.value]
                ]
        self._check(name, status)
        return []

    def busy_pids(self, uuid: str, since_us: int) -> frozenset[int] | None:
        """Processes with a sample of work after the moment."""
        handle, count, since = self._by_uuid(uuid), ctypes.c_uint(0), ctypes.c_ulonglong(since_us)
        name = "nvmlDeviceGetProcessUtilization"
        status = self._status(name, handle, None, ctypes.byref(count), since)
        if status in {_NOT_SUPPORTED, _NO_PERMISSION}:
            return None
        if status == _NOT_FOUND or (not status and not count.value):
            return frozenset()
        if status != _TOO_SMALL:
            self._check(name, status)
        found = (_Sample * (count.value + 8))()
        count.value += 8
        status = self._status(name, handle, found, ctypes.byref(count), since)
        if status == _NOT_FOUND:
            return frozenset()
        self._check(name, status)
        return frozenset(one.pid for one in found[: count.value] if one.sm and one.time_us > since_us)

    def is_busy(self, uuid: str) -> bool | None:
        """Whether the last sample shows work; a slice has no such figure."""
        found = _Utilisation()
        status = self._status("nvmlDeviceGetUtilizationRates", self._by_uuid(uuid), ctypes.byref(found))
        if status in {_NOT_SUPPORTED, _NO_PERMISSION}:
            return None
        self._check("nvmlDeviceGetUtilizationRates", status)
        return bool(found.gpu)

    def _card(self, handle: ctypes.c_void_p, index: int) -> Card:
        pci = _PciInfo()
        self._call("nvmlDeviceGetPciInfo_v3", handle, ctypes.byref(pci))
        return Card(
            index=index,
            uuid=self._text("nvmlDeviceGetUUID", handle),
            name=self._text("nvmlDeviceGetName", handle),
            minor=self._number("nvmlDeviceGetMinorNumber", handle),
            bus=linux_address(pci.bus_id.decode()),
            memory=self._memory(handle).total,
        )

    def _slice(self, handle: ctypes.c_void_p, card: Card) -> Slice:
        return Slice(
            uuid=self._text("nvmlDeviceGetUUID", handle),
            card=card,
            gpu_instance=self._number("nvmlDeviceGetGpuInstanceId", handle),
            compute_instance=self._number("nvmlDeviceGetComputeInstanceId", handle),
            memory=self._memory(handle).total,
        )

    def _slice_handles(self, card: ctypes.c_void_p, most: int) -> Iterator[ctypes.c_void_p]:
        for number in range(most):
            handle = ctypes.c_void_p()
            name = "nvmlDeviceGetMigDeviceHandleByIndex"
            status = self._status(name, card, ctypes.c_uint(number), ctypes.byref(handle))
            if status not in {_NOT_FOUND, _NOT_SUPPORTED}:
                self._check(name, status)
                yield handle

    def _memory(self, handle: ctypes.c_void_p) -> _Memory:
        found = _Memory()
        self._call("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(found))
        return found

    def _by_index(self, index: int) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
        return handle

    def _by_uuid(self, uuid: str) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        status = self._status("nvmlDeviceGetHandleByUUID", uuid.encode(), ctypes.byref(handle))
        if status:
            cause = "is not on this machine" if status == _NOT_FOUND else f"cannot be reached ({self._words(status)})"
            remedy = "`nvidia-smi -L` shows the GPUs of this machine; archipel site gpu add names one"
            raise NvmlFault(f"GPU {uuid}", cause, remedy)
        return handle

    def _number(self, name: str, handle: ctypes.c_void_p) -> int:
        found = ctypes.c_uint()
        self._call(name, handle, ctypes.byref(found))
        return found.value

    def _text(self, name: str, handle: ctypes.c_void_p) -> str:
        found = ctypes.create_string_buffer(96)
        self._call(name, handle, found, ctypes.c_uint(len(found)))
        return found.value.decode(errors="replace")

    def _call(self, name: str, *arguments: object) -> None:
        self._check(name, self._status(name, *arguments))

    def _status(self, name: str, *arguments: object) -> int:
        try:
            call = getattr(self._library, name)
        except AttributeError as error:
            remedy = "install a driver of version 515 or later"
            raise NvmlFault("the NVIDIA driver", f"does not have {name}", remedy) from error
        return int(call(*arguments))

    def _check(self, name: str, status: int) -> None:
        if status:
            cause = f"answered {name} with an error ({self._words(status)})"
            raise NvmlFault("the NVIDIA driver", cause, "run `nvidia-smi` by hand, which says more")

    def _words(self, status: int) -> str:
        call = self._library.nvmlErrorString
        call.restype = ctypes.c_char_p
        said = call(ctypes.c_uint(status))
        return said.decode(errors="replace") if said else f"status {status}"


def linux_address(bus: str) -> str:
    """A PCI address of NVML as Linux writes it, with a domain of four digits.

    >>> linux_address("00000000:3B:00.0")
    '0000:3b:00.0'
    """
    domain, _, rest = bus.lower().partition(":")
    return f"{int(domain, 16):04x}:{rest}"
