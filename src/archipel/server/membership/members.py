"""What an operator does for members, from REST and from the command line alike: list sites, issue tokens."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from archipel.server.membership.authority import Authority
from archipel.server.membership.enrolment import Enrolment
from archipel.server.membership.registry import CertificateRow, MemberRegistry, Site
from archipel.server.membership.tokens import AccessTokens
from archipel.server.state import ServerSettings, ServerState
from archipel.transport.enrolment import JoinToken
from archipel.transport.wakeup import wake
from archipel.vocabulary import Actor, Record
from archipel.vocabulary.states import Scope


class Member(Site):
    """A site, and whether it is connected: None while no server runs that would know."""

    connected: bool | None


class IssuedJoinToken(Record):
    """A join token, shown this once; ``rejoins``: the site is enrolled, and its older certificates will end."""

    token: JoinToken
    expires_at: str
    rejoins: bool


class IssuedAccessToken(Record):
    """An access token's text, shown this once, and where it is good: the server's address and its CA's fingerprint."""

    token: str
    id: str
    scopes: tuple[Scope, ...]
    expires_at: str
    url: str
    ca: str


def list_members(registry: MemberRegistry, connected: Collection[str] | None, *, removed: bool = False) -> list[Member]:
    """Enrolled sites by name, and with ``removed`` the removed ones too."""
    return [
        Member(**dict(site), connected=None if connected is None else site.site in connected)
        for site in registry.sites(removed=removed)
    ]


def remove_site(registry: MemberRegistry, state: ServerState, site: str, *, by: Actor) -> None:
    """End a site's membership and have the serving process, if one runs, cut its connection. Raises NotFound."""
    registry.remove_site(site, by=by)
    wake(state.root)


def revoke_certificate(
    registry: MemberRegistry, state: ServerState, serial: str, reason: str, *, by: Actor
) -> CertificateRow:
    """End a certificate, and have the serving process, if one runs, close connections that use it. Raises as the
    registry does.
    """
    revoked = registry.revoke_certificate(serial, reason, by=by)
    wake(state.root)
    return revoked


def issue_join_token(
    enrolment: Enrolment, registry: MemberRegistry, site: str, hours: float | None, now: datetime, *, by: Actor
) -> IssuedJoinToken:
    """A token with which one site may join once. Raises BadInput for a bad name or time."""
    token = enrolment.create_token(site, None if hours is None else timedelta(hours=hours), now, by=by)
    enrolled = {known.site for known in registry.sites()}
    return IssuedJoinToken(token=token, expires_at=enrolment.row(token.id).expires_at, rejoins=site in enrolled)


def issue_access_token(
    tokens: AccessTokens,
    settings: ServerSettings,
    authority: Authority,
    name: str,
    scopes: Collection[str],
    days: float | None,
    now: datetime,
    *,
    by: Actor,
) -> IssuedAccessToken:
    """A token for a person or program. Raises BadInput for an unknown scope, a bad name or time."""
    lifetime = timedelta(days=settings.access_token_days if days is None else days)
    text, made = tokens.create(name, scopes, lifetime, now, by=by)
    return IssuedAccessToken(
        token=text,
        id=made.id,
        scopes=made.scopes,
        expires_at=made.expires_at,
        url=settings.rest_url,
        ca=authority.fingerprint,
    )
