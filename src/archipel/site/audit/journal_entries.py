"""What a site's journal says: for each kind of its lines the record that its body is.

``add_entry`` appends a line inside the transaction of the change that it is about.
"""

from __future__ import annotations

from sqlalchemy import Connection

from archipel.data import DataMapping
from archipel.governance import HeadFault, JournalHead
from archipel.site.audit import journal
from archipel.site.state import SiteJournalKind
from archipel.transport import DatasetSummary
from archipel.vocabulary import Failure, Hash, JsonObject, Record, RoundClosed, TaskKey
from archipel.vocabulary.packages import Packages


class JournalBody(Record):
    """What one line says. Its fields are written as they were given, those that were not given are left out."""

    def document(self) -> JsonObject:
        """The body as the journal keeps it."""
        return self.model_dump(mode="json", include=self.model_fields_set)


class PersonalBody(JournalBody):
    """A line about what a person did; ``by`` names the person, and is left out if no person did it."""

    by: str = ""


class SiteMade(JournalBody):
    """The first line: whose journal this is."""

    site: str
    identity_key: str


class Joined(JournalBody):
    """The site joined a federation; ``again``: it was a member before."""

    federation: str
    server_key: str
    again: bool


class CertificateRenewed(JournalBody):
    """The site has a new certificate."""

    site: str


class DatasetAdded(PersonalBody):
    """A dataset came into the catalog."""

    name: str
    format: str
    subjects: int


class DatasetMapped(PersonalBody):
    """A dataset has another mapping."""

    name: str
    mapping: DataMapping

    def document(self) -> JsonObject:
        """The body as the journal keeps it: a field of a mapping that a later version added only where it is used."""
        later = None if self.mapping.values else {"mapping": {"values"}}
        return self.model_dump(mode="json", include=self.model_fields_set, exclude=later)


class DatasetRemoved(PersonalBody):
    """A dataset left the catalog."""

    name: str


class DatasetsDisclosed(JournalBody):
    """What is disclosed about the datasets to the server from now on."""

    datasets: tuple[DatasetSummary, ...]

    def document(self) -> JsonObject:
        """The body as the journal keeps it: of each dataset only what is disclosed."""
        return {"datasets": [one.model_dump(mode="json", exclude_defaults=True) for one in self.datasets]}


class SubjectsExcluded(PersonalBody):
    """Subjects whose data is not usable, as tokens."""

    name: str
    subjects: tuple[str, ...]


class CohortNamed(PersonalBody):
    """A version of a dataset has a name."""

    dataset: str
    version: int
    cohort_hash: Hash
    name: str


class CohortFrozen(PersonalBody):
    """A new version of a dataset, and how many subjects it has."""

    dataset: str
    version: int
    cohort_hash: Hash
    subjects: int


class CohortReduced(JournalBody):
    """Subjects were signed out of a version: how many, and how many are left."""

    cohort_hash: Hash
    dataset: str
    version: int
    subjects: int
    left: int
    signature: str


class PatientReinstated(PersonalBody):
    """A withdrawal was a mistake; ``subject`` is a token."""

    subject: str
    dataset: str


class PatientWithdrawn(PatientReinstated):
    """A patient withdrew; ``source`` says how the site learned it."""

    source: str


class JobOffered(JournalBody):
    """The server offers an experiment."""

    experiment: str
    job_hash: Hash
    plan_hash: Hash
    asked_by: str


class JobChanged(JobOffered):
    """The server offers another job under a known name; ``was`` is the state of the offer before."""

    before: Hash
    was: str


class JobAsker(JournalBody):
    """The server names another token as the one that asks."""

    experiment: str
    asked_by: str
    before: str


class Checked(JournalBody):
    """One step of a local check of an experiment, and whether it went well."""

    experiment: str
    job_hash: Hash
    step: str
    go: bool


class PlanRead(JournalBody):
    """A person said that the plan was read, so that a check may run it on data before it is approved."""

    experiment: str
    job_hash: Hash
    dataset: str
    subjects: int
    by: str


class PackagesDisclosed(JournalBody):
    """What is disclosed to the server about the packages that a job names: each one's version, None without it."""

    experiment: str
    job_hash: Hash
    packages: Packages


class Decided(JournalBody):
    """An offer was rejected, or an approval revoked."""

    experiment: str
    by: str
    note: str


class Approved(Decided):
    """An offer was approved: the job, and the cohort it runs on."""

    job_hash: Hash
    cohort_hash: Hash
    dataset: str
    version: int
    subjects: int
    signature: str


class ExperimentEnded(JournalBody):
    """The server ended an experiment."""

    experiment: str
    how: str


class WorkerStarted(JournalBody):
    """A plan's process started in this sandbox, with the data of so many subjects."""

    experiment: str
    sandbox: str
    cohort_hash: Hash
    subjects: int


class TaskLine(TaskKey, JournalBody):
    """A line about a task; all of its key is written."""


class TaskAcceptedLine(TaskLine):
    """A task began: its hash, and the models it starts from."""

    task: Hash
    models: tuple[Hash, ...]


class TaskFailedLine(TaskLine):
    """A task failed or was refused; this is what leaves the site."""

    failure: Failure


class UpdateMade(TaskLine):
    """An update is ready to leave: the hash and the bytes of its model, and the samples it counts."""

    model: Hash | None
    samples: int
    bytes: int


class ErrorReleasedLine(TaskLine, PersonalBody):
    """A person released the full text of an error to the server; this is its hash."""

    text: Hash


class RoundSettled(RoundClosed, JournalBody):
    """The server's signed result of a round, with the head of its own journal then."""

    server_head: JournalHead


class ServerJournalFault(HeadFault, JournalBody):
    """The server's journal lost or changed lines."""


def add_entry(connection: Connection, kind: SiteJournalKind, body: JournalBody) -> None:
    """Append a line to the site's journal."""
    journal.append(connection, kind.value, body.document())
