"""One experiment in this process, from a job and sites' cohorts to a finished book."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from archipel.data import Cohort, scan
from archipel.governance import job_hash
from archipel.plans import load
from archipel.plans.runtime import PlanRuntime
from archipel.rounds import ExperimentLoop, ExperimentState, ExperimentVerb, MemoryBook
from archipel.simulation.fleet import SimulatedFleet
from archipel.simulation.trainer import InProcessTrainer
from archipel.tasks import Compute, Handler, MemoryShelf, Once, Permitted, check_passes
from archipel.vocabulary import ArchipelError, BadInput, DataNeeds, ErrorCode, Job, Task


@dataclass(frozen=True)
class SimulatedSite:
    """A site's name, the folder its data lies in, and the cohort taken from it."""

    name: str
    root: Path
    cohort: Cohort


_DEFAULT_FORMATS = {"volumes": "nifti-pairs", "arrays": "npz"}


def scanned_site(name: str, root: Path, needs: DataNeeds) -> SimulatedSite:
    """A site from a folder of data. Raises BadInput naming the first of the folder's problems."""
    layout = _DEFAULT_FORMATS[needs.kind]
    found = scan(layout, root)
    if found.errors:
        more = f" (and {len(found.errors) - 1} more)" if len(found.errors) > 1 else ""
        raise BadInput(str(root), f"{found.errors[0]}{more}", "mend the data", code=ErrorCode.BAD_DATA)
    cohort = Cohort(dataset="data", format=layout, samples=found.samples)
    return SimulatedSite(name, root, cohort)


def pooled_site(sites: Sequence[SimulatedSite], root: Path, name: str = "pooled") -> SimulatedSite:
    """All sites' subjects as one site; ``root`` is a folder above all of theirs.

    Subjects keep their ids, so that the same ones are held out. Raises BadInput for an id that two sites have.
    """
    samples = []
    seen: dict[str, str] = {}
    for site in sites:
        inside = site.root.resolve().relative_to(root.resolve())
        for subject in site.cohort.subjects:
            if subject in seen:
                raise BadInput(f"subject {subject}", f"is at {seen[subject]} and at {site.name}", "rename one of them")
            seen[subject] = site.name
        for sample in site.cohort.samples:
            files = {role: str(inside / path) for role, path in sample.files.items()}
            samples.append(sample.model_copy(update={"files": files}))
    first = sites[0].cohort
    return SimulatedSite(name, root, first.model_copy(update={"samples": tuple(samples)}))


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
        runtime = PlanRuntime(load(plan_file, job.plan.class_name), job, site.name, site.root, site.cohort)
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
