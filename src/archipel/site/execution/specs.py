"""What a worker of this site is started with, from the site's settings, a job and a cohort."""

from __future__ import annotations

from pathlib import Path

from archipel.data import Cohort, with_declared_columns
from archipel.site.execution import preparation
from archipel.site.gpus import GivenGpu
from archipel.site.sandbox import SandboxSpec
from archipel.site.state import StateFolder
from archipel.vocabulary import Job


def sandbox_spec(
    site: StateFolder,
    job: Job,
    cohort: Cohort,
    files: tuple[tuple[Path, str], ...],
    *,
    log: str = "",
    gpu: GivenGpu | None = None,
) -> SandboxSpec:
    """A worker of this site for a job, on the prepared files of a cohort; ``log`` names its log, ``gpu`` the GPU that
    it computes on.
    """
    return SandboxSpec(
        job=job,
        site=site.name,
        open_file=site.blobs.local,
        cohort=preparation.as_disclosed(with_declared_columns(cohort, job.needs), job.validation_fraction),
        files=files,
        limits=job.limits,
        mode=site.settings.sandbox.value,
        log_path=site.logs / f"{log or job.experiment}.log",
        state_folder=site.folder,
        uid_base=site.settings.uid_base,
        gpu=gpu,
    )
