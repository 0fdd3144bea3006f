"""A simulated site refuses what a deployed one refuses: attempts and rounds on other models than they must name."""

from __future__ import annotations

from types import SimpleNamespace

from archipel.governance import IdentityKey
from archipel.rounds import Accepted, Delivered, Failed
from archipel.simulation.fleet import SimulatedFleet
from archipel.tasks import LocalUpdate
from archipel.tensors import blob_hash
from archipel.vocabulary import ErrorCode, RoundClosed, Task, TaskKey, TaskKind, TrainingPass, Update
from worlds.site import job_for

JOB = job_for(SimpleNamespace(name="a", identity=IdentityKey.generate()))  # type: ignore[arg-type]
HASH = "sha256:" + "0" * 64
MADE, CHOSEN = blob_hash(b"of round 1"), blob_hash(b"another")


def task(attempt: int, model: str, kind: TaskKind = TaskKind.TRAIN) -> Task:
    key = TaskKey(experiment="heart", round=2, attempt=attempt, kind=kind)
    return Task(key=key, job_hash=HASH, models=(model,), passes=(TrainingPass(round=2),))


class Site:
    """A handler that notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Task] = []

    async def __call__(self, task_: Task) -> LocalUpdate:
        self.asked.append(task_)
        return LocalUpdate(Update(key=task_.key, site="a", task_hash=HASH, samples=1))

    def settle(self, closed: RoundClosed) -> None:
        """It keeps nothing."""


async def refused(fleet: SimulatedFleet, task_: Task) -> bool:
    """Whether the site refuses the task."""
    await fleet.offer("a", task_, 60)
    assert isinstance(await fleet.events.get(), Accepted)
    found = await fleet.events.get()
    if isinstance(found, Delivered):
        found.settled.set_result(None)
        return False
    assert isinstance(found, Failed) and found.failure.code is ErrorCode.NOT_APPROVED
    return True


async def test_a_second_attempt_on_another_model_is_refused() -> None:
    site = Site()
    fleet = SimulatedFleet({"a": site}, JOB)
    first, second, third = task(1, MADE), task(2, CHOSEN), task(3, MADE)
    assert [await refused(fleet, one) for one in (first, second, third)] == [False, True, False]
    assert site.asked == [first, third]
    assert "names another model than the first attempt" in str(fleet.problems["a"])


async def test_a_round_on_another_model_than_the_one_before_made_is_refused() -> None:
    fleet = SimulatedFleet({"a": Site()}, JOB)
    closed = RoundClosed(
        experiment="heart", round=1, attempt=1, job_hash=HASH, committed=True, contributors=("a",), model=MADE
    )
    failed = closed.model_copy(update={"committed": False, "model": None})
    for result in (closed, failed):
        await fleet.announce(["a"], result)
    assert await refused(fleet, task(1, CHOSEN))
    assert not await refused(fleet, task(2, MADE))
    await fleet.announce(["a"], closed.model_copy(update={"round": 2, "model": CHOSEN}))
    assert await refused(fleet, task(1, MADE, TaskKind.EVALUATE))
    assert not await refused(fleet, task(2, CHOSEN, TaskKind.EVALUATE))


async def test_it_measures_between_rounds_only_what_the_job_asks_for() -> None:
    fleet = SimulatedFleet({"a": Site()}, JOB)
    assert await refused(fleet, task(1, MADE, TaskKind.EVALUATE))
    assert "of which this site holds no signed result" in str(fleet.problems["a"])
    closed = RoundClosed(
        experiment="heart", round=2, attempt=1, job_hash=HASH, committed=True, contributors=("a",), model=MADE
    )
    await fleet.announce(["a"], closed)
    assert not await refused(fleet, task(1, MADE, TaskKind.EVALUATE))
    assert not await refused(fleet, task(1, JOB.initial_model, TaskKind.LOCAL))
    # The baselines end it.
    assert await refused(fleet, task(2, MADE))
