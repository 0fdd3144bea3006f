"""What a worker on a GPU of this machine sees, costs and may hold; called by ``benchmarks/device.sh``.

One line of JSON for each thing that was tried, with ``ok``; the last one names what could not be proven. No setting of
the GPU is changed.
"""

from __future__ import annotations

import ast
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

import device_plan
from archipel.data import Cohort, PreparedCache, scan
from archipel.plans.job_builder import draft
from archipel.site.gpus import Driver, GivenGpu, GpuPool, NvmlFault, all_gpus, usable_gpu
from archipel.site.sandbox import Sandbox, SandboxedWorker, SandboxSpec, SharedBuffer, WorkerTaskFailed
from archipel.site.state import SiteSettings
from archipel.vocabulary import (
    ArchipelError,
    ErrorCode,
    GpuTerms,
    RosterEntry,
    RoundTerms,
    Task,
    TaskKey,
    TrainingPass,
    Value,
    WorkerLimits,
)

PLAN = Path(__file__).with_name("device_plan.py")
SITE, KEY = "site-a", "ed25519:" + "0" * 64
ASKED_MB = 4096
PAIRS = 5
TOLERANCE = 1e-3


class Trial:
    """One dataset, one job, and the memory of its model; starts workers on the GPU."""

    def __init__(self, folder: Path, gpu: GivenGpu, mode: str) -> None:
        folder.chmod(0o755)
        (folder / "site").mkdir()
        (folder / "data").mkdir()
        np.savez(folder / "data" / "table.npz", x=np.ones((4, 2)), y=np.zeros(4), subject=[f"s{n}" for n in range(4)])
        made = draft(
            PLAN,
            experiment="device",
            roster=[RosterEntry(site=SITE, identity_key=KEY, dataset="table")],
            server_key=KEY,
            validation_fraction=0.0,
            terms=RoundTerms(rounds=1000, quorum=1),
            limits=WorkerLimits(memory_mb=16_384, processes=256, wall_s=120),
            gpu=GpuTerms(memory_mb=ASKED_MB),
        )
        cohort = Cohort(dataset="table", format="npz", samples=scan("npz", folder / "data").samples)
        self.spec = SandboxSpec(
            job=made.job,
            site=SITE,
            open_file=lambda _: nullcontext(PLAN),
            cohort=cohort,
            files=PreparedCache(folder / "site" / "prepared", 1 << 30).prepare(folder / "data", cohort).files,
            limits=made.job.limits,
            mode=mode,
            log_path=folder / "worker.log",
            state_folder=folder / "site",
            gpu=gpu,
        )
        self.model = SharedBuffer.holding(made.initial_model)
        self.result = SharedBuffer.create(len(made.initial_model))
        self._round = 0

    async def start(self) -> SandboxedWorker:
        """A prepared worker."""
        worker = await Sandbox.start(self.spec)
        await worker.prepare()
        return worker

    async def run(self, worker: SandboxedWorker, **arguments: Value) -> float:
        """One task; the plan's loss."""
        self._round += 1
        job = self.spec.job
        key = TaskKey(experiment=job.experiment, round=self._round)
        passes = (TrainingPass(round=self._round, arguments=arguments),)
        task = Task(key=key, job_hash=job.initial_model, models=(job.initial_model,), passes=passes)
        outcome = await worker.train(task, self.model, self.result, None)
        return outcome.metrics["loss"].mean()

    def log(self) -> str:
        """The end of what the worker printed."""
        path = self.spec.log_path
        return path.read_text(errors="replace")[-1000:] if path.exists() else ""


def say(what: str, ok: bool | None, **more: object) -> None:
    """One line of the answer; ``ok`` is None for what says nothing about success."""
    print(json.dumps({"what": what, "ok": ok, **more}), flush=True)


async def look(trial: Trial, gpu: GivenGpu) -> None:
    """No device but the one that was named."""
    worker = await trial.start()
    say("sandbox", None, description=worker.description)
    try:
        await trial.run(worker, do="look")
    except WorkerTaskFailed as error:
        if "SEEN " not in error.detail:
            say("no device beyond the named one", False, error=error.detail[-600:])
            return
        seen: Mapping[str, Any] = ast.literal_eval(error.detail.rpartition("SEEN ")[2].partition(" END")[0])
        own = sorted(place for _, place in gpu.shown.nodes)
        ok = seen["devices"] == 1 and sorted(seen["nodes"]) == own and len(seen["cards"]) <= 1
        say("no device beyond the named one", ok, nodes=own, seen=dict(seen))
    finally:
        await worker.kill()


