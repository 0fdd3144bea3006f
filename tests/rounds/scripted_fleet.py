"""A fleet that does what a test says, when it says it, and a clock that stands still until it is moved."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from archipel.governance import IdentityKey, job_hash, record_hash
from archipel.rounds import (
    Accepted,
    Delivered,
    ExperimentLoop,
    ExperimentState,
    ExperimentVerb,
    Failed,
    FleetEvent,
    Lost,
    MemoryExperimentStore,
    Nudged,
    ParticipantStatus,
    Returned,
)
from archipel.tensors import blob_hash, decode, encode, schema_of
from archipel.vocabulary import (
    Conflict,
    ErrorCode,
    Failure,
    Job,
    MetricSum,
    RoundClosed,
    Task,
    TaskKey,
    TaskKind,
    Update,
)

KEY = IdentityKey.generate().public
MODEL = {"weight": np.zeros(3), "count": np.zeros((), np.int64)}


def job(sites: Sequence[str] = ("a", "b", "c"), **changes: Any) -> Job:
    """A job of these sites: two rounds, a quorum of two, a deadline of 100 s, a grace of 10 s."""
    terms = {"rounds": 2, "quorum": 2, "deadline_s": 100, "grace_s": 10, "retries": 1}
    values: dict[str, Any] = {
        "experiment": "scripted",
        "plan": {"files": {"plan.py": "blake3:" + "0" * 64}, "entry": "plan.py", "class_name": "Plan"},
        "initial_model": blob_hash(encode(MODEL)),
        "tensors": schema_of(MODEL),
        "needs": {"kind": "arrays"},
        "metrics": [{"name": "loss", "better": "lower"}],
        "validation": [{"name": "accuracy", "better": "higher"}],
        "parameters": [{"name": "rate", "kind": "float", "default": 0.5, "minimum": 0, "maximum": 1}],
        "arguments": {"rate": 0.5},
        "roster": [{"site": site, "identity_key": KEY, "dataset": "data"} for site in sites],
        "server_key": KEY,
    }
    return Job.model_validate(values | changes | {"terms": terms | changes.get("terms", {})})


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class ScriptedFleet:
    """Records what the loop asks of sites; ``up`` are the connected ones, the others were lost when it was made."""

    def __init__(self, sites: Sequence[str], clock: Clock) -> None:
        self.clock, self.began = clock, clock.now
        self.lost: dict[str, float] = {}
        self.events: asyncio.Queue[FleetEvent] = asyncio.Queue()
        self.up = set(sites)
        self.offers: list[tuple[str, Task, float]] = []
        self.withdrawn: list[tuple[str, TaskKey]] = []
        self.announced: list[tuple[tuple[str, ...], RoundClosed]] = []

    def absent_since(self, site: str) -> float | None:
        return None if site in self.up else self.lost.get(site, self.began)

    async def offer(self, site: str, task: Task, remaining_s: float) -> None:
        self.offers.append((site, task, remaining_s))

    async def withdraw(self, site: str, key: TaskKey, reason: str) -> None:
        self.withdrawn.append((site, key))

    async def announce(self, sites: Sequence[str], closed: RoundClosed) -> None:
        self.announced.append((tuple(sites), closed))


class Scene:
    """A loop under way over a scripted fleet."""

    def __init__(self, folder: Path, job_: Job, **store: Any) -> None:
        self.folder, self.job, self.clock = folder, job_, Clock()
        self.store = MemoryExperimentStore(job_, folder, **store)
        self.fleet = ScriptedFleet(job_.sites, self.clock)
        self.running: asyncio.Task[ExperimentState] | None = None
        self._names = itertools.count()

    def start(self, verb: ExperimentVerb | None = ExperimentVerb.START) -> None:
        """Start a loop on the experiment store as it is."""
        if verb is not None:
            self.store.control(verb)
        loop = ExperimentLoop(self.job, job_hash(self.job), self.store, self.fleet, self.clock)
        self.running = asyncio.create_task(loop.run())

    async def crash(self) -> None:
        """The process dies: the loop, the queue and every waiting delivery are gone, the experiment store stays."""
        assert self.running is not None
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        self.fleet = ScriptedFleet(sorted(self.fleet.up), self.clock)

    async def ended(self) -> ExperimentState:
        assert self.running is not None
        return await asyncio.wait_for(self.running, 10)

    async def until(self, true: Callable[[], object]) -> None:
        """Let the loop run until something holds; a loop that died says why."""
        until = asyncio.get_running_loop().time() + 60
        while asyncio.get_running_loop().time() < until:
            if true():
                return
            if self.running is not None and self.running.done() and not self.running.cancelled():
                self.running.result()
            await asyncio.sleep(0.001)
        raise AssertionError("this never came to hold")

    def state(self, site: str) -> ParticipantStatus | None:
        opened = self.store.progress().opened
        return opened.sites[site] if opened else None

    async def task(self, round_: int = 1, attempt: int = 1, kind: TaskKind = TaskKind.TRAIN, about: str = "") -> Task:
        """The task of an attempt, once it is open."""

        def found() -> Task | None:
            opened = self.store.progress().opened
            key = opened.task.key if opened else None
            wanted = (round_, attempt, kind, about)
            return opened.task if opened and key and (key.round, key.attempt, key.kind, key.about) == wanted else None

        await self.until(found)
        task = found()
        assert task is not None
        return task

    def tensor_file(self, values: float | Sequence[float]) -> tuple[Path, str, int]:
        """A spooled tensor file whose weights are ``values``."""
        model = {"weight": np.zeros(3) + np.asarray(values, float), "count": np.asarray(1, np.int64)}
        data = encode(model)
        path = self.folder / f"spool-{next(self._names)}"
        path.write_bytes(data)
        return path, blob_hash(data), len(data)

    def update(self, site: str, task: Task, model: str | None, size: int, **changes: Any) -> Update:
        update = Update(
            key=task.key,
            site=site,
            task_hash=record_hash(task),
            model=model,
            model_bytes=size,
            samples=2,
            metrics={"loss": MetricSum(total=2.0, weight=min(2, changes.get("samples", 2)))},
            seconds=1.0,
        )
        return update.model_copy(update=changes)

    async def deliver(self, site: str, task: Task, value: float | Sequence[float] = 1.0, **changes: Any) -> Update:
        """A site's update arrives; raises what the site would be told."""
        path, digest, size = self.tensor_file(value)
        update = self.update(site, task, digest, size, **changes)
        await self.send(site, update, path)
        return update

    async def evaluate(self, site: str, task: Task, accuracy: float = 1.0) -> None:
        found = {"accuracy": MetricSum(total=accuracy, weight=1.0)}
        await self.send(site, self.update(site, task, None, 0, metrics={}, validation=found), None)

    async def send(self, site: str, update: Update, tensor_file: Path | None) -> None:
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.fleet.events.put_nowait(Delivered(site, update, tensor_file, settled))
        async with asyncio.timeout(10):
            await asyncio.wait({settled, *([self.running] if self.running else [])}, return_when="FIRST_COMPLETED")
            if not settled.done():
                # The loop ended with this in its queue; a server answers what is left there (experiments._settle_rest).
                raise Conflict("update", "its loop has ended", "no action is needed", code=ErrorCode.ROUND_CLOSED)
            await settled

    def accept(self, site: str, task: Task) -> None:
        self.fleet.events.put_nowait(Accepted(site, task.key))

    def fail(self, site: str, task: Task, retry: bool = True) -> None:
        failure = Failure(code=ErrorCode.PLAN_ERROR, sentence="the plan raised", file="plan.py", line=7, retry=retry)
        self.fleet.events.put_nowait(Failed(site, task.key, failure))

    def lose(self, site: str) -> None:
        if site in self.fleet.up:
            self.fleet.up.discard(site)
            self.fleet.lost[site] = self.clock.now
        self.fleet.events.put_nowait(Lost(site))

    def come_back(self, site: str) -> None:
        self.fleet.up.add(site)
        self.fleet.events.put_nowait(Returned(site))

    def nudge(self) -> None:
        self.fleet.events.put_nowait(Nudged())

    def pass_time(self, seconds: float) -> None:
        """Move the clock, and wake the loop as its own timer would."""
        self.clock.now += seconds
        self.nudge()

    def weights(self) -> np.ndarray[Any, Any]:
        """The weights of the newest model."""
        return decode(self.store.models[self.store.model].read_bytes())["weight"]
