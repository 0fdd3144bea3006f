"""The account of a round: whether an update may count, what became of each site, and sums over those that did."""

from __future__ import annotations

from archipel.governance import record_hash
from archipel.privacy import steps_of
from archipel.rounds.experiment_store import Opened, SiteRecord, StageRecord
from archipel.vocabulary import (
    UPDATE_FIELDS,
    BadInput,
    ErrorCode,
    Job,
    MetricSum,
    Release,
    Task,
    TaskKind,
    Update,
)
from archipel.vocabulary.states import ParticipantStatus

LARGEST_COUNT = 2**53
"""Counts below this are exact as float64 and as JSON; a larger one counts nothing real, and sums could overflow."""


def check_releases(job: Job) -> None:
    """Raise BadInput for a job whose updates may leave only within a sum: there is not such a way out of a site yet.

    And for privacy steps that are not known here.
    """
    steps_of(job)
    summed = [field for field in UPDATE_FIELDS if job.release_of(field) is Release.SUM]
    if summed:
        cause = f"lets {', '.join(summed)} leave only in a sum, and no way to sum without seeing each site's is there"
        raise BadInput(f"job {job.experiment}", cause, "set privacy.release to individually")


def check_what_leaves(job: Job, update: Update) -> None:
    """Raise BadInput when a field of an update is filled that may leave its site only within a sum.

    Called where a site makes an update and where a server takes one.
    """
    filled = {
        "model": update.model is not None,
        "samples": update.samples > 0,
        "metrics": bool(update.metrics),
        "validation": bool(update.validation),
    }
    for field, given in filled.items():
        if given and job.release_of(field) is Release.SUM:
            thing, cause = f"update of {update.site} for {update.key}", f"{field} may leave a site only in a sum"
            raise BadInput(thing, cause, "set privacy.release to individually in a new job", code=ErrorCode.BAD_UPDATE)


def check_update(job: Job, task: Task, update: Update, has_file: bool) -> None:
    """Raise BadInput unless the update answers the task in the job's terms."""
    thing = f"update of {update.site} for {update.key}"
    if update.task_hash != record_hash(task):
        raise BadInput(thing, "answers another task", "send the update of this task", code=ErrorCode.BAD_UPDATE)
    check_what_leaves(job, update)
    trained = task.key.kind is not TaskKind.EVALUATE
    if trained != has_file or (trained and update.samples == 0):
        raise BadInput(thing, "has no model or no samples", "train on at least one sample", code=ErrorCode.BAD_UPDATE)
    if update.samples >= LARGEST_COUNT:
        raise BadInput(thing, "counts more samples than can be", "count each once", code=ErrorCode.BAD_UPDATE)
    declared = {metric.name for metric in job.metrics} | {name for step in steps_of(job) for name in step.metrics}
    for given, known in ((update.metrics, declared), (update.validation, {metric.name for metric in job.validation})):
        unknown = sorted(set(given) - known)
        if unknown:
            raise BadInput(thing, f"metric {unknown[0]} is not in the job", "send the job's", code=ErrorCode.BAD_UPDATE)
        for name, value in given.items():
            if not value.adds_up:
                cause = f"metric {name} is out of the bounds within which sites add up to a finite mean"
                raise BadInput(thing, cause, "fix it", code=ErrorCode.BAD_UPDATE)


def stage_record(
    opened: Opened, committed: bool, contributors: list[str], model: str | None, seconds: float
) -> StageRecord:
    """What became of an attempt that closes now; ``model`` is the hash of the one it made, if any."""
    sites = {}
    for site, state in opened.sites.items():
        update = opened.updates.get(site) if state is ParticipantStatus.DELIVERED else None
        sites[site] = SiteRecord(
            state=state,
            samples=update.samples if update else 0,
            seconds=update.seconds if update else 0.0,
            bytes_up=update.model_bytes if update else 0,
            metrics=update.metrics if update else {},
            validation=update.validation if update else {},
            failure=opened.failures.get(site),
        )
    counted = [sites[site] for site in contributors]
    return StageRecord(
        stage=opened.stage,
        attempt=opened.attempt,
        committed=committed,
        seconds=seconds,
        contributors=tuple(contributors),
        sites=sites,
        metrics=pooled([site.metrics for site in counted]),
        validation=pooled([site.validation for site in counted]),
        model=model,
    )


def pooled(parts: list[dict[str, MetricSum]]) -> dict[str, MetricSum]:
    """The sum of each metric over the sites that reported it."""
    total: dict[str, MetricSum] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total[name] + value if name in total else value
    return total
