"""A site's rules for every job, as a pure decision: what no rule allows is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from archipel.vocabulary import GpuTerms, Job, Record, Release, WorkerLimits

MINIMUM_CELL = 5
"""A count of patients below it is not disclosed, unless a site's policy says otherwise."""


class SitePolicy(Record):
    """What this site lets a job ask for, whatever a person approves.

    ``releases``: how an update may leave. The limits are the most a job's worker may use here. ``minimum_cell``: a
    smaller count of subjects is disclosed as ``<5``, never as its number, and how much a metric differs between fewer
    patients is not disclosed. ``maximum_reported_bytes``: the most that may leave in one attempt beside the
    weights. ``disclose_packages``: whether the site discloses which of the packages that a job names it has.
    ``maximum_gpu_memory_mb``: the most memory of a GPU that a job may ask for, in 2**20 bytes.
    """

    releases: tuple[Release, ...] = (Release.SUM, Release.INDIVIDUALLY)
    minimum_subjects: Annotated[int, Field(ge=1)] = 2
    minimum_cell: Annotated[int, Field(ge=1)] = MINIMUM_CELL
    maximum_rounds: Annotated[int, Field(ge=1)] = 10_000
    maximum_reported_bytes: Annotated[int, Field(ge=1)] = 512
    disclose_packages: bool = True
    maximum_gpu_memory_mb: Annotated[int, Field(ge=0)] = 16_384
    limits: WorkerLimits = WorkerLimits(
        memory_mb=16_384, cpu_s=86_400, wall_s=86_400, tmp_mb=4_096, processes=256, threads=64
    )


def objections(
    job: Job, policy: SitePolicy, subjects: int, strategy_needs: Release | None, reported: int = 0, gpus: int = 0
) -> list[str]:
    """Why this site will not run the job with a cohort of ``subjects``: one sentence each, none if the job is allowed.

    ``reported`` is how many bytes of information can leave in one attempt beside the weights; ``gpus`` how many GPUs
    the site's owner named.

    ``strategy_needs`` is what must leave the sites for the job's strategy to work, None if the site does not know
    the strategy; it matters if only sums may leave.
    """
    against: list[str] = []
    if job.privacy.release not in policy.releases:
        against.append(f"updates would leave {job.privacy.release}; the policy allows {_listed(policy.releases)}")
    if job.privacy.release is Release.SUM and strategy_needs is None:
        against.append(f"only sums may leave, and strategy {job.strategy.name} is not known here")
    if job.privacy.release is Release.SUM and strategy_needs is Release.INDIVIDUALLY:
        against.append(f"only sums may leave, and strategy {job.strategy.name} needs each site's own update")
    if subjects < policy.minimum_subjects:
        against.append(f"the cohort has {subjects} subjects; the policy asks for {policy.minimum_subjects}")
    if subjects < job.needs.minimum_subjects:
        against.append(f"the cohort has {subjects} subjects; the plan needs {job.needs.minimum_subjects}")
    if job.terms.rounds > policy.maximum_rounds:
        against.append(f"the job has {job.terms.rounds} rounds; the policy allows {policy.maximum_rounds}")
    if reported > policy.maximum_reported_bytes:
        against.append(
            f"an update could carry {reported} bytes of information beside the weights; the policy allows "
            f"{policy.maximum_reported_bytes} (maximum_reported_bytes): report fewer metrics"
        )
    for name, most in policy.limits.model_dump().items():
        asked = getattr(job.limits, name)
        if asked > most:
            against.append(f"the job asks for {name}={asked}; the policy allows {most}")
    return [*against, *_about_gpu(job.gpu, policy, gpus)]


def _about_gpu(asked: GpuTerms | None, policy: SitePolicy, gpus: int) -> list[str]:
    if asked is None:
        return []
    if asked.required and not gpus:
        return [
            "the job needs a GPU, and this site's owner named none: name one with archipel site gpu add, or ask the "
            "researcher for a job that runs on the CPU too"
        ]
    if gpus and asked.memory_mb > policy.maximum_gpu_memory_mb:
        return [
            f"the job asks for {asked.memory_mb} MiB of a GPU's memory; the policy allows "
            f"{policy.maximum_gpu_memory_mb} (maximum_gpu_memory_mb)"
        ]
    return []


def _listed(values: Sequence[object]) -> str:
    return ", ".join(str(value) for value in values) or "none"
