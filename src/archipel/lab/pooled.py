"""The pooled baseline of the demo: all sites' subjects in one process, same plan, same split, same number of epochs.

It runs in a process of its own beside the federated rounds, which leave a processor idle while they wait for the
slowest site. Only a simulation may pool: real hospitals' images do not meet.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from archipel.governance import job_hash
from archipel.plans import draft, load
from archipel.plans.runtime import PlanRuntime
from archipel.rounds import StageRecord
from archipel.simulation import pooled_site, scanned_site, simulate
from archipel.vocabulary import Baselines, MetricSum, RosterEntry, RoundTerms, Task, TaskKey, TaskKind, WorkerLimits

_NO_KEY = "ed25519:" + "0" * 64
NAME = "pooled"


@dataclass(frozen=True)
class Pooled:
    """What the pooled model reached: ``curve`` after each round, sums over the held-out subjects, and per site."""

    curve: tuple[float, ...]
    validation: Mapping[str, MetricSum]
    per_site: Mapping[str, Mapping[str, MetricSum]]
    seconds: float


def run_pooled(plan: Path, roots: Mapping[str, Path], rounds: int, epochs: int, seed: int, threads: int) -> Pooled:
    """Train on the union of the sites' training subjects, and validate on the held-out ones of each site."""
    needs = load(plan).needs
    sites = [scanned_site(name, root, needs) for name, root in sorted(roots.items())]
    above = Path(*_common([site.root.resolve().parts for site in sites]))
    pooled = pooled_site(sites, above, NAME)
    drafted = draft(
        plan,
        experiment=NAME,
        roster=[RosterEntry(site=NAME, identity_key=_NO_KEY, dataset="data")],
        server_key=_NO_KEY,
        seed=seed,
        arguments={"epochs": epochs},
        terms=RoundTerms(rounds=rounds, quorum=1, deadline_s=36_000),
        baselines=Baselines(),
        limits=WorkerLimits(threads=threads),
    )
    with tempfile.TemporaryDirectory(prefix="archipel-pooled-") as place:
        book = asyncio.run(simulate(drafted.job, plan, drafted.initial_model, [pooled], Path(place)))
        model = book.models[book.model].read_bytes()
        trained = book.committed(TaskKind.TRAIN)
        (last,) = book.committed(TaskKind.EVALUATE)
    per_site = {}
    key = TaskKey(experiment=NAME, round=rounds, kind=TaskKind.EVALUATE)
    task = Task(key=key, job_hash=job_hash(drafted.job), models=(book.model,))
    for site in sites:
        runtime = PlanRuntime(load(plan), drafted.job, NAME, site.root, site.cohort)
        runtime.prepare()
        per_site[site.name] = runtime.evaluate(task, [memoryview(model)]).validation
    curve = [_dice(record) for record in (*trained[1:], last)]
    return Pooled(tuple(curve), last.validation, per_site, sum(record.seconds for record in (*trained, last)))


def _dice(record: StageRecord) -> float:
    return record.validation["dice"].mean()


def _common(parts: Sequence[Sequence[str]]) -> list[str]:
    """The folders that all paths share at their beginning."""
    shared = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return shared


class PooledInBackground:
    """The pooled run in a process of its own; ``result`` waits for it."""

    def __init__(
        self, plan: Path, roots: Mapping[str, Path], rounds: int, epochs: int, seed: int, threads: int = 1
    ) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self._future = self._pool.submit(run_pooled, plan, dict(roots), rounds, epochs, seed, threads)

    def result(self) -> Pooled:
        """What it reached. Raises what went wrong in it."""
        try:
            return self._future.result()
        finally:
            self._pool.shutdown()
