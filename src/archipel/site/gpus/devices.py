"""A GPU as a site's owner named it, found on this machine: a whole card or one MIG slice of a card."""

from __future__ import annotations

import re
from dataclasses import dataclass

from archipel.site.gpus.nvml import Card, Nvml, NvmlFault, Slice
from archipel.vocabulary.gpus import GPU_NAME
from archipel.vocabulary.remedies import ListGpus


@dataclass(frozen=True)
class Gpu:
    """A card, or a ``slice`` of it, as ``name`` in the settings says."""

    name: str
    card: Card
    slice: Slice | None = None

    @property
    def uuid(self) -> str:
        """By which CUDA and NVML find exactly this one."""
        return self.card.uuid if self.slice is None else self.slice.uuid

    @property
    def memory(self) -> int:
        """Its size in bytes."""
        return self.card.memory if self.slice is None else self.slice.memory

    @property
    def in_words(self) -> str:
        """For people at the site.

        >>> Gpu("0", Card(0, "GPU-1", "NVIDIA A2", 0, "0000:3b:00.0", 15 << 30)).in_words
        'NVIDIA A2 (GPU-1), 15360 MiB'
        """
        what = self.card.name if self.slice is None else f"a MIG slice of {self.card.name}"
        return f"{what} ({self.uuid}), {self.memory >> 20} MiB"


def find(name: str, nvml: Nvml) -> Gpu:
    """The GPU of this name. Raises NvmlFault when it is not here, or is divided into slices.

    A card in MIG mode computes only through its slices, and CUDA would take one that nobody chose.
    """
    if not re.fullmatch(GPU_NAME, name):
        raise _unknown(name, "is not the name of a GPU", "give an index, or a UUID that begins with GPU- or MIG-")
    if name.startswith("MIG-"):
        found = nvml.slice_of(name)
        return Gpu(name, found.card, found)
    card = next((one for one in nvml.cards() if name in (str(one.index), one.uuid)), None)
    if card is None:
        raise _unknown(name, "is not on this machine", "`nvidia-smi -L` shows the GPUs of this machine")
    slices = nvml.slices_of(card)
    if slices:
        names = ", ".join(one.uuid for one in slices)
        raise _unknown(name, "is divided into MIG slices", f"name one of them: {names}")
    return Gpu(name, card)


def all_gpus(nvml: Nvml) -> list[Gpu]:
    """Everything that a site's owner could name here: cards that are not divided, and slices."""
    found: list[Gpu] = []
    for card in nvml.cards():
        slices = nvml.slices_of(card)
        found += [Gpu(one.uuid, card, one) for one in slices] or [Gpu(card.uuid, card)]
    return found


def _unknown(name: str, cause: str, remedy: str) -> NvmlFault:
    return NvmlFault(f"GPU {name}", cause, remedy, command=ListGpus())
