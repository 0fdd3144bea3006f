"""Which blobs a site may fetch: plans that it is asked about, and models of experiments that it has approved."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select

from archipel.rounds.named_models import MEMORY
from archipel.server.experiments.views import parsed_job
from archipel.server.state import schema
from archipel.storage import Database, Statement
from archipel.vocabulary import Job, Task
from archipel.vocabulary.states import ApprovalState, ExperimentState, TaskState

_experiments, _approvals, _models, _updates = schema.experiments, schema.approvals, schema.models, schema.updates
# Composed once: each site asks for each round's model.
_JOBS = Statement(select(_experiments.c.experiment, _experiments.c.job, _experiments.c.state))
_ANSWER = Statement(
    select(_approvals.c.state).where(
        _approvals.c.experiment == bindparam("named"), _approvals.c.site == bindparam("site")
    )
)
_KEPT = Statement(
    select(_models.c.hash).where(_models.c.experiment == bindparam("named"), _models.c.name.not_like(f"{MEMORY}%"))
)
_OFFERED = Statement(
    select(_updates.c.task)
    .where(_updates.c.experiment == bindparam("named"), _updates.c.state == TaskState.OFFERED)
    .distinct()
)


def experiment_for(database: Database, site: str, blob: str) -> str | None:
    """The experiment for which the site may have this blob, or None.

    A site of the roster may read the plan before it decides, and models once it has approved.
    """
    with database.read() as connection:
        for row in _JOBS.rows(connection):
            job = parsed_job(row["job"])
            if site not in job.sites or ExperimentState(row["state"]).is_over:
                continue
            if blob in job.plan.files.values():
                return job.experiment
            answer = _ANSWER.scalar(connection, {"named": job.experiment, "site": site})
            if answer == ApprovalState.APPROVED and _is_in_use(connection, job, blob):
                return job.experiment
    return None


def _is_in_use(connection: Connection, job: Job, blob: str) -> bool:
    """Whether it is one of the job's blobs to start from, a kept model, or named by a task that is on offer."""
    named = {"named": job.experiment}
    if blob in job.starting_blobs or blob in set(_KEPT.each(connection, named)):
        return True
    return any(blob in Task.model_validate_json(text).models for text in _OFFERED.each(connection, named))
