"""The states in which rows of a site's database may be, as its columns hold them."""

from __future__ import annotations

from enum import StrEnum


class OfferState(StrEnum):
    """Where an experiment stands at this site."""

    OFFERED = "offered"
    APPROVED = "approved"
    REJECTED = "rejected"
    REVOKED = "revoked"
    ENDED = "ended"


class SiteTaskState(StrEnum):
    """Where a task stands at this site."""

    ACCEPTED = "accepted"
    DONE = "done"
    SENT = "sent"
    FAILED = "failed"
    CLOSED = "closed"
    """Its round is closed, and the server counted what this site made."""
    ROLLED_BACK = "rolled-back"
    """Its round is closed, and the server did not count what this site made."""
