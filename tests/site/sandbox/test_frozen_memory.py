"""The frozen part at a site: fetched once, given to every worker, and out of the reach of a plan that writes to it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from archipel.governance import job_hash
from archipel.plans.job_builder import draft
from archipel.site.approval import authorisation, offers
from archipel.site.checks.rehearsal import Rehearsal
from archipel.site.execution import sandbox_spec
from archipel.site.execution.task_store import SiteTaskStore
from archipel.site.execution.training import SandboxTrainer
from archipel.site.sandbox import SharedBuffer, WorkerTaskFailed
from archipel.site.state.folder import StateFolder
from archipel.tasks import Compute
from archipel.tensors import decode, encode
from archipel.vocabulary import (
    BadInput,
    ErrorCode,
    RosterEntry,
    RoundTerms,
    Task,
    TaskKey,
    TaskKind,
    TrainingPass,
    WorkerLimits,
)
from worlds.people import approve
from worlds.sandbox import PLAN
from worlds.site import SERVER
from worlds.transfers import Linked

pytestmark = pytest.mark.processes
INITIAL = 'return {"weight": np.zeros(4, np.float32)}'
FREEZES = """return {"weight": np.zeros(4, np.float32), "backbone": np.arange(4096.0)}

    def partition(self, name, array):
        return Part.FROZEN if name == "backbone" else Part.SENT"""
TRAIN = "model['weight'][:] += np.float32(model['backbone'].sum() / 4096)"


class Trial:
    """An approved experiment with the hostile plan, a part of whose model is frozen, at a joined site."""

    def __init__(self, site: StateFolder, folder: Path) -> None:
        plan = folder / "hostile_plan.py"
        text = PLAN.read_text().replace(INITIAL, FREEZES).replace("import Plan, Tr", "import Part, Plan, Tr")
        plan.write_text(text)
        made = draft(
            plan,
            experiment="frozen",
            roster=[RosterEntry(site=site.name, identity_key=site.identity.public, dataset="table")],
            server_key=SERVER.public,
            terms=RoundTerms(rounds=9, quorum=1),
            limits=WorkerLimits(memory_mb=400, wall_s=30, tmp_mb=16, processes=24),
        )
        assert made.job.frozen is not None
        self.job, self.hash, self.part = made.job, job_hash(made.job), made.job.frozen
        for content in made.plan.files.blobs.values():
            site.blobs.put(content)
        offers.record(site, made.job)
        approve(site, "frozen")
        self.fetched: Counter[str] = Counter()
        self.served = dict(made.blobs)

        async def fetch(blob: str, window: memoryview) -> None:
            self.fetched[blob] += 1
            await Linked(site, self.served).fetch_into(blob, window)

        def allowed() -> authorisation.Authorisation:
            return authorisation.authorise(site, "frozen", self.hash)

        self.trainer = SandboxTrainer(site, SiteTaskStore(site), made.job, allowed, fetch)

    def task(self, code: str, round_: int, kind: TaskKind = TaskKind.TRAIN) -> Task:
        one = TrainingPass(round=round_, arguments={"code": f"import numpy as np\n{code}"})
        key = TaskKey(experiment="frozen", round=round_, kind=kind)
        return Task(key=key, job_hash=self.hash, models=(self.job.initial_model,), passes=(one,))

    async def run(self, code: str, round_: int) -> dict[str, np.ndarray]:
        """The tensors that the plan trained."""
        async with self.trainer.run(self.task(code, round_)) as trained:
            assert trained.result is not None
            return decode(bytes(trained.result))

    async def kill_worker(self) -> None:
        assert self.trainer._worker is not None
        await self.trainer._worker.kill()


@pytest.fixture
async def trial(with_table: StateFolder, tmp_path: Path) -> AsyncIterator[Trial]:
    made = Trial(with_table, tmp_path)
    yield made
    await made.trainer.close()


async def test_it_is_fetched_once_for_all_rounds_and_workers_and_only_the_rest_is_a_result(
    trial: Trial, tmp_path: Path
) -> None:
    mean = np.float32(np.arange(4096).mean())
    for round_ in (1, 2):
        assert (await trial.run(TRAIN, round_))["weight"].tolist() == [mean] * 4
    await trial.kill_worker()
    assert (await trial.run(TRAIN, 3)).keys() == {"weight"}
    assert trial.fetched == {trial.part.blob: 1, trial.job.initial_model: 3}, "each round trains on its model in place"
    update = await Compute(trial.job, "charite", trial.trainer, tmp_path)(trial.task(TRAIN, 4))
    assert update.update.model_bytes < 300 < len(trial.served[trial.part.blob]) / 100
    async with trial.trainer.run(trial.task("", 4, TaskKind.EVALUATE)) as measured:
        assert measured.outcome.validation["accuracy"].weight == 1
    assert trial.fetched[trial.part.blob] == 1


async def test_it_is_not_fetched_again_when_an_idle_worker_was_ended_and_its_memory_given_back(trial: Trial) -> None:
    await trial.run(TRAIN, 1)
    trial.trainer._site.settings = trial.trainer._site.settings.model_copy(update={"worker_idle_s": 0.05})
    await trial.run(TRAIN, 2)
    assert trial.fetched[trial.part.blob] == 1
    assert trial.trainer._idle is not None
    await asyncio.wait_for(trial.trainer._idle, 30)
    assert trial.trainer._models._frozen is None
    assert (await trial.run(TRAIN, 3)).keys() == {"weight"}
    assert trial.fetched[trial.part.blob] == 1


async def test_a_check_makes_both_parts_and_trains_with_them(trial: Trial) -> None:
    await trial.run("", 1)
    trainer = trial.trainer
    assert trainer._prepared is not None and trainer._cohort is not None
    spec = sandbox_spec(trainer._site, trial.job, trainer._cohort, trainer._prepared.files, log="frozen.check")
    async with Rehearsal(spec) as rehearsal:
        assert await rehearsal.begin(), "the model that the job names"
        assert (await rehearsal.train(round_=1)).samples.training
        assert (await rehearsal.evaluate()).validation["accuracy"].weight == 1


WRITES = """
import ctypes, mmap
libc, array = ctypes.CDLL(None, use_errno=True), model["backbone"]
start = array.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
if libc.mprotect(ctypes.c_void_p(start), array.nbytes, mmap.PROT_READ | mmap.PROT_WRITE) == 0:
    ctypes.memset(array.ctypes.data, 0, array.nbytes)
