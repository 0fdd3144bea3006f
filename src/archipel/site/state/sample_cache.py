"""The site's cache of prepared samples, and forgetting there what patients who withdrew left in it."""

from __future__ import annotations

from collections.abc import Iterable

from archipel.data import PreparedCache, Sample
from archipel.site.state.folder import StateFolder
from archipel.storage import disk_errors_named


def open_sample_cache(site: StateFolder) -> PreparedCache:
    """The site's cache of prepared samples, of the size that its settings allow. Raises StorageFull."""
    folder = site.folder / "prepared"
    with disk_errors_named(folder):
        return PreparedCache(folder, site.settings.cache_mb << 20)


def forget(site: StateFolder, samples: Iterable[Sample], kept: Iterable[str] | None = None) -> int:
    """Remove what was prepared of these samples, of patients who withdrew; returns how many files went.

    With ``kept``, hashes of samples, what was prepared of others goes too: a check's cohort is written down nowhere.
    """
    cache = open_sample_cache(site)
    with disk_errors_named(cache.folder):
        return cache.forget((sample.hash for sample in samples), kept)
