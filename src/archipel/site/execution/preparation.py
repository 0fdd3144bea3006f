"""The part of a cohort that a worker gets: verified and prepared by the agent's code before any line of a plan runs.

Preparing reads only files whose bytes are those that a scan read when the dataset was added. It runs beside the agent's
loop and logs its progress every few seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import structlog

from archipel.data import Cohort, Prepared
from archipel.data.prepared import hidden_options
from archipel.site.state import StateFolder, open_sample_cache, sample_cache
from archipel.storage import disk_errors_named
from archipel.vocabulary import BadInput, Cancellation, ErrorCode, ShowProgress, Watch, WorkProgress, show_nothing
from archipel.vocabulary.remedies import FreezeAgain

_log = structlog.get_logger("archipel.preparing")
_SAY_S = 10.0


async def prepared(site: StateFolder, root: Path, cohort: Cohort, show: ShowProgress = show_nothing) -> Prepared:
    """The cohort's prepared files, held until closed; what is not in the cache is made from the dataset's files.

    Raises BadInput (``data-changed``) naming a file that is not what was frozen, with the command to freeze it again;
    BadInput (``configuration``) when ``cache_mb`` is too small; StorageFull.
    """
    stop = Cancellation()
    doing = asyncio.create_task(asyncio.to_thread(_prepare, site, root, cohort, Watch(show, stop)))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        stop.cancel()
        doing.add_done_callback(_let_go)
        raise
    except BadInput as error:
        if error.code is ErrorCode.DATA_CHANGED:
            error.offering(FreezeAgain(dataset=cohort.dataset), dataset=cohort.dataset, version=cohort.version)
        raise


def _let_go(doing: asyncio.Task[Prepared]) -> None:
    """The result is no longer awaited: if it is ready all the same, it is released."""
    if not doing.cancelled() and doing.exception() is None:
        doing.result().close()


def _prepare(site: StateFolder, root: Path, cohort: Cohort, watch: Watch) -> Prepared:
    cache, logged_at = open_sample_cache(site.prepared, site.settings.cache_mb), time.monotonic()

    def show(progress: WorkProgress) -> None:
        nonlocal logged_at
        watch.show(progress)
        if time.monotonic() - logged_at > _SAY_S:
            logged_at = time.monotonic()
            _log.info("preparing samples", dataset=cohort.dataset, done=progress.done, of=progress.total)

    sample_cache.wait_for_removals(watch)
    with disk_errors_named(cache.folder):
        files = cache.prepare(root, cohort, watch=replace(watch, show=show))
    if files.made:
        _log.info("samples prepared", dataset=cohort.dataset, made=files.made, mib=files.size >> 20)
    return files


def as_disclosed(cohort: Cohort, fraction: float) -> Cohort:
    """The cohort as a worker sees it: no paths or options, and pseudonyms in the place of ids where it has them.

    Under a pseudonym sessions are numbers from 1: as files call them, they may hold the id, or a date of the patient's.
    Each subject keeps training or validating; without a list, that follows from the ids and ``fraction``.
    """
    known, samples = cohort.pseudonyms, cohort.samples.without_files()
    held_out = tuple(sorted(cohort.held_out(fraction))) if known else cohort.validation
    if known:
        numbers = _session_numbers(samples.each_key())
        samples = samples.renamed(
            (known[subject], numbers.get((subject, session), "")) if subject in known else (subject, session)
            for subject, session in samples.each_key()
        )
    validation = None if held_out is None else tuple(known.get(subject, subject) for subject in held_out)
    hidden = {"options": hidden_options(cohort.options), "pseudonyms": {}}
    return cohort.model_copy(update={"samples": samples, "validation": validation, **hidden})


def _session_numbers(keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Each session's number among its subject's, in the order of their names."""
    times: Counter[str] = Counter()
    numbers = {}
    for subject, session in keys:
        if session:
            times[subject] += 1
            numbers[subject, session] = str(times[subject])
    return numbers
