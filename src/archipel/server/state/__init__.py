"""The server's state folder: settings, keys, database and its schema.

It opens what the other packages of the server work on; it makes no decision and knows none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archipel.lazy import lazy_names

if TYPE_CHECKING:
    from archipel.server.state import schema
    from archipel.server.state.folder import ServerState
    from archipel.server.state.journal_entries import (
        AccessTokenCreated,
        AccessTokenRevoked,
        AnswerKept,
        ArgumentsKept,
        AttemptCancelled,
        AttemptClosed,
        AttemptOpened,
        CertificateIssued,
        CertificateRevoked,
        ExperimentEnding,
        ExperimentSubmitted,
        ExperimentTurned,
        JoinTokenCreated,
        JoinTokenRevoked,
        JournalFault,
        ServerInitialised,
        ServerJournalKind,
        SiteEnrolled,
        SiteNamed,
        add_entry,
    )
    from archipel.server.state.limits import ServerLimits
    from archipel.server.state.settings import ServerSettings, listening_address
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "folder": ["ServerState"],
            "journal_entries": [
                "AccessTokenCreated",
                "AccessTokenRevoked",
                "AnswerKept",
                "ArgumentsKept",
                "AttemptCancelled",
                "AttemptClosed",
                "AttemptOpened",
                "CertificateIssued",
                "CertificateRevoked",
                "ExperimentEnding",
                "ExperimentSubmitted",
                "ExperimentTurned",
                "JoinTokenCreated",
                "JoinTokenRevoked",
                "JournalFault",
                "ServerJournalKind",
                "ServerInitialised",
                "SiteEnrolled",
                "SiteNamed",
                "add_entry",
            ],
            "limits": ["ServerLimits"],
            "settings": ["ServerSettings", "listening_address"],
        },
        modules=["schema"],
    )

__all__ = [
    "AccessTokenCreated",
    "AccessTokenRevoked",
    "AnswerKept",
    "ArgumentsKept",
    "AttemptCancelled",
    "AttemptClosed",
    "AttemptOpened",
    "CertificateIssued",
    "CertificateRevoked",
    "ExperimentEnding",
    "ExperimentSubmitted",
    "ExperimentTurned",
    "JoinTokenCreated",
    "JoinTokenRevoked",
    "JournalFault",
    "ServerInitialised",
    "ServerJournalKind",
    "ServerLimits",
    "ServerSettings",
    "ServerState",
    "SiteEnrolled",
    "SiteNamed",
    "add_entry",
    "listening_address",
    "schema",
]
