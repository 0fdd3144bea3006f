"""The chain of experiments before one: what its model started from, what that one started from, and so on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archipel.governance import job_hash
from archipel.researcher.connection import Connection
from archipel.transport.rest import ExperimentView
from archipel.vocabulary import Job, Lineage, NotFound, ParentModel

_MOST = 100


@dataclass(frozen=True)
class Ancestor:
    """A model that was started from, and the job that made it, where the server has that job by its hash."""

    lineage: Lineage
    job: Job | None = None

    def __str__(self) -> str:
        if isinstance(self.lineage, ParentModel):
            return f"{self.lineage}, job `{self.lineage.job_hash}`"
        return f"{self.lineage}, `{self.lineage.file}`"


def ancestors(connection: Connection, job: Job) -> list[Ancestor]:
    """What the job's initial model came from, the nearest first, as far as the server has their jobs."""
    found: list[Ancestor] = []
    lineage = job.lineage
    while lineage is not None and len(found) < _MOST:
        parent = _job(connection, lineage) if isinstance(lineage, ParentModel) else None
        found.append(Ancestor(lineage, parent))
        lineage = parent.lineage if parent is not None else None
    return found


def _job(connection: Connection, parent: ParentModel) -> Job | None:
    try:
        job = connection.ask(ExperimentView, "GET", f"/v1/experiments/{parent.experiment}").job
    except NotFound:
        return None
    return job if job_hash(job) == parent.job_hash else None


def in_words(chain: Sequence[Ancestor]) -> list[str]:
    """The chain as sentences, the nearest first, and where it begins or is lost."""
    sentences = [f"{'Started' if place == 0 else 'Which started'} from {one}." for place, one in enumerate(chain)]
    if not chain or not isinstance(chain[-1].lineage, ParentModel):
        return sentences
    parent = chain[-1].lineage
    if chain[-1].job is None:
        return [*sentences, f"That job of {parent.experiment} is not at this server: what came before is not known."]
    return [*sentences, f"{parent.experiment} began with a model that its plan made."]


def earlier_sites(chain: Sequence[Ancestor]) -> tuple[str, ...]:
    """The sites that trained the model before, as far as they are known, in site order."""
    trained = (one.job for one in chain if isinstance(one.lineage, ParentModel) and one.lineage.round)
    return tuple(sorted({site for job in trained if job is not None for site in job.sites}))


def is_all_known(chain: Sequence[Ancestor]) -> bool:
    """Whether all sites that trained the model are known: no file and no unknown job is in the chain."""
    return all(one.job is not None for one in chain)
