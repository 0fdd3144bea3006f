"""Who belongs to the federation: the certificate authority, enrolment, the registry of sites, and access tokens.

It knows the state folder. It knows nothing of experiments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archipel.lazy import lazy_names

if TYPE_CHECKING:
    from archipel.server.membership.authority import Authority
    from archipel.server.membership.enrolment import JoinTokenRow
    from archipel.server.membership.federation import ServerContext
    from archipel.server.membership.members import (
        issue_access_token,
        issue_join_token,
        list_members,
        remove_site,
        revoke_certificate,
    )
    from archipel.server.membership.registry import CertificateRow, MemberRegistry
    from archipel.server.membership.tokens import AccessToken
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "authority": ["Authority"],
            "enrolment": ["JoinTokenRow"],
            "federation": ["ServerContext"],
            "members": ["issue_access_token", "issue_join_token", "list_members", "remove_site", "revoke_certificate"],
            "registry": ["CertificateRow", "MemberRegistry"],
            "tokens": ["AccessToken"],
        },
    )

__all__ = [
    "AccessToken",
    "Authority",
    "CertificateRow",
    "JoinTokenRow",
    "MemberRegistry",
    "ServerContext",
    "issue_access_token",
    "issue_join_token",
    "list_members",
    "remove_site",
    "revoke_certificate",
]
