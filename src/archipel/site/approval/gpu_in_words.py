"""What a person reads before approving a job that asks for a GPU."""

from __future__ import annotations

from archipel.site.approval.model_in_words import size_in_words
from archipel.site.state import SiteSettings
from archipel.vocabulary import GpuTerms

_WARNINGS = (
    "The plan's code then reaches the GPU's driver, which is a part of this machine's kernel: a fault there is a way "
    "out of the sandbox. Experiments that use one GPU in turn or together share its caches, and each can measure when "
    "the other computes. The driver may show the names of other cards of this machine; the plan cannot compute on "
    "them. The same seed gives the same model bit for bit on the CPU only."
)


def on_a_gpu(asked: GpuTerms, settings: SiteSettings) -> str:
    """Whether a job that asks for this runs on a GPU here, and what follows from that."""
    if not settings.gpus:
        if asked.required:
            return "It needs one, and this site's owner named none."
        return "No. It would use one, and this site's owner named none: it runs on the CPU."
    names, each = ", ".join(settings.gpus), settings.experiments_per_gpu
    where = f"GPU {names}" if len(settings.gpus) == 1 else f"one of the GPUs {names}"
    shared = "" if each == 1 else f", which up to {each} experiments share"
    return (
        f"Yes: {size_in_words(asked.memory_mb << 20)} of the memory of {where}{shared}. This memory is watched ten "
        f"times a second; only a MIG slice is a hard bound. {_WARNINGS}"
    )
