"""A dataset, a job and tasks for the hostile plan, and a worker that runs their code."""

from __future__ import annotations

import ast
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from archipel.data import Cohort, PreparedCache, scan
from archipel.plans.job_builder import draft
from archipel.plans.runtime import Outcome
from archipel.site.sandbox import SandboxedWorker, SandboxSpec, SharedBuffer, WorkerTaskFailed
from archipel.vocabulary import ErrorCode, RosterEntry, RoundTerms, Task, TaskKey, TaskKind, TrainingPass, WorkerLimits

PLAN = Path(__file__).with_name("hostile_plan.py")
LIMITS = WorkerLimits(memory_mb=400, cpu_s=20, wall_s=20, tmp_mb=16, processes=24)
KEY = "ed25519:" + "0" * 64


@dataclass
class World:
    """One site's folder, a dataset of which the cohort is a part, and what a worker needs."""

    folder: Path
    root: Path
    spec: SandboxSpec
    model: SharedBuffer
    result: SharedBuffer
    round: int = 0

    @classmethod
    def make(cls, folder: Path, limits: WorkerLimits = LIMITS, prepare: str = "") -> World:
        """Write the dataset and the plan, which runs ``prepare`` when it is to read its data."""
        folder.chmod(0o755)
        root, state = folder / "data", folder / "site"
        root.mkdir()
        state.mkdir(mode=0o700)
        (state / "identity.key").write_text("SECRET KEY")
        np.savez(root / "table.npz", x=np.ones((6, 3)), y=np.zeros(6), subject=[f"sub-{n}" for n in range(6)])
        cohort = Cohort(dataset="table", format="npz", samples=scan("npz", root).samples)
        (root / "withdrawn.npz").write_bytes(b"ANOTHER PATIENT")
        (folder / "other-dataset").mkdir()
        (folder / "other-dataset" / "scan.nii").write_bytes(b"ANOTHER DATASET")
        plan = folder / PLAN.name
        plan.write_text(PLAN.read_text().replace('PREPARE = ""', f"PREPARE = {prepare!r}"))
        made = draft(
            plan,
            experiment="hostile",
            roster=[RosterEntry(site="site-a", identity_key=KEY, dataset="table")],
            server_key=KEY,
            terms=RoundTerms(rounds=1000, quorum=1),
            limits=limits,
        )
        spec = SandboxSpec(
            job=made.job,
            site="site-a",
            open_file=lambda _: nullcontext(plan),
            cohort=cohort,
            files=PreparedCache(state / "prepared", 1 << 30).prepare(root, cohort).files,
            limits=limits,
            mode="required",
            log_path=folder / "hostile.log",
            state_folder=state,
            uid_base=731_000,
        )
        frame = made.initial_model
        return cls(folder, root, spec, SharedBuffer.holding(frame), SharedBuffer.create(len(frame)))

    def limited(self, **limits: Any) -> SandboxSpec:
        """The spec with other limits."""
        changed = self.spec.limits.model_copy(update=limits)
        job = self.spec.job.model_copy(update={"limits": changed})
        return replace(self.spec, limits=changed, job=job)

    def task(self, code: str = "", kind: TaskKind = TaskKind.TRAIN) -> Task:
        """A task that runs this code."""
        self.round += 1
        job = self.spec.job
        key = TaskKey(experiment=job.experiment, round=self.round, kind=kind)
        arguments = {"code": code} if code else {}
        return Task(
            key=key,
            job_hash=job.initial_model,
            models=(job.initial_model,),
            passes=(TrainingPass(round=self.round, arguments=arguments),),
        )

    async def run(self, worker: SandboxedWorker, code: str) -> Outcome:
        """Run code as a training task."""
        return await worker.train(self.task(code), self.model, self.result, None)

    async def say(self, worker: SandboxedWorker, code: str) -> Any:
        """Run code and return what it left in ``said``, which only a person at the site could see."""
        try:
            await self.run(worker, code)
        except WorkerTaskFailed as error:
            if error.failure.code is not ErrorCode.PLAN_ERROR or "SAID " not in error.detail:
                raise
            return ast.literal_eval(error.detail.rpartition("SAID ")[2].partition(" DIAS")[0])
        raise AssertionError("the code said nothing")

    async def fails(self, worker: SandboxedWorker, code: str) -> WorkerTaskFailed:
        """Run code that must end in a failure."""
        try:
            await self.run(worker, code)
        except WorkerTaskFailed as error:
            return error
        raise AssertionError("the code did not fail")


def exists(pid: int) -> bool:
    """Whether there is such a process."""
    return Path(f"/proc/{pid}").exists()


def owner_of(pid: int) -> int:
    """The uid of a process."""
    return Path(f"/proc/{pid}").stat().st_uid


def open_descriptors() -> int:
    """How many descriptors this process has."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
