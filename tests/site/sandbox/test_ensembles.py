"""An ensemble of any size passes through a worker one model at a time, in the memory of a few."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from test_what_a_worker_can_say import TALK, forged

from archipel.site.execution.model_cache import MOST_MODELS, ModelCache
from archipel.site.sandbox import Sandbox, SandboxedWorker, SharedBuffer, WorkerTaskFailed
from archipel.storage import FolderBlobStore
from archipel.tensors import blob_hash, encode
from archipel.vocabulary import ArchipelError, Baselines, ErrorCode, RosterEntry, Task, TaskKey, TaskKind, TrainingPass
from worlds.sandbox import KEY, LIMITS, World, open_descriptors

pytestmark = pytest.mark.processes


def frame(value: float) -> bytes:
    return encode({"weight": np.full(4, value, np.float32)})


def ensemble(world: World, models: Sequence[str], round_: int = 1) -> Task:
    key = TaskKey(experiment=world.spec.job.experiment, round=round_, kind=TaskKind.EVALUATE, about="ensemble")
    return Task(
        key=key, job_hash=world.spec.job.initial_model, models=tuple(models), passes=(TrainingPass(round=round_),)
    )


async def prepared(folder: Path, evaluating: str, **limits: float) -> tuple[World, SandboxedWorker]:
    """A worker whose plan runs this code to evaluate."""
    chosen = LIMITS.model_copy(update=limits)
    world = World.make(folder, chosen, prepare=f"plan.evaluating = {evaluating!r}")
    worker = await Sandbox.start(world.spec)
    await worker.prepare()
    return world, worker


SUM = "accuracy = sum((number + 1) * float(model['weight'][0]) for number, model in enumerate(models))"


async def test_more_models_than_descriptors_fit_into_a_message_are_evaluated_in_the_memory_of_a_few(
    tmp_path: Path,
) -> None:
    world, worker = await prepared(tmp_path, SUM)
    tensor_files = {blob_hash(frame(value)): frame(value) for value in range(300)}
    roster = tuple(
        RosterEntry(site=f"site-{number}", identity_key=KEY, dataset="table") for number in range(len(tensor_files))
    )
    job = world.spec.job.model_copy(update={"roster": roster, "baselines": Baselines(local=True, ensemble=True)})
    fetched: list[str] = []

    async def fetch(blob: str, window: memoryview) -> None:
        fetched.append(blob)
        window[:] = tensor_files[blob]

    cache, before, most = ModelCache(job, fetch, FolderBlobStore(tmp_path / "blobs")), open_descriptors(), 0
    task = ensemble(world, list(tensor_files))

    async def model(number: int) -> SharedBuffer:
        nonlocal most
        found = await cache.get(task.models[number])
        most = max(most, open_descriptors())
        return found

    try:
        outcome = await worker.evaluate(task, model)
        assert outcome.validation["accuracy"].total == sum((number + 1) * number for number in range(300))
        assert fetched == list(tensor_files)
        # A tensor file has a descriptor, and its mapping another.
        assert most - before <= 2 * MOST_MODELS
        # The worker is well, and a smaller ensemble's models are still there.
        again = await worker.evaluate(ensemble(world, task.models[-3:], 2), lambda at: cache.get(task.models[at - 3]))
        assert again.validation["accuracy"].total == 297 + 2 * 298 + 3 * 299
        assert fetched == list(tensor_files)
    finally:
        await worker.kill()
        cache.close()


async def test_a_model_that_a_plan_keeps_stays_as_it_was(tmp_path: Path) -> None:
    """The agent writes the next model into the same memory; the plan pays for its copy."""
    world, worker = await prepared(tmp_path, "kept = list(models); accuracy = float(sum(m['weight'][0] for m in kept))")
    shared = SharedBuffer.create(len(frame(0)))

    async def model(number: int) -> SharedBuffer:
        shared.reuse()
        shared.write(frame(10.0**number), 0)
        return shared

    try:
        outcome = await worker.evaluate(ensemble(world, [blob_hash(b"%d" % one) for one in range(4)]), model)
        assert outcome.validation["accuracy"].total == 1111
    finally:
        await worker.kill()
        shared.close()


async def two(world: World, worker: SandboxedWorker, waits: Sequence[float]) -> float:
    """Evaluate an ensemble of two; each time a model is asked for it takes so many seconds."""
    held, left = SharedBuffer.holding(frame(1)), iter(waits)

    async def model(_: int) -> SharedBuffer:
        await asyncio.sleep(next(left))
        return held

    try:
        task = ensemble(world, [blob_hash(b"0"), blob_hash(b"1")], world.round + 1)
        return (await worker.evaluate(task, model)).validation["accuracy"].total
    finally:
        held.close()


async def test_the_time_that_a_model_takes_to_arrive_is_not_the_workers_but_reading_one_again_is(
    tmp_path: Path,
) -> None:
    world, worker = await prepared(tmp_path, SUM, wall_s=4)
    try:
        assert await two(world, worker, [3, 3]) == 3
    finally:
        await worker.kill()
    (tmp_path / "again").mkdir()
    world, worker = await prepared(tmp_path / "again", f"models[0]\n{SUM}", wall_s=4)
    try:
        with pytest.raises(WorkerTaskFailed) as failed:
            await two(world, worker, [0, 0, 5])
        assert failed.value.failure.code is ErrorCode.LIMIT_TIME
    finally:
        await worker.kill()


async def test_a_model_that_cannot_be_fetched_ends_the_worker_and_is_the_error(tmp_path: Path) -> None:
    world, worker = await prepared(tmp_path, SUM)

    async def model(number: int) -> SharedBuffer:
        raise ArchipelError(f"model {number}", "is nowhere", "look elsewhere", code=ErrorCode.LOST)

    with pytest.raises(ArchipelError, match="model 0: is nowhere"):
        await worker.evaluate(ensemble(world, [blob_hash(b"0"), blob_hash(b"1")]), model)
    assert not worker.alive


@pytest.mark.parametrize(
    ("code", "alive"),
    [
        ("models[2]", True),
        (forged('{"type": "need-model", "number": 2}'), False),
        ("models[1]", True),
        (forged('{"type": "need-model", "number": 1}'), False),
    ],
    ids=["by its sequence", "by a word of its own", "out of order", "out of order by a word of its own"],
)
async def test_a_model_that_is_not_the_tasks_or_not_the_next_is_not_given(
    tmp_path: Path, code: str, alive: bool
) -> None:
    world, worker = await prepared(tmp_path, code)
    try:
        with pytest.raises(WorkerTaskFailed) as failed:
            await two(world, worker, [])
        assert failed.value.failure.code is ErrorCode.PLAN_ERROR
        assert worker.alive is alive
    finally:
        await worker.kill()


@pytest.mark.parametrize(
    "code",
    [
        "for _ in range(10_000): list(models)",
        f"""{TALK}
