"""REST documents about a federation: its sites, stored blobs, and join tokens."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from archipel.transport.messages import DatasetSummary
from archipel.transport.rest.reply import Reply
from archipel.vocabulary import Record, SiteName
from archipel.vocabulary.packages import Packages


class FederationView(Reply):
    """Which federation this is; ``server_key`` goes into jobs."""

    name: str
    server_key: str
    version: str
    time: str


class SiteView(Reply):
    """A site as a researcher sees it: counts and schema of its datasets, never rows.

    ``packages`` are those that were asked about and that the site said something of, in answer to any job, with the
    version it said last, None for one that it lacked.
    """

    site: str
    identity_key: str
    connected: bool
    last_seen: str | None = None
    datasets: tuple[DatasetSummary, ...] = ()
    packages: Packages = {}


class BlobView(Reply):
    """A stored blob."""

    hash: str
    bytes: int


class JoinTokenOrder(Record):
    """A join token for one site; ``hours`` until it expires."""

    site: SiteName
    hours: Annotated[float, Field(gt=0)] | None = None


class JoinTokenIssued(Reply):
    """The token, shown this once."""

    id: str
    site: str
    token: str


class Revocation(Record):
    """Why a certificate is revoked."""

    reason: Annotated[str, Field(min_length=1, max_length=500)]


class Health(Reply):
    """Whether the server runs and reaches its database."""

    status: str
    database: bool
    time: str