"""


@pytest.mark.parametrize(
    ("code", "ends"),
    [
        ("model['backbone'][:] = 0", ErrorCode.PLAN_ERROR),
        ("model['backbone'] = np.zeros(4096)", ErrorCode.MODEL_CHANGED),
        ("model['backbone'].flags.writeable = True", ErrorCode.PLAN_ERROR),
        (WRITES, None),
    ],
    ids=["writes", "replaces", "unlocks", "unlocks-memory"],
)
async def test_what_a_plan_writes_into_it_does_not_leave_and_the_next_worker_has_the_jobs(
    trial: Trial, code: str, ends: ErrorCode | None
) -> None:
    if ends is None:
        assert (await trial.run(code, 1)).keys() == {"weight"}
    else:
        with pytest.raises(WorkerTaskFailed) as error:
            await trial.run(code, 1)
        assert error.value.failure.code is ends
    await trial.kill_worker()
    expected = np.float32(np.arange(4096).mean())
    assert (await trial.run(TRAIN, 2))["weight"].tolist() == [expected] * 4
    kept = await trial.trainer._models.frozen()
    assert isinstance(kept, SharedBuffer) and bytes(kept.view()) == trial.served[trial.part.blob]
    assert trial.fetched[trial.part.blob] == 1


async def test_a_frozen_part_of_other_bytes_is_not_trained_with_and_is_asked_for_again(trial: Trial) -> None:
    honest = trial.served[trial.part.blob]
    trial.served[trial.part.blob] = encode({"backbone": np.ones(4096)})
    with pytest.raises(BadInput, match="arrived with other bytes"):
        await trial.run(TRAIN, 1)
    trial.served[trial.part.blob] = honest
    assert (await trial.run(TRAIN, 1)).keys() == {"weight"}
