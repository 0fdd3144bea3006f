"""The states in which rows of a site's database may be, as its columns hold them."""

from __future__ import annotations

from enum import StrEnum


class OfferState(StrEnum):
    """The state of an experiment at this site."""

    OFFERED = "offered"
    APPROVED = "approved"
    REJECTED = "rejected"
    REVOKED = "revoked"
    ENDED = "ended"


class SiteTaskState(StrEnum):
    """The state of a task at this site."""

    ACCEPTED = "accepted"
    DONE = "done"
    SENT = "sent"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"
    """The server withdrew it before there was an update; its plan does not run again in this attempt."""
    CLOSED = "closed"
    """Its round is closed, and the site's update counted."""
    ROLLED_BACK = "rolled-back"
    """Its round is closed, and the site's update did not count."""
