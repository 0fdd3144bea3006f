"""One experiment in this process, from a job and sites' cohorts to a finished book."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

from archipel.governance import job_hash
from archipel.plans import load
from archipel.plans.runtime import PlanRuntime
from archipel.rounds import ExperimentLoop, ExperimentState, ExperimentVerb, MemoryBook
from archipel.simulation.fleet import SimulatedFleet
from archipel.simulation.sites import SimulatedSite
from archipel.simulation.trainer import InProcessTrainer
from archipel.tasks import Compute, Handler, MemoryShelf, Once, Permitted, check_passes
from archipel.vocabulary import ArchipelError, Job, Task


async def simulate(
    job: Job, plan_file: Path, initial_model: bytes, sites: Sequence[SimulatedSite], folder: Path
) -> MemoryBook:
    """Run the whole job; returns its book with every record and model.

    ``folder`` takes the frames and must be empty. Raises ArchipelError when the experiment stalls, with the first
    site's full error, which only a simulation can show.
    """
    digest = job_hash(job)
    book = MemoryBook(job, folder)
    (folder / "initial").write_bytes(initial_model)
    book.models[job.initial_model] = folder / "initial"
    turn = asyncio.Lock()

    def handler(site: SimulatedSite) -> Handler:
        runtime = PlanRuntime(load(plan_file, job.plan.class_name), job, site.name, site.data, site.cohort)
        trainer = InProcessTrainer(runtime, turn, lambda model: book.models[model].read_bytes())
        spool = folder / site.name
        shutil.rmtree(spool, ignore_errors=True)
        spool.mkdir()

        def permission(task: Task) -> None:
            check_passes(job, digest, task)

        return Permitted(Once(Compute(job, site.name, trainer, spool), MemoryShelf()), permission)

    fleet = SimulatedFleet({site.name: handler(site) for site in sites})
    book.control(ExperimentVerb.START)
    state = await ExperimentLoop(job, digest, book, fleet).run()
    if state is not ExperimentState.FINISHED:
        cause = next(iter(fleet.problems.values()), None)
        if cause is not None:
            raise cause
        raise ArchipelError(f"experiment {job.experiment}", book.reason, "see the sites' failures")
    return book
