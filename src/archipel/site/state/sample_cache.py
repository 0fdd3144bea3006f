"""The site's cache of prepared samples, and removing from it the samples of withdrawn patients."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

from archipel.data import PreparedCache, Sample
from archipel.storage import disk_errors_named
from archipel.vocabulary import UNWATCHED, ArchipelError, Watch

_log = structlog.get_logger("archipel.withdrawals")
_LOOK_S = 0.1
_removals: set[threading.Thread] = set()
"""Threads of this process that remove something."""


def open_sample_cache(folder: Path, most_mb: int) -> PreparedCache:
    """The site's cache of prepared samples in ``folder``, of at most ``most_mb`` MiB. Raises StorageFull."""
    with disk_errors_named(folder):
        return PreparedCache(folder, most_mb << 20)


def forget(folder: Path, most_mb: int, samples: Iterable[Sample], kept: Iterable[str] | None = None) -> int:
    """Remove what was prepared of these samples, of patients who withdrew; returns how many files went.

    With ``kept``, hashes of samples, what was prepared of others goes too: a check's cohort is not stored anywhere.
    """
    cache = open_sample_cache(folder, most_mb)
    with disk_errors_named(cache.folder):
        return cache.forget((sample.hash for sample in samples), kept)


def forget_in_background(
    folder: Path, most_mb: int, samples: Iterable[Sample], kept: Iterable[str], afterwards: Callable[[], None]
) -> None:
    """As ``forget``, in a thread, for a caller that must not wait while samples are prepared, and then ``afterwards``,
    also if the first fails; errors are logged."""

    def forget_or_log() -> None:
        for step in (lambda: forget(folder, most_mb, samples, kept), afterwards):
            try:
                step()
            except (ArchipelError, OSError) as error:
                _log.error("what is left of a withdrawn patient could not be removed", error=str(error))

    thread = threading.Thread(target=forget_or_log, name="forget-withdrawn")
    thread.start()
    _removals.difference_update([one for one in _removals if not one.is_alive()])
    _removals.add(thread)


def wait_for_removals(watch: Watch = UNWATCHED) -> None:
    """Wait until all that ``forget_in_background`` began in this process is done, before anything is prepared again.

    A removal with ``kept`` that came later would remove what was prepared after the withdrawal, without the patient.
    Raises Cancelled when ``watch`` stops it.
    """
    for thread in tuple(_removals):
        while thread.is_alive():
            watch.check()
            thread.join(_LOOK_S)
