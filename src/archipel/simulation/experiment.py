"""One experiment without a network, from a job and sites' cohorts to a finished experiment store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from archipel.governance import job_hash
from archipel.plans import PackagedPlan
from archipel.rounds import (
    ExperimentLoop,
    ExperimentState,
    ExperimentVerb,
    MemoryExperimentStore,
    StageRecord,
    check_releases,
    model_path,
)
from archipel.simulation.collecting import settled_objects
from archipel.simulation.fleet import SimulatedFleet, SimulatedHandler
from archipel.simulation.site_specs import SiteSpec, import_modules, site_handler
from archipel.simulation.sites import SimulatedSite
from archipel.simulation.workers import worker_handlers
from archipel.strategies import check_strategy
from archipel.vocabulary import ArchipelError, BadInput, Job, Thing


async def simulate(
    job: Job,
    plan: PackagedPlan,
    initial_model: bytes,
    sites: Sequence[SimulatedSite],
    folder: Path,
    *,
    frozen: bytes | None = None,
    local: bytes | None = None,
    workers: int = 1,
    modules: Sequence[str] = (),
    heard: Callable[[StageRecord], None] = lambda _: None,
) -> MemoryExperimentStore:
    """Run the whole job; returns its experiment store with every record and the models that a server would keep.

    ``folder`` takes the tensor files and must be empty; ``frozen`` and ``local`` are the tensor files of the model's
    frozen part and of its local part's initial values. The local part of each site after its last round is then in
    ``local-part.safetensors`` in the folder of the site.

    With one worker all sites train in this process, one after the other. With more, each worker is a process of its own
    with the threads that the job allows (by default one); a site stays with its worker, and the models are the same to
    the last bit as those of one process with as many threads. Each process reads the data of its sites only, but loads
    the plan and its libraries itself.

    ``modules`` are imported by name in this process and in each worker before anything else: they register the
    strategies and privacy steps that the job names and Archipel does not have. ``heard`` is called with the record of
    each attempt when it has ended.

    Raises ArchipelError when the experiment stalls, with the first site's full error, which only a simulation can
    show, and when a worker dies, with the names of its sites.
    """
    import_modules(modules)
    check_strategy(job)
    check_releases(job)
    if workers < 1:
        raise BadInput(Thing("workers", workers), "is less than one", "give the number of processes that train")
    parts = [("frozen", job.frozen, frozen), ("local", job.local, local)]
    for what, named, given in parts:
        if (named is None) != (given is None):
            cause = f"names a {what} part that is not given" if named else f"names no {what} part"
            remedy = "give what draft() made: job, initial_model, frozen and local"
            raise BadInput(Thing("job", job.experiment), cause, remedy)
    store = MemoryExperimentStore(job, folder, follow=heard)
    store.add_model(initial_model, job.initial_model)
    for _, named, given in parts:
        if named is not None and given is not None:
            model_path(folder, named.blob).write_bytes(given)
    specs = [
        SiteSpec(
            job, plan, site.name, site.data, site.cohort, models=folder, tensor_files=folder / site.name,
            modules=tuple(modules),
        )
        for site in sites
    ]  # fmt: skip
    if workers == 1:
        turn = asyncio.Lock()
        await _run(job, store, {spec.site: site_handler(spec, turn) for spec in specs})
    else:
        async with worker_handlers(specs, min(workers, len(specs))) as (handlers, died):
            await _run(job, store, handlers, died)
    return store


async def _run(
    job: Job,
    store: MemoryExperimentStore,
    handlers: Mapping[str, SimulatedHandler],
    died: asyncio.Future[None] | None = None,
) -> None:
    """Run the experiment to its end; ``died`` ends it early with its error."""
    fleet = SimulatedFleet(handlers, job)
    store.control(ExperimentVerb.START)
    running = asyncio.ensure_future(ExperimentLoop(job, job_hash(job), store, fleet).run())
    awaited: set[asyncio.Future[Any]] = {running} if died is None else {running, died}
    try:
        with settled_objects():
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        if died is not None and died.done():
            died.result()
        state = running.result()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await fleet.close()
    if state is not ExperimentState.FINISHED:
        cause = next(iter(fleet.problems.values()), None)
        if cause is not None:
            raise cause
        raise ArchipelError(Thing("experiment", job.experiment), store.reason, "see the sites' failures")
