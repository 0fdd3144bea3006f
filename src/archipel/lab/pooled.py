"""The pooled baseline of the demo: all sites' subjects in one process, same plan, same split, same number of epochs.

It runs in a process of its own beside the federated rounds, which leave a processor idle while they wait for the
slowest site. Only a simulation may pool: real hospitals' images do not meet.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from archipel.plans import load
from archipel.rounds import StageRecord
from archipel.simulation import scanned_site, train_pooled
from archipel.vocabulary import MetricSum, WorkerLimits


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
    limits = WorkerLimits(threads=threads)
    found = train_pooled(plan, sites, rounds=rounds, seed=seed, arguments={"epochs": epochs}, limits=limits)
    curve = [_dice(record) for record in (*found.rounds[1:], found.last)]
    seconds = sum(record.seconds for record in (*found.rounds, found.last))
    return Pooled(tuple(curve), found.last.validation, found.per_site, seconds)


def _dice(record: StageRecord) -> float:
    return record.validation["dice"].mean()


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
