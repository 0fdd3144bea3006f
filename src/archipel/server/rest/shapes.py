"""The shapes of REST bodies that are not already records of the vocabulary; they document the interface too."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from archipel.transport.messages import DatasetSummary
from archipel.vocabulary import Job, Record, SiteName, Value
from archipel.vocabulary.bounds import MOST_PARAMETERS


class Problem(Record):
    """Every error: a code for programs; what, why and what to do for people."""

    code: str
    thing: str
    cause: str
    remedy: str


class FederationView(Record):
    """Which federation this is; ``server_key`` goes into jobs."""

    name: str
    server_key: str
    version: str
    time: str


class SiteView(Record):
    """A site as a researcher sees it: counts and schema of its datasets, never rows."""

    site: str
    identity_key: str
    connected: bool
    last_seen: str | None
    datasets: tuple[DatasetSummary, ...]


class BlobView(Record):
    """A stored blob."""

    hash: str
    bytes: int


class Submission(Record):
    """A job to keep and to ask its sites about."""

    job: Job


Given = Annotated[dict[str, Value], Field(max_length=MOST_PARAMETERS)]


class Arguments(Record):
    """Hyper-parameters to change."""

    arguments: Given


class _Open(BaseModel):
    """A shape that an experiment's record may extend; what is named here is always there."""

    model_config = ConfigDict(frozen=True, extra="allow")


class ExperimentView(_Open):
    """An experiment and where it stands."""

    experiment: str
    state: str


class RoundView(_Open):
    """A round's record."""

    round: int
    attempt: int
    state: str


class EventView(Record):
    """One event, as the event stream sends it too."""

    seq: int
    at: str
    kind: str
    body: dict[str, Any]


class ModelView(_Open):
    """A kept model."""

    name: str
    round: int
    hash: str


class JoinTokenOrder(Record):
    """A join token for one site; ``hours`` until it expires."""

    site: SiteName
    hours: Annotated[float, Field(gt=0)] | None = None


class JoinTokenIssued(Record):
    """The token, shown this once."""

    id: str
    site: str
    token: str


class Revocation(Record):
    """Why a certificate is revoked."""

    reason: Annotated[str, Field(min_length=1, max_length=500)]


class Health(Record):
    """Whether the server lives and reaches its database."""

    status: str
    database: bool
    time: str
