"""The files by which the NVIDIA driver shows itself: device nodes, ``/proc/driver/nvidia``, ``/sys``, libraries.

All are read below ``root``; what they are called inside a sandbox are the paths without it.
"""

from __future__ import annotations

import os
import platform
import re
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from archipel.site.gpus.devices import Gpu
from archipel.site.gpus.nvml import NvmlFault

_PROC = "/proc/driver/nvidia"
_LIBRARY = re.compile(r"lib(cuda|nvidia-(ml|ptxjitcompiler|nvvm[0-9]*|gpucomp))\.so(\.[0-9.]+)?")
_NEEDED = "libcuda.so.1"
_CARDS = frozenset({"nvidia", "nvidiactl", "nvidia-frontend"})
"""Names of the number of cards and of their control node, by version of the driver."""
_CONTROL_MINOR = 255
_MACHINES = {"x86_64": "x86-64", "aarch64": "AArch64"}
"""How ldconfig writes this machine's architecture."""


def device_numbers(node: Path) -> tuple[int, int] | None:
    """Major and minor number of a character device; None for another kind of file."""
    status = node.stat()
    return (os.major(status.st_rdev), os.minor(status.st_rdev)) if stat.S_ISCHR(status.st_mode) else None


@dataclass(frozen=True)
class DriverTree:
    """A machine's driver; ``root`` is another folder, and ``numbers`` something else, only in tests."""

    root: Path = Path("/")
    numbers: Callable[[Path], tuple[int, int] | None] = device_numbers

    def place(self, path: str) -> Path:
        """Where a path of the machine lies below the root."""
        return self.root / path.lstrip("/")

    def nodes(self, gpu: Gpu) -> list[str]:
        """The device nodes by which a process reaches this GPU and no other one.

        Not those of other cards, of displays (modeset, dri) and of other slices. Raises NvmlFault when one that CUDA
        needs is not there, and for one that is another device by its numbers, as a node may be that a container or an
        earlier start of the machine left.
        """
        card, memory = gpu.card.minor, frozenset({"nvidia-uvm"})
        nodes = {"/dev/nvidiactl": (_CARDS, _CONTROL_MINOR), "/dev/nvidia-uvm": (memory, 0)}
        nodes[f"/dev/nvidia{card}"] = _CARDS, card
        for minor in map(self._minor_of, self._accesses(gpu)):
            nodes[f"/dev/nvidia-caps/nvidia-cap{minor}"] = frozenset({"nvidia-caps"}), minor
        tools = "/dev/nvidia-uvm-tools"
        if self.place(tools).exists():
            nodes[tools] = memory, 1
        for node, (names, minor) in nodes.items():
            self._check_node(node, names, minor)
        return list(nodes)

    def figures(self, gpu: Gpu) -> dict[str, bytes]:
        """Files of ``/proc`` with the text that a worker reads there: of the driver and of this GPU alone.

        The driver's library makes and changes device nodes unless ``params`` says that it shall not; it looks up the
        nodes' numbers in ``devices``.
        """
        params = self._text(f"{_PROC}/params").decode(errors="replace")
        kept = [line for line in params.splitlines() if not line.startswith("ModifyDeviceFiles:")]
        found = {f"{_PROC}/params": "\n".join([*kept, "ModifyDeviceFiles: 0", ""]).encode()}
        if version := self._text(f"{_PROC}/version"):
            found[f"{_PROC}/version"] = version
        own = f"{_PROC}/gpus/{gpu.card.bus}"
        if self.place(own).is_dir():
            for file in sorted(self.place(own).iterdir()):
                if file.is_file() and (text := self._text(f"{own}/{file.name}")):
                    found[f"{own}/{file.name}"] = text
        if gpu.slice is not None:
            found |= {access: self._text(access) for access in self._accesses(gpu)}
        found["/proc/devices"] = self._numbers_of_devices()
        return found

    def folders(self, gpu: Gpu) -> list[str]:
        """Folders of ``/sys``: processors and memory nodes, the card's own, and the driver's modules."""
        found = ["/sys/devices/system/cpu", "/sys/devices/system/node"]
        card = self.card_folder(gpu)
        found += [card] if card is not None else []
        modules = self.place("/sys/module")
        found += [f"/sys/module/{one.name}" for one in sorted(modules.glob("nvidia*"))]
        return [one for one in found if self.place(one).is_dir()]

    def card_folder(self, gpu: Gpu) -> str | None:
        """The card's folder below ``/sys/devices``, None where the machine does not show it."""
        link = self.place(f"/sys/bus/pci/devices/{gpu.card.bus}")
        if not link.is_symlink():
            return None
        found = os.path.normpath(f"/sys/bus/pci/devices/{link.readlink()}")
        # A link to elsewhere would show what nobody named.
        return found if found.startswith("/sys/devices/pci") and found.endswith(f"/{gpu.card.bus}") else None

    def _accesses(self, gpu: Gpu) -> list[str]:
        """Files that name the nodes of a slice: of its GPU instance, and of its compute instance there."""
        if gpu.slice is None:
            return []
        instance = f"{_PROC}/capabilities/gpu{gpu.card.minor}/mig/gi{gpu.slice.gpu_instance}"
        return [f"{instance}/access", f"{instance}/ci{gpu.slice.compute_instance}/access"]

    def _check_node(self, node: str, names: frozenset[str], minor: int) -> None:
        """Raise NvmlFault unless it is there, with this minor number and a major one that the kernel names so."""
        if not self.place(node).exists():
            remedy = "load the driver's modules: `nvidia-modprobe -c 0 -u` as root, at each start of the machine"
            raise NvmlFault(f"device node {node}", "is not there", remedy)
        lines = (line.split() for line in self._numbers_of_devices().decode().splitlines())
        right = {(int(words[0]), minor) for words in lines if len(words) == 2 and words[1] in names}
        if (found := self.numbers(self.place(node))) not in right:
            what = "is not a character device" if found is None else f"is device {found[0]}:{found[1]}"
            cause = f"{what}, which is not one of the NVIDIA driver's by /proc/devices"
            remedy = f"as root remove {node} and run `nvidia-modprobe -c 0 -u`"
            raise NvmlFault(f"device node {node}", cause, remedy)

    def _minor_of(self, access: str) -> int:
        for line in self._text(access).decode(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name == "DeviceFileMinor" and value.strip().isdigit():
                return int(value)
        remedy = "`nvidia-smi -L` shows the slices that there are now; name one of them"
        raise NvmlFault(f"MIG slice of {access}", "is not one that the driver shows", remedy)

    def _numbers_of_devices(self) -> bytes:
        lines = self._text("/proc/devices").decode(errors="replace").splitlines()
        own = [line for line in lines if line.split()[1:2] and line.split()[1].startswith("nvidia")]
        return "\n".join(["Character devices:", *own, "", "Block devices:", ""]).encode()

    def _text(self, path: str) -> bytes:
        try:
            return self.place(path).read_bytes()
        except OSError:
            # Not every driver has every file; a container may show none of them.
            return b""


def libraries(folder: str = "", listing: str | None = None) -> dict[str, Path]:
    """The driver's libraries by name: those in ``folder``, or, without one, those that ldconfig knows.

    ``listing`` is what ``ldconfig -p`` prints, where it is known already. Raises NvmlFault without CUDA's library.
    """
    found = _in_folder(Path(folder)) if folder else from_ldconfig(_listing() if listing is None else listing)
    if _NEEDED not in found:
        where = f"is not in {folder}" if folder else "is not known to ldconfig"
        remedy = "install the driver's libraries, or name their folder as gpu_libraries in site.toml"
        raise NvmlFault(f"CUDA's library {_NEEDED}", where, remedy)
    return found


def from_ldconfig(listing: str, machine: str = "") -> dict[str, Path]:
    """The driver's libraries in what ``ldconfig -p`` prints, for this architecture.

    >>> from_ldconfig("\\tlibcuda.so.1 (libc6,x86-64) => /usr/lib/libcuda.so.1", "x86_64")
    {'libcuda.so.1': PosixPath('/usr/lib/libcuda.so.1')}
    """
    here = _MACHINES.get(machine or platform.machine(), "")
    found: dict[str, Path] = {}
    for line in listing.splitlines():
        name, _, rest = line.strip().partition(" ")
        kind, arrow, place = rest.partition(" => ")
        if arrow and here in kind and _LIBRARY.fullmatch(name):
            found.setdefault(name, Path(place))
    return found


def _in_folder(folder: Path) -> dict[str, Path]:
    names = sorted(folder.iterdir()) if folder.is_dir() else []
    return {file.name: file for file in names if _LIBRARY.fullmatch(file.name) and file.is_file()}


def _listing() -> str:
    for program in ("/sbin/ldconfig", "/usr/sbin/ldconfig"):
        if Path(program).exists():
            done = subprocess.run([program, "-p"], capture_output=True, text=True, check=False)
            return done.stdout
    return ""
