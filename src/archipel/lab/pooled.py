"""The pooled baseline of the demo: all sites' subjects in one process, same plan, same split, same number of epochs.

It runs in a process of its own beside the federated rounds, which leave a processor idle while they wait for the
slowest site. Only a simulation may pool: real hospitals' images stay apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from archipel.plans import load
from archipel.rounds import StageRecord
from archipel.simulation import child_processes, scanned_site, train_pooled
from archipel.vocabulary import ArchipelError, MetricSum, WorkerLimits


@dataclass(frozen=True)
class PooledRun:
    """The results of the pooled model: ``curve`` after each round, sums over the held-out subjects, and per site."""

    curve: tuple[float, ...]
    validation: Mapping[str, MetricSum]
    per_site: Mapping[str, Mapping[str, MetricSum]]
    seconds: float


def run_pooled(
    plan: Path, roots: Mapping[str, Path], rounds: int, epochs: int, seed: int, threads: int, folder: Path
) -> PooledRun:
    """Train on the union of the sites' training subjects, and validate on the held-out ones of each site."""
    needs = load(plan).needs
    sites = [scanned_site(name, root, needs) for name, root in sorted(roots.items())]
    limits = WorkerLimits(threads=threads)
    trained = train_pooled(
        plan, sites, rounds=rounds, folder=folder, seed=seed, arguments={"epochs": epochs}, limits=limits
    )
    curve = [_dice(record) for record in (*trained.rounds[1:], trained.last)]
    seconds = sum(record.seconds for record in (*trained.rounds, trained.last))
    return PooledRun(tuple(curve), trained.last.validation, trained.per_site, seconds)


def _dice(record: StageRecord) -> float:
    return record.validation["dice"].mean()


class PooledInBackground:
    """The pooled run in a process of its own; ``result`` waits for it. Leaving the context ends it.

    The folder it writes into is this process's: one that is ended removes nothing itself.
    """

    def __init__(
        self, plan: Path, roots: Mapping[str, Path], rounds: int, epochs: int, seed: int, threads: int = 1
    ) -> None:
        self._answer, answers = Pipe(duplex=False)
        self._folder = TemporaryDirectory(prefix="archipel-pooled-")
        terms = (plan, dict(roots), rounds, epochs, seed, threads, Path(self._folder.name))
        # As a daemon it ends with this process, even if the context is never left.
        self._process = child_processes.started(_answer, answers, *terms, daemon=True)
        answers.close()

    def result(self) -> PooledRun:
        """Its result. Raises the error of the process."""
        try:
            run, failed = self._answer.recv()
        except EOFError:
            self._process.join()
            cause = f"ended by itself (exit code {self._process.exitcode})"
            raise ArchipelError("the pooled baseline", cause, "read what it printed above") from None
        if failed is not None:
            assert isinstance(failed, ArchipelError)
            raise failed
        assert isinstance(run, PooledRun)
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.join()
        self._folder.cleanup()


def _answer(answers: Connection, *terms: Any) -> None:
    try:
        answers.send((run_pooled(*terms), None))
    except ArchipelError as error:
        answers.send((None, error))
