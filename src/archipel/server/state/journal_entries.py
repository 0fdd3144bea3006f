"""What the server's journal says: the kinds of its lines, and for each kind the record that its body is.

``by`` is the ``journal_name`` of the person who did it; None where nobody did: the server itself, or a site.

``add_entry`` appends a line inside the transaction of the change that it is about. A body is written with the fields it
was given and no others, so that a field which is added later leaves the chain of older lines whole.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import Connection

from archipel.governance import Approval, HeadFault, append
from archipel.server.state.schema import journal
from archipel.transport.rest.events import StageEvent
from archipel.vocabulary import Hash, Record, Value
from archipel.vocabulary.states import ApprovalState, ExperimentState, ParticipantStatus, RoundState, Scope


class ServerJournalKind(StrEnum):
    """The kinds of lines."""

    SERVER_INITIALISED = "server-initialised"
    SITE_ENROLLED = "site-enrolled"
    SITE_REMOVED = "site-removed"
    CERTIFICATE_RENEWED = "certificate-renewed"
    CERTIFICATE_REVOKED = "certificate-revoked"
    JOIN_TOKEN_CREATED = "join-token-created"  # noqa: S105 - a kind, no secret
    JOIN_TOKEN_REVOKED = "join-token-revoked"  # noqa: S105 - a kind, no secret
    ACCESS_TOKEN_CREATED = "access-token-created"  # noqa: S105 - a kind, no secret
    ACCESS_TOKEN_REVOKED = "access-token-revoked"  # noqa: S105 - a kind, no secret
    EXPERIMENT_SUBMITTED = "experiment-submitted"
    EXPERIMENT_RUNNING = "experiment-running"
    EXPERIMENT_PAUSED = "experiment-paused"
    EXPERIMENT_ENDING = "experiment-ending"
    EXPERIMENT_FINISHED = "experiment-finished"
    EXPERIMENT_CANCELLED = "experiment-cancelled"
    SITE_APPROVED = "site-approved"
    SITE_REJECTED = "site-rejected"
    SITE_REVOKED = "site-revoked"
    ARGUMENTS_CHANGED = "arguments-changed"
    ROUND_OPENED = "round-opened"
    ROUND_CLOSED = "round-closed"
    ROUND_CANCELLED = "round-cancelled"
    UPDATE_RECEIVED = "update-received"
    SITE_FAILED = "site-failed"
    ERROR_RELEASED = "error-released"
    SITE_JOURNAL_FAULT = "site-journal-fault"
    OWN_JOURNAL_FAULT = "own-journal-fault"

    @classmethod
    def of_experiment(cls, state: ExperimentState) -> ServerJournalKind:
        """The line of an experiment that has this state now."""
        return cls(f"experiment-{state}")

    @classmethod
    def of_answer(cls, state: ApprovalState) -> ServerJournalKind:
        """The line of a site that answered so."""
        return cls(f"site-{state}")


class ServerInitialised(Record):
    """A federation began; ``ca`` is the fingerprint of its certificate authority."""

    federation: str
    server_key: str
    ca: str
    by: str


class SiteNamed(Record):
    """A site was removed."""

    site: str
    by: str


class SiteEnrolled(Record):
    """A site joined with an identity key and got a certificate."""

    site: str
    identity_key: str
    serial: str
    not_after: str


class CertificateIssued(Record):
    """A certificate was issued."""

    site: str
    serial: str
    not_after: str


class CertificateRevoked(Record):
    """A certificate ended before its time; ``by`` is None when the site itself joined again."""

    site: str
    serial: str
    reason: str
    by: str | None


class JoinTokenCreated(Record):
    """A join token was made; its secret is not here."""

    id: str
    site: str
    expires_at: str
    by: str


class JoinTokenRevoked(Record):
    """A join token ended unused."""

    id: str
    site: str
    by: str


class AccessTokenCreated(Record):
    """An access token was made; its secret is not here."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    expires_at: str
    by: str


class AccessTokenRevoked(Record):
    """An access token ended."""

    id: str
    name: str
    by: str


class ExperimentSubmitted(Record):
    """A job was submitted; ``token`` is the access token's id, ``asked_by`` its name."""

    experiment: str
    job_hash: Hash
    token: str
    sites: tuple[str, ...]
    asked_by: str


class ExperimentTurned(Record):
    """An experiment has another state; ``by`` is None when it finished or stalled by itself."""

    experiment: str
    state: ExperimentState
    reason: str | None
    by: str | None


class ExperimentEnding(Record):
    """No further round of an experiment begins, and why; ``by`` is None when its rule of patience says so."""

    experiment: str
    reason: str
    by: str | None


class AnswerKept(Record):
    """A site's answer, with the signed approval; of one that ended with a membership, why and by whom."""

    experiment: str
    site: str
    state: ApprovalState
    job_hash: Hash | None = None
    approval: Approval | None = None
    reason: str | None = None
    by: str | None = None


class ArgumentsKept(Record):
    """The hyper-parameters of the rounds to come."""

    experiment: str
    arguments: dict[str, Value]
    by: str


class AttemptOpened(StageEvent):
    """An attempt at an exchange began."""

    arguments: dict[str, Value]
    model: Hash
    sites: tuple[str, ...]


class AttemptClosed(StageEvent):
    """An attempt at an exchange ended."""

    state: RoundState
    contributors: tuple[str, ...]
    model: Hash | None
    others: dict[str, ParticipantStatus]


class AttemptCancelled(StageEvent):
    """An attempt at an exchange was cancelled while it was open."""

    sites: tuple[str, ...]


class JournalFault(HeadFault):
    """Two heads of one journal that cannot both be true, and the site that showed the second."""

    site: str


def add_entry(connection: Connection, kind: ServerJournalKind, body: Record) -> None:
    """Append a line to the server's journal."""
    append(connection, journal, kind.value, body.model_dump(mode="json", exclude_unset=True))
