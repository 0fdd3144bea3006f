"""What a site's owner can do about GPUs: name one that workers can use, and take a name back."""

from __future__ import annotations

from archipel.site.gpus import GpuRow, gpu_rows, nameable_gpus, usable_gpu
from archipel.site.state import StateFolder, set_gpus
from archipel.vocabulary import NotFound, Record, Thing
from archipel.vocabulary.remedies import ListGpus


class GpuListing(Record):
    """The GPUs that the owner named, and in words what could be named on this machine."""

    gpus: tuple[GpuRow, ...]
    nameable: tuple[str, ...]


def listing(site: StateFolder) -> GpuListing:
    """Which GPUs are named, whether workers can use them, and what else there is."""
    return GpuListing(gpus=gpu_rows(site.settings), nameable=nameable_gpus(site.settings))


def add(site: StateFolder, name: str, experiments: int | None = None) -> tuple[str, ...]:
    """Name a GPU in the site's settings, once a look at this machine shows that a worker can use it.

    ``experiments`` is how many may share each GPU, None for as before. Returns all that are named now. Raises
    NvmlFault where it cannot be used or is not the name of a GPU.
    """
    names = tuple(dict.fromkeys((*site.settings.gpus, name)))
    usable_gpu(name, site.settings)
    set_gpus(site.folder / "site.toml", names, experiments)
    return names


def remove(site: StateFolder, name: str) -> tuple[str, ...]:
    """Take a GPU out of the settings; returns the names that are left. Raises NotFound."""
    left = tuple(one for one in site.settings.gpus if one != name)
    if left == site.settings.gpus:
        raise NotFound(
            Thing("GPU", name), "is not named in this site's settings", "archipel site gpu list shows those that are",
            command=ListGpus(),
        )  # fmt: skip
    set_gpus(site.folder / "site.toml", left)
    return left
