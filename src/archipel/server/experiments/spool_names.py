"""The names of spool files: one per task, site and content, so that an upload that was broken off is found again."""

from __future__ import annotations

from archipel.tensors import blob_hash
from archipel.vocabulary import Update


def spool_start(update_: Update) -> str:
    """How the names of a site's spool files for one task begin."""
    digest = blob_hash(f"{update_.key}|{update_.site}".encode()).removeprefix("blake3:")
    return f"{update_.key.experiment}.{update_.key.round}.{update_.key.attempt}.{update_.site}.{digest[:16]}"


def spool_name(update_: Update) -> str:
    """The spool file of an update: one per task, site and content."""
    return f"{spool_start(update_)}.{blob_hash(str(update_.model).encode()).removeprefix('blake3:')[:16]}"
