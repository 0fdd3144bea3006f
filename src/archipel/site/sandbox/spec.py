"""What a worker is for and what it may use; how one of its tasks fails."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from archipel.data import Cohort
from archipel.site.gpus import GivenGpu
from archipel.site.sandbox import output
from archipel.vocabulary import Failure, Job, WorkerLimits

NO_SANDBOX = "none-i-accept-the-risk"


class WorkerTaskFailed(Exception):
    """A task failed in the worker. ``failure`` may leave the site, ``detail`` may not.

    ``told``: the worker itself reported the failure and can continue.
    """

    def __init__(self, failure: Failure, detail: str, *, told: bool = False) -> None:
        super().__init__(str(failure))
        self.failure, self.detail, self.told = failure, detail, told


@dataclass(frozen=True)
class SandboxSpec:
    """One worker. ``files`` are the prepared ones of ``cohort``, each with the name the worker knows it by.

    ``open_file`` gives a local copy of a plan's file, by its hash, for as long as it is read, as ``BlobStore.local``
    does; ``state_folder``, the site's own, must never be visible to it; ``prepare_wall_s`` in seconds;
    ``log_bytes`` of its log file, and of the one before it. ``gpu``: the one it computes on; None for the CPU.
    """

    job: Job
    site: str
    open_file: Callable[[str], AbstractContextManager[Path]]
    cohort: Cohort
    files: tuple[tuple[Path, str], ...]
    limits: WorkerLimits
    mode: str
    log_path: Path
    state_folder: Path
    uid_base: int = 200_000
    prepare_wall_s: float = 3600.0
    log_bytes: int = output.LIMIT
    gpu: GivenGpu | None = None