number = 0
while True:
    say(json.dumps({{"type": "need-model", "number": number % 2}}))
    channel.recvmsg(1 << 16, 1 << 12)
    number += 1
""",
    ],
    ids=["by its sequence", "by words of its own"],
)
async def test_an_ensemble_is_read_at_most_once_for_each_sample(tmp_path: Path, code: str) -> None:
    world, worker = await prepared(tmp_path, code)
    held, asked = SharedBuffer.holding(frame(1)), []

    async def model(number: int) -> SharedBuffer:
        asked.append(number)
        return held

    try:
        with pytest.raises(WorkerTaskFailed) as failed:
            await worker.evaluate(ensemble(world, [blob_hash(b"0"), blob_hash(b"1")]), model)
        assert failed.value.failure.code is ErrorCode.PLAN_ERROR
        assert asked == [0, 1] * worker._samples.validation
    finally:
        await worker.kill()
        held.close()


async def test_a_model_is_not_given_after_its_evaluation(tmp_path: Path) -> None:
    world, worker = await prepared(tmp_path, "plan.older = plan.older if hasattr(plan, 'older') else models")
    try:
        assert await two(world, worker, []) == 1
        failed = await world.fails(worker, "plan.older[0]")
        assert "a model of an ensemble was asked for after its evaluation" in failed.detail
        assert failed.failure.code is ErrorCode.PLAN_ERROR and worker.alive
    finally:
        await worker.kill()
