"""The GPUs of a site, for its people: those that its owner named and what is wrong with them, and those to be named."""

from __future__ import annotations

import os

from archipel.site.gpus.devices import all_gpus, find
from archipel.site.gpus.nvml import NvmlFault
from archipel.site.gpus.pool import Driver
from archipel.site.gpus.shown import shown
from archipel.site.state import SiteSettings
from archipel.vocabulary import Record


class GpuRow(Record):
    """One GPU that the owner named: how many experiments share it, and how many MiB each may ask for.

    ``problem`` says why no worker can use it; then the other fields may be empty. ``note`` says what is not counted.
    """

    name: str
    model: str = ""
    uuid: str = ""
    memory_mb: int = 0
    experiments: int = 0
    memory_mb_each: int = 0
    problem: str | None = None
    note: str | None = None


def gpu_rows(settings: SiteSettings) -> tuple[GpuRow, ...]:
    """A row for each GPU in the settings, in their order. Nothing of the driver is touched where there is none."""
    return tuple(_row(name, settings) for name in settings.gpus)


def usable_gpu(name: str, settings: SiteSettings) -> GpuRow:
    """The GPU of this name, with an equal part of its memory for each experiment that may share it.

    Raises NvmlFault when it is not here, or a worker could not use it.
    """
    driver = Driver.load(settings)
    gpu = find(name, driver.nvml)
    shown(driver.tree, gpu, driver.libraries).check_open(settings.uid_base if os.getuid() == 0 else None)
    experiments, notes = driver.experiments(settings), []
    if not driver.by_process:
        notes.append(
            "the agent does not see the machine's pids (a container?): the memory of the whole GPU is watched, and one "
            "experiment at a time uses it"
        )
    if gpu.slice is None:
        notes.append("its memory is watched ten times a second; only a MIG slice is a hard bound")
    return GpuRow(
        name=name,
        model=gpu.card.name if gpu.slice is None else f"MIG slice of {gpu.card.name}",
        uuid=gpu.uuid,
        memory_mb=gpu.memory >> 20,
        experiments=experiments,
        memory_mb_each=(gpu.memory // experiments) >> 20,
        note="; ".join(notes) or None,
    )


def nameable_gpus(settings: SiteSettings) -> tuple[str, ...]:
    """In words, what could be named on this machine; none where there is no driver."""
    try:
        return tuple(gpu.in_words for gpu in all_gpus(Driver.load(settings).nvml))
    except NvmlFault:
        return ()


def _row(name: str, settings: SiteSettings) -> GpuRow:
    try:
        return usable_gpu(name, settings)
    except NvmlFault as error:
        return GpuRow(name=name, problem=str(error))
