"""What a job names, from the server and proven by the hashes that the sites approved: its plan, parts of its model."""

from __future__ import annotations

from archipel.plans.packaging import PackagedPlan, declared
from archipel.researcher.connection import Connection
from archipel.researcher.model_files import check_bytes
from archipel.vocabulary import Job, Thing


def plan_of(connection: Connection, path: str, job: Job) -> PackagedPlan:
    """The plan of the experiment at this path of the server. Raises BadInput for files that are not the job's."""
    return declared(job.plan, [(place, _blob(connection, path, job.plan.files[place])) for place in job.plan.paths])


def frozen_part(connection: Connection, path: str, job: Job) -> bytes | None:
    """The tensor file of the model's frozen part, None where no part is frozen. Raises ArchipelError (code trust)."""
    if job.frozen is None:
        return None
    data = _blob(connection, path, job.frozen.blob)
    check_bytes(Thing("frozen part of the model", job.experiment), data, job.frozen.blob)
    return data


def local_part(connection: Connection, path: str, job: Job) -> bytes | None:
    """The tensor file of the initial values of the model's local part, None where no part is local; those of the sites
    are nowhere else. Raises ArchipelError (code trust).
    """
    if job.local is None:
        return None
    data = _blob(connection, path, job.local.blob)
    check_bytes(Thing("local part of the model", job.experiment), data, job.local.blob)
    return data


def _blob(connection: Connection, path: str, blob: str) -> bytes:
    return connection.download(f"{path}/blobs/{blob}")
