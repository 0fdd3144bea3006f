"""Whether the model that a job says it starts from is one that the other experiment made, by this server's records."""

from __future__ import annotations

from sqlalchemy import Connection, select

from archipel.rounds import names_given
from archipel.server.experiments import views
from archipel.server.state import schema
from archipel.vocabulary import BadInput, Job, ParentModel, Thing


def check_parent(connection: Connection, job: Job) -> None:
    """Raise BadInput unless the job's lineage is true: its parent's job is here by this hash, and the initial model was
    that experiment's last or best one, as the lineage says, after the round that it names.
    """
    parent = job.lineage
    if not isinstance(parent, ParentModel):
        return
    thing, remedy = Thing("job", job.experiment), "make the job again from the model that is kept now"
    table = schema.experiments
    query = select(table.c.job, table.c.job_hash).where(table.c.experiment == parent.experiment)
    row = connection.execute(query).first()
    if row is None or row.job_hash != parent.job_hash:
        raise BadInput(thing, f"continues a job of {parent.experiment} that is not at this server", remedy)
    job_before = views.parsed_job(row.job)
    if job_before.frozen != job.frozen:
        raise BadInput(thing, f"freezes another part of the model than {parent.experiment} did", "start from a file")
    if job_before.local != job.local:
        raise BadInput(thing, f"keeps another part local than {parent.experiment} did", "start from a file")
    made = names_given(job_before, views.closed_records(connection, parent.experiment))
    if (parent.model.value, job.initial_model, parent.round) not in made:
        raise BadInput(thing, f"does not start from the model that it names ({parent})", remedy)
