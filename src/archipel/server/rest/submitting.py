"""Who may submit a job that names a blob or a model of another experiment."""

from __future__ import annotations

from fastapi import Request

from archipel.governance import job_hash
from archipel.server.membership import AccessToken
from archipel.server.rest.context import context_of
from archipel.server.rest.permission import may_download, may_name
from archipel.vocabulary import ArchipelError, Job, NotFound, NotPermitted, ParentModel, Thing


async def check_submission(request: Request, job: Job, token: AccessToken) -> None:
    """Raise NotPermitted when the token may not download the model that the job continues, or did not send a blob that
    it names; NotFound when the experiment that it continues is not here.

    The models of an experiment can be downloaded by the researcher who asked for it, and its initial model is one of
    them. So a job that may name any hash would be a way to any model.
    """
    try:
        if isinstance(job.lineage, ParentModel):
            await may_download(request, job.lineage.experiment, token)
            blobs = job.blobs - {job.initial_model}
        else:
            blobs = job.blobs
        for blob in sorted(blobs):
            if not await may_name(request, blob, token):
                raise NotPermitted(
                    Thing("job", job.experiment),
                    f"names {blob}, which this access token did not send",
                    "send it first, then submit the job again",
                    values={"blob": blob},
                )
    except ArchipelError:
        # The same job again changes nothing, so nothing has to be sent again for it.
        if not await _is_known(request, job):
            raise


async def _is_known(request: Request, job: Job) -> bool:
    try:
        known = await context_of(request).experiments.get(job.experiment)
    except NotFound:
        return False
    return known.job_hash == job_hash(job)
