"""What a sandbox shows of one GPU: device nodes, files of ``/proc`` and ``/sys``, and the driver's libraries."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from archipel.site.gpus.devices import Gpu
from archipel.site.gpus.driver_tree import DriverTree
from archipel.site.gpus.nvml import NvmlFault
from archipel.vocabulary.remedies import GrantAccess

LIBRARIES = "/gpu-libraries"
_SYSTEM = (Path("/usr"), Path("/lib"), Path("/lib64"))
"""Every sandbox shows these; a library in them needs no bind of its own."""
_READ_AND_WRITE_OF_OTHERS = 0o006


@dataclass(frozen=True)
class ShownGpu:
    """Each of ``nodes``, ``folders`` and ``libraries`` is a path here and its place in the sandbox.

    ``links`` are a symbolic link's place and what it says, ``figures`` the texts of files below ``/proc``.
    """

    nodes: tuple[tuple[Path, str], ...]
    folders: tuple[tuple[Path, str], ...]
    links: tuple[tuple[str, str], ...]
    libraries: tuple[tuple[Path, str], ...]
    figures: Mapping[str, bytes]
    environment: Mapping[str, str]

    def check_open(self, uid: int | None) -> None:
        """Raise NvmlFault for a node that the worker may not read and write.

        ``uid`` is the worker's own, which has no group; without one it has the agent's rights.
        """
        for node, name in self.nodes:
            mode = node.stat().st_mode
            if uid is None:
                is_open = os.access(node, os.R_OK | os.W_OK)
            else:
                is_open = mode & _READ_AND_WRITE_OF_OTHERS == _READ_AND_WRITE_OF_OTHERS
            if not is_open:
                who = "the user that the agent runs as" if uid is None else f"the worker's user (uid {uid})"
                remedy = (
                    f"run `chmod a+rw {name}` as root, and set NVreg_DeviceFileMode=0666 for the module nvidia, which "
                    "keeps it after a restart"
                )
                raise NvmlFault(
                    f"device node {name}", f"is closed to {who}: its mode is {mode & 0o777:04o}", remedy,
                    values={"path": name, "mode": mode & 0o777}, command=GrantAccess(path=name),
                )  # fmt: skip


def shown(tree: DriverTree, gpu: Gpu, libraries: Mapping[str, Path]) -> ShownGpu:
    """What a sandbox shows of this GPU. Raises NvmlFault when the driver does not have it all."""
    card, beside = tree.card_folder(gpu), _beside_the_system(libraries)
    place = f"/sys/bus/pci/devices/{gpu.card.bus}"
    return ShownGpu(
        nodes=_placed(tree, tree.nodes(gpu)),
        folders=_placed(tree, tree.folders(gpu)),
        links=() if card is None else ((place, os.path.relpath(card, Path(place).parent)),),
        libraries=tuple((file, f"{LIBRARIES}/{name}") for name, file in sorted(beside.items())),
        figures=tree.figures(gpu),
        environment=environment(gpu, LIBRARIES if beside else ""),
    )


def environment(gpu: Gpu, libraries: str) -> dict[str, str]:
    """The variables by which CUDA takes exactly this GPU; ``libraries`` is the folder of the driver's, if it is not
    the system's.
    """
    found = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": gpu.uuid}
    if libraries:
        found |= {"LD_LIBRARY_PATH": libraries, "TRITON_LIBCUDA_PATH": libraries}
    return found


def _placed(tree: DriverTree, paths: Iterable[str]) -> tuple[tuple[Path, str], ...]:
    return tuple((tree.place(path), path) for path in paths)


def _beside_the_system(libraries: Mapping[str, Path]) -> dict[str, Path]:
    """All of the libraries where one of them is outside the folders that every sandbox shows: the loader then takes
    the whole set from one folder.
    """
    real = {name: file.resolve() for name, file in libraries.items()}
    if all(any(file.is_relative_to(folder) for folder in _SYSTEM) for file in real.values()):
        return {}
    return real
