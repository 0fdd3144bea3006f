"""A site of a simulation as a value, and the handler of its tasks that is made from it, in whichever process.

A process needs only a ``SiteSpec`` to act as a site. A fleet of another kind, for example of Ray actors on several
machines, can be written over it without a change elsewhere: each actor is given some specifications, makes their
handlers with ``site_handler`` and keeps them for the whole experiment, since an optimiser's state and a site's local
part stay in the handler; the fleet passes each task and each result of a stage to the actor of its site and puts
``Accepted``, ``Delivered`` or ``Failed`` into its queue, as ``SimulatedFleet`` does. ``models`` and ``tensor_files``
must then be folders that all machines see, or the actor copies the model in before it handles a task and the tensor
file out afterwards; and unlike here, a task may then have to be withdrawn, and an actor that is gone is a ``Lost``
site.
"""

from __future__ import annotations

import asyncio
import importlib
import mmap
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from weakref import WeakValueDictionary

from archipel.data import Cohort, Source
from archipel.governance import job_hash
from archipel.plans import PackagedPlan, load_packaged
from archipel.plans.runtime import PlanRuntime
from archipel.rounds import model_path
from archipel.simulation.trainer import InProcessTrainer
from archipel.tasks import (
    Compute,
    Handler,
    Idempotent,
    LocalUpdate,
    MemoryTaskStore,
    RequirePermission,
    check_task_of_job,
)
from archipel.vocabulary import BadInput, Job, RoundClosed, Task, Thing
from archipel.vocabulary.once import Once


@dataclass(frozen=True)
class SiteSpec:
    """One simulated site of an experiment; it can be pickled.

    ``data`` is the folder of the dataset or another source of its samples. ``models`` is the folder in which the
    models, and the frozen and the local part of the job's model, are found by their hash (see ``model_path``).
    ``tensor_files`` is the site's own folder for what it trained.
    ``modules`` are imported first, by name: they register the researcher's own strategies and privacy steps, which
    a new process does not have.
    """

    job: Job
    plan: PackagedPlan
    site: str
    data: Path | Source
    cohort: Cohort
    models: Path
    tensor_files: Path
    modules: tuple[str, ...] = ()


_job_hash: Once[Job, str] = Once(job_hash)
"""All sites of a process have the same job."""


def import_modules(names: Sequence[str]) -> None:
    """Import modules by name. Raises BadInput for one that is not there or that fails."""
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            cause = f"cannot be imported: {type(error).__name__}: {error}"
            raise BadInput(
                Thing("module", name), cause, "name a module on Python's path that imports cleanly"
            ) from error


@dataclass(frozen=True)
class SiteHandler:
    """A simulated site at work."""

    handler: Handler
    trainer: InProcessTrainer

    async def __call__(self, task: Task) -> LocalUpdate:
        """Do the task, with the same steps as at a deployed site."""
        return await self.handler(task)

    def settle(self, closed: RoundClosed) -> None:
        """Keep what the site made of a stage for later ones, or drop it."""
        self.trainer.settle(closed)


def site_handler(spec: SiteSpec, turn: asyncio.Lock) -> SiteHandler:
    """The handler of a site's tasks, with the same steps as at a deployed site. It loads the plan.

    ``turn`` is shared by all handlers of a process. The site's folder of tensor files is emptied. Raises what loading
    the plan raises, and BadInput when the plan does not declare what the job says.
    """
    import_modules(spec.modules)
    job, digest = spec.job, _job_hash(spec.job)
    runtime = PlanRuntime(load_packaged(spec.plan), job, spec.site, spec.data, spec.cohort)
    if job.frozen is not None:
        runtime.freeze(_mapped(model_path(spec.models, job.frozen.blob)))
    shutil.rmtree(spec.tensor_files, ignore_errors=True)
    spec.tensor_files.mkdir()

    def permission(task: Task) -> None:
        check_task_of_job(job, digest, task)

    trainer = InProcessTrainer(runtime, turn, ModelsOfSite(spec.models).read, spec.tensor_files)
    once = Idempotent(Compute(job, spec.site, trainer, spec.tensor_files, durable=False), MemoryTaskStore())
    return SiteHandler(RequirePermission(once, permission), trainer)


class ModelsOfSite:
    """The models in a folder, as one site reads them.

    All sites of a process train the same model one after the other: it is mapped once, and stays mapped as long as it
    is the last one that any of them has read.
    """

    _all_sites: ClassVar[WeakValueDictionary[Path, memoryview]] = WeakValueDictionary()

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last: memoryview | None = None

    def read(self, model: str) -> memoryview:
        """The tensor file of a model, by its hash."""
        file = model_path(self._folder, model)
        found = self._all_sites.get(file)
        if found is None:
            found = self._all_sites[file] = _mapped(file)
        self._last = found
        return found


def _mapped(file: Path) -> memoryview:
    """A file's bytes, in memory that all sites and processes share and none can write to."""
    with file.open("rb") as opened:
        return memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
