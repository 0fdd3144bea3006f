"""A made-up machine with three GPUs: the files of its driver below a folder, and what NVML says of them.

The first card has another minor number than its index; the third is divided into MIG slices.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from archipel.site.gpus import Card, Driver, DriverTree, GpuMemory, GpuProcess, NvmlFault, Slice
from archipel.vocabulary import GpuTerms

FIRST = "GPU-aaaaaaaa-0000-0000-0000-000000000001"
SECOND = "GPU-bbbbbbbb-0000-0000-0000-000000000002"
DIVIDED = "GPU-cccccccc-0000-0000-0000-000000000003"
SLICE = "MIG-dddddddd-0000-0000-0000-000000000004"
OTHER_SLICE = "MIG-eeeeeeee-0000-0000-0000-000000000005"
MIB = 1 << 20
CARDS = (
    Card(0, FIRST, "NVIDIA A2", 1, "0000:3b:00.0", 16_384 * MIB),
    Card(1, SECOND, "NVIDIA A2", 0, "0000:af:00.0", 16_384 * MIB),
    Card(2, DIVIDED, "NVIDIA A100", 2, "0000:d8:00.0", 40_960 * MIB),
)
SLICES = (
    Slice(SLICE, CARDS[2], 3, 0, 10_240 * MIB),
    Slice(OTHER_SLICE, CARDS[2], 5, 1, 10_240 * MIB),
)
ASKED = GpuTerms(memory_mb=1024)
LISTING = """\
3 libs found in cache `/etc/ld.so.cache'
\tlibnvidia-ml.so.1 (libc6,x86-64) => {folder}/libnvidia-ml.so.1
\tlibcuda.so.1 (libc6) => /usr/lib32/libcuda.so.1
\tlibcuda.so.1 (libc6,x86-64) => {folder}/libcuda.so.1
\tlibnvidia-nvvm.so.4 (libc6,x86-64) => {folder}/libnvidia-nvvm.so.4
\tlibnvidia-ptxjitcompiler.so.1 (libc6,x86-64) => {folder}/libnvidia-ptxjitcompiler.so.1
\tlibnvidia-gpucomp.so.550.54 (libc6,x86-64) => {folder}/libnvidia-gpucomp.so.550.54
\tlibnvidia-encode.so.1 (libc6,x86-64) => {folder}/libnvidia-encode.so.1
\tlibcudart.so.12 (libc6,x86-64) => {folder}/libcudart.so.12
\tlibGLX_nvidia.so.0 (libc6,x86-64) => {folder}/libGLX_nvidia.so.0
"""


@dataclass
class MadeUpNvml:
    """What NVML says; a test changes it. ``held`` are bytes by pid, ``used`` bytes of the whole GPU."""

    held: dict[int, int | None] = field(default_factory=dict)
    used: int = 0
    busy: frozenset[int] | None = frozenset()
    works: bool | None = False
    lost: bool = False

    def cards(self) -> list[Card]:
        return list(CARDS)

    def slice_of(self, uuid: str) -> Slice:
        for one in SLICES:
            if one.uuid == uuid:
                return one
        raise NvmlFault(f"GPU {uuid}", "is not on this machine", "name another one")

    def slices_of(self, card: Card) -> list[Slice]:
        return [one for one in SLICES if one.card == card]

    def memory(self, uuid: str) -> GpuMemory:
        self._answers()
        return GpuMemory(16_384 * MIB, self.used)

    def processes(self, uuid: str) -> list[GpuProcess]:
        self._answers()
        return [GpuProcess(pid, memory) for pid, memory in self.held.items()]

    def busy_pids(self, uuid: str, since_us: int) -> frozenset[int] | None:
        self._answers()
        return self.busy

    def is_busy(self, uuid: str) -> bool | None:
        self._answers()
        return self.works

    def _answers(self) -> None:
        if self.lost:
            raise NvmlFault("the NVIDIA driver", "answered with an error (GPU is lost)", "run `nvidia-smi` by hand")


def write_files(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


def made_up_numbers(node: Path) -> tuple[int, int] | None:
    """The numbers that stand in a file, where a machine has a device."""
    major, colon, minor = node.read_text().partition(":")
    return (int(major), int(minor)) if colon else None


def _device(name: str) -> str:
    """Major and minor of a node of the made-up driver."""
    if name.startswith("nvidia-uvm"):
        return f"507:{int(name.endswith('tools'))}"
    if name.startswith("nvidia-caps/"):
        return f"508:{name.removeprefix('nvidia-caps/nvidia-cap')}"
    if name.startswith("dri/"):
        return "226:0"
    return "195:" + {"nvidiactl": "255", "nvidia-modeset": "254"}.get(name, name.removeprefix("nvidia"))


def made_up_tree(root: Path) -> DriverTree:
    """The files of the driver of this machine, and some of other devices beside them."""
    proc = "/proc/driver/nvidia"
    files = {
        f"{proc}/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54\n",
        f"{proc}/params": "ResmanDebugLevel: 4294967295\nModifyDeviceFiles: 1\nDeviceFileMode: 438\n",
        f"{proc}/registry": "all of it\n",
        "/proc/devices": "Character devices:\n  1 mem\n195 nvidia\n507 nvidia-uvm\n508 nvidia-caps\n"
        "509 nvidia-caps-imex-channels\n\nBlock devices:\n8 sd\n",
        "/sys/devices/system/cpu/online": "0-15\n",
        "/sys/devices/system/node/online": "0\n",
        "/sys/devices/system/memory/block_size_bytes": "1\n",
        "/sys/class/net/eth0/address": "00:11\n",
    }
    for module in ("nvidia", "nvidia_uvm", "nvidia_modeset", "i915"):
        files[f"/sys/module/{module}/refcnt"] = "1\n"
    for card in CARDS:
        files[f"{proc}/gpus/{card.bus}/information"] = f"Model: {card.name}\nGPU UUID: {card.uuid}\n"
        files[f"/sys/devices/pci0000:00/0000:00:01.{card.index}/{card.bus}/numa_node"] = "0\n"
        files[f"/sys/devices/pci0000:00/0000:00:01.{card.index}/secret"] = "of the bridge\n"
    for gi, ci, of_gi, of_ci in ((3, 0, 30, 31), (5, 0, 48, 49), (5, 1, 48, 50)):
        place = f"{proc}/capabilities/gpu2/mig/gi{gi}"
        files[f"{place}/access"] = f"DeviceFileMinor: {of_gi}\nDeviceFileMode: 292\nDeviceFileModify: 1\n"
        files[f"{place}/ci{ci}/access"] = f"DeviceFileMinor: {of_ci}\nDeviceFileMode: 292\nDeviceFileModify: 1\n"
    files[f"{proc}/capabilities/mig/config"] = "DeviceFileMinor: 1\n"
    nodes = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia0", "nvidia1", "nvidia2"]
    nodes += [
        "dri/card0",
        "dri/renderD128",
        *(f"nvidia-caps/nvidia-cap{number}" for number in (1, 2, 30, 31, 48, 49, 50)),
    ]
    files |= {f"/dev/{name}": _device(name) for name in nodes}
    write_files(root, files)
    for name in nodes:
        (root / "dev" / name).chmod(0o666)
    links = root / "sys/bus/pci/devices"
    links.mkdir(parents=True)
    for card in CARDS:
        (links / card.bus).symlink_to(f"../../../devices/pci0000:00/0000:00:01.{card.index}/{card.bus}")
    return DriverTree(root, made_up_numbers)


def made_up_libraries(folder: Path, names: Iterable[str] = ("libcuda.so.1", "libnvidia-ml.so.1")) -> dict[str, Path]:
    """Libraries of the driver in a folder of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(f"library {name}")
    return {name: folder / name for name in names}


def made_up_driver(root: Path, *, by_process: bool = True) -> tuple[Driver, MadeUpNvml]:
    """The whole driver of this machine below a folder that every user may enter."""
    nvml = MadeUpNvml()
    tree = made_up_tree(root / "machine")
    return Driver(nvml, tree, made_up_libraries(root / "driver"), by_process), nvml