async def compare(trial: Trial) -> None:
    """Losses as those of bare PyTorch, and the time of an epoch beside it, in turns."""
    bare = device_plan.network("cuda")
    worker = await trial.start()
    losses, times = [], []
    try:
        for _ in range(PAIRS + 1):
            began = time.perf_counter()
            alone = device_plan.epoch(bare, "cuda")
            middle = time.perf_counter()
            inside = await trial.run(worker, do="train")
            times.append((middle - began, time.perf_counter() - middle))
            losses.append((alone, inside))
    finally:
        await worker.kill()
    apart = max(abs(inside - alone) / abs(alone) for alone, inside in losses)
    say("losses as bare PyTorch", apart <= TOLERANCE, largest_relative_difference=apart, tolerance=TOLERANCE)
    ratio = statistics.median(inside / alone for alone, inside in times[1:])
    say("epoch beside bare PyTorch", ratio <= 1.05, ratio=round(ratio, 4), bar=1.05, pairs=PAIRS)


async def exceed(trial: Trial) -> None:
    """The watch ends a worker that holds more than its job asked for."""
    worker = await trial.start()
    began = time.perf_counter()
    try:
        await trial.run(worker, do="take", mib=2 * ASKED_MB)
        say("the watch ends a worker beyond its memory", False, error="the task was done")
    except WorkerTaskFailed as error:
        ended = error.failure.code is ErrorCode.LIMIT_MEMORY and not error.told
        seconds = round(time.perf_counter() - began, 2)
        say("the watch ends a worker beyond its memory", ended, seconds=seconds, detail=error.detail[-300:])
    finally:
        await worker.kill()


async def compute_on(trial: Trial, gpu: GivenGpu) -> None:
    """A worker whose GPU computes on after its task is ended."""
    if gpu.gpu.slice is not None:
        say("a GPU that computes on", None, why="the driver says nothing of the work of a MIG slice")
        return
    worker = await trial.start()
    try:
        await trial.run(worker, do="compute on")
        began = time.perf_counter()
        for _ in range(200):
            if not worker.alive:
                break
            await asyncio.sleep(0.1)
        say("a GPU that computes on", not worker.alive, seconds=round(time.perf_counter() - began, 2))
    finally:
        await worker.kill()


async def run(name: str, mode: str) -> None:
    """Everything, on the GPU of this name, or on the first that there is."""
    settings = SiteSettings(site=SITE)
    name = name or all_gpus(Driver.load(settings).nvml)[0].uuid
    settings = settings.model_copy(update={"gpus": (name,)})
    row = usable_gpu(name, settings)
    say("GPU", None, **row.model_dump())
    pool = GpuPool(settings)
    gpu = await pool.claim_alone(GpuTerms(memory_mb=ASKED_MB))
    with tempfile.TemporaryDirectory(prefix="archipel-device-") as folder:
        trial = Trial(Path(folder), gpu, mode)
        steps: dict[str, Callable[[], Awaitable[None]]] = {
            "look": lambda: look(trial, gpu),
            "compare": lambda: compare(trial),
            "exceed": lambda: exceed(trial),
            "compute on": lambda: compute_on(trial, gpu),
        }
        for what, step in steps.items():
            try:
                await step()
            except (ArchipelError, WorkerTaskFailed) as error:
                detail = error.detail if isinstance(error, WorkerTaskFailed) else str(error)
                say(what, False, error=detail[-600:], log=trial.log())
    missing = ["that memory of a card that is not divided is bounded: it is watched"]
    if gpu.gpu.slice is None:
        missing.append("the nodes of a MIG slice: this GPU is not divided, and no setting of it was changed")
    if len(all_gpus(Driver.load(settings).nvml)) < 2:
        missing.append("that another GPU cannot be opened: this machine has one")
    if not gpu.watch.by_process:
        missing.append("the watch by process: the agent does not see the machine's pids, the whole GPU was watched")
    if mode != "required":
        missing.append("anything about the sandbox: there was none")
    say("not proven", None, missing=missing)


def main() -> None:
    """``device.py MODE [GPU]``."""
    try:
        asyncio.run(run(sys.argv[2] if len(sys.argv) > 2 else "", sys.argv[1]))
    except NvmlFault as error:
        say("GPU", False, error=str(error))
        say("not proven", None, missing=["anything: there is no GPU that a worker could use"])
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
