"""Which model a job starts from, in words, and whether this site can know that it is so.

A site that took part in the experiment which the job continues has the server's signed results of its rounds in its
journal. A job that contradicts them is not approved.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from pydantic import ValidationError
from sqlalchemy import Connection, select

from archipel.site.audit import RoundSettled
from archipel.site.state import SiteJournalKind, schema
from archipel.vocabulary import Hash, Job, ModelFile, OptimiserState, ParentModel, TaskKind

_rows, _journal = schema.experiments, schema.journal


class Evidence(StrEnum):
    """What this site knows of the model that a job says it continues."""

    CONFIRMED = "confirmed"
    CONTRADICTED = "contradicted"
    NO_RESULT = "no-result"
    UNKNOWN_JOB = "unknown-job"


_WORDS = {
    Evidence.CONFIRMED: "This site can prove that it is this model, by {proof}.",
    Evidence.CONTRADICTED: "WARNING: this is not true, by {proof}.",
    Evidence.NO_RESULT: "This site has that job but no signed result of that round, so it cannot know whether it is "
    "this model.",
    Evidence.UNKNOWN_JOB: "This site does not have that job, so it cannot know whether this is true.",
}


class Finding(NamedTuple):
    """What this site knows of a lineage, and by what."""

    evidence: Evidence
    proof: str = ""


def find_evidence(connection: Connection, job: Job, parent: ParentModel) -> Finding:
    """Whether the model that the job starts from, all parts of it, is the one that its lineage names, as far as this
    site knows.
    """
    known = _known_job(connection, parent)
    by_job = "the job with this hash, which this site has"
    if known is not None and (known.experiment != parent.experiment or parent.round > known.terms.rounds):
        return Finding(Evidence.CONTRADICTED, by_job)
    if known is not None and known.frozen != job.frozen:
        return Finding(Evidence.CONTRADICTED, f"{by_job} and which freezes another part of the model")
    if known is not None and known.local != job.local:
        return Finding(Evidence.CONTRADICTED, f"{by_job} and which keeps another part of the model local")
    started = set() if known is None else {known.initial_model}
    models = _models_made(connection, parent) if parent.round else started
    if not models:
        return Finding(Evidence.UNKNOWN_JOB if known is None else Evidence.NO_RESULT)
    proof = f"the server's signed result of round {parent.round}" if parent.round else by_job
    if job.initial_model not in models:
        return Finding(Evidence.CONTRADICTED, proof)
    # A result says nothing of what is frozen or local: only the job before does.
    is_half_known = known is None and (job.frozen is not None or job.local is not None)
    return Finding(Evidence.UNKNOWN_JOB) if is_half_known else Finding(Evidence.CONFIRMED, proof)


def starts_from(connection: Connection, job: Job) -> str:
    """Where the job's model came from, for the person who decides; empty where the job names nothing but its plan."""
    lineage = job.lineage
    if lineage is None:
        return ""
    if isinstance(lineage, ModelFile):
        return f"From {lineage} ({lineage.file}). This site cannot know what it was trained on."
    found = find_evidence(connection, job, lineage)
    words = f"It continues {lineage}, of job {lineage.job_hash}. {_WORDS[found.evidence].format(proof=found.proof)}"
    if job.optimiser_state is OptimiserState.CONTINUE_LOCAL:
        words += " The state that an optimiser kept here then is not taken over."
    if job.local is not None:
        words += " The local part that was trained here then is not taken over either: it begins again."
    return words


def lineage_against(connection: Connection, job: Job) -> list[str]:
    """The reason against a job whose lineage is not true by what this site has."""
    lineage = job.lineage
    if not isinstance(lineage, ParentModel):
        return []
    found = find_evidence(connection, job, lineage)
    if found.evidence is not Evidence.CONTRADICTED:
        return []
    return [f"it says that it continues {lineage}, which is not true, by {found.proof}"]


def _known_job(connection: Connection, parent: ParentModel) -> Job | None:
    found = connection.scalar(select(_rows.c.job).where(_rows.c.job_hash == parent.job_hash))
    return None if found is None else Job.model_validate_json(found)


def _models_made(connection: Connection, parent: ParentModel) -> set[Hash]:
    """What the round made by the server's signed results. A server that was restored may have signed two."""
    lines = select(_journal.c.body).where(
        _journal.c.kind == SiteJournalKind.ROUND_CLOSED, _journal.c.body.contains(parent.job_hash)
    )
    made: set[Hash] = set()
    for text in connection.scalars(lines):
        try:
            closed = RoundSettled.model_validate_json(text)
        except ValidationError:
            # A damaged line is reported by `journal verify`; it says nothing here.
            continue
        of_round = (closed.job_hash, closed.kind, closed.round) == (parent.job_hash, TaskKind.TRAIN, parent.round)
        if of_round and closed.committed and closed.model is not None:
            made.add(closed.model)
    return made
