"""Endpoints about membership: sites enrol, readers see the federation and its sites, operators admit and remove."""

from __future__ import annotations

from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from archipel.governance import JournalHead
from archipel.governance.journal import JournalEntry
from archipel.server.experiments import last_said, own_journal
from archipel.server.membership import CertificateRow, JoinTokenRow, issue_join_token, list_members
from archipel.server.rest.bodies import body_of, described, read_body
from archipel.server.rest.context import connection_of, context_of
from archipel.server.rest.permission import Operator, Reader, address_of, check_attempts
from archipel.server.rest.problems import CutOff
from archipel.transport.connections import join_token_caller
from archipel.transport.enrolment import ENROLMENT_HEADER, AuthorityReply, EnrolmentReply, EnrolmentRequest
from archipel.transport.rest import (
    FederationView,
    Health,
    JoinTokenIssued,
    JoinTokenOrder,
    Revocation,
    SiteView,
)
from archipel.version import VERSION
from archipel.vocabulary import ArchipelError, BadInput, ErrorCode
from archipel.vocabulary.bounds import MOST_PACKAGES
from archipel.vocabulary.packages import PackageName

_log = structlog.get_logger("archipel.rest")
_HEADER = "The id of the join token; a body is awaited only from those who name an open one."

enrolment = APIRouter(prefix="/v1/enrolment", tags=["enrolment"])
reading = APIRouter(prefix="/v1", tags=["federation"])
operating = APIRouter(prefix="/v1", tags=["operation"])


@enrolment.get("/authority", summary="The federation's CA certificate and the server's time")
def authority(request: Request) -> AuthorityReply:
    """Fetched without trust; the caller compares its fingerprint with the one in the join token."""
    context = context_of(request)
    return AuthorityReply(ca=context.federation.authority.pem, time=context.now().isoformat())


def _named(
    request: Request, token: Annotated[str, Header(alias=ENROLMENT_HEADER, max_length=64, description=_HEADER)] = ""
) -> str:
    """The caller that the request's join token is. Nobody else's body is awaited, and nobody else's failures count
    against it: those who know no token of this server fail by their address.
    """
    context = context_of(request)
    try:
        if not token:
            cause = f"is not named in the header {ENROLMENT_HEADER}"
            raise ArchipelError("join token", cause, "update Archipel at the site", code=ErrorCode.TOKEN)
        context.federation.enrolment.check_open(token, context.now())
    except ArchipelError:
        stranger = f"address {address_of(request)}"
        check_attempts(request, stranger)
        context.enrolment_attempts.failed(stranger, context.now())
        raise
    caller = join_token_caller(token)
    check_attempts(request, caller)
    connection_of(request).caller = caller
    return caller


async def _asked(request: Request, caller: Annotated[str, Depends(_named)]) -> EnrolmentRequest:
    """Who asks to be enrolled; a body that is not such a request is a failed attempt."""
    try:
        wanted = await read_body(request, EnrolmentRequest)
        if join_token_caller(wanted.id) != caller:
            raise BadInput("body", "names another join token than the header", f"send its id as {ENROLMENT_HEADER}")
    except CutOff:
        # Not counted: it may be this server that ended the connection, in favour of another one.
        raise
    except (ArchipelError, HTTPException):
        context = context_of(request)
        context.enrolment_attempts.failed(caller, context.now())
        raise
    return wanted


@enrolment.post("", summary="Enrol a site with a join token", openapi_extra=described(EnrolmentRequest))
def enrol(
    request: Request,
    caller: Annotated[str, Depends(_named)],
    wanted: Annotated[EnrolmentRequest, Depends(_asked)],
) -> EnrolmentReply:
    """The token is used up exactly when this answers with a certificate."""
    context = context_of(request)
    try:
        reply = context.federation.enrolment.enrol(wanted, context.now())
    except ArchipelError as error:
        _log.warning("enrolment refused", address=address_of(request), site=wanted.site, error=str(error))
        context.enrolment_attempts.failed(caller, context.now())
        raise
    context.changed()
    return reply


@reading.get("/health", tags=["health"], summary="Whether the server runs and reaches its database")
def health(request: Request, response: Response) -> Health:
    """Needs no token and discloses nothing else. Status 503 when the database cannot be reached."""
    context = context_of(request)
    try:
        with context.federation.database.read() as connection:
            connection.execute(text("SELECT 1"))
        reached = True
    except SQLAlchemyError as error:
        _log.error("the database cannot be reached", error=str(error))
        reached = False
        response.status_code = 503
    return Health(status="ok" if reached else "degraded", database=reached, time=context.now().isoformat())


@reading.get("/federation", summary="Which federation this is")
def federation(request: Request, _token: Reader) -> FederationView:
    """Its name, the server's identity key (named in every job), version and time."""
    context = context_of(request)
    return FederationView(
        name=context.federation.settings.name,
        server_key=context.federation.identity.public,
        version=VERSION,
        time=context.now().isoformat(),
    )


@reading.get("/sites", summary="The sites and what they disclose about their datasets")
def sites(
    request: Request,
    _token: Reader,
    package: Annotated[
        tuple[PackageName, ...],
        Query(
            max_length=MOST_PACKAGES,
            description="a package to tell what the sites said about; several times for several",
        ),
    ] = (),
) -> list[SiteView]:
    """Counts and schema, never rows. Nobody is asked: of a package it says what the site last said to a job."""
    context = context_of(request)
    packages = last_said(context.federation.database, package)
    return [
        SiteView(
            site=member.site,
            identity_key=member.identity_key,
            connected=bool(member.connected),
            last_seen=member.last_seen,
            datasets=member.datasets,
            packages=packages.get(member.site, {}),
        )
        for member in list_members(context.federation.registry, context.connected())
    ]


@operating.delete("/sites/{site}", status_code=204, summary="Remove a site and revoke its certificates")
def remove_site(request: Request, site: str, token: Operator) -> None:
    """Its connection is closed at once."""
    context = context_of(request)
    context.federation.registry.remove_site(site, by=token.actor)
    context.changed()


@operating.post(
    "/join-tokens",
    status_code=201,
    summary="Issue a join token for one site",
    openapi_extra=described(JoinTokenOrder),
)
def create_join_token(
    request: Request, token: Operator, order: Annotated[JoinTokenOrder, body_of(JoinTokenOrder)]
) -> JoinTokenIssued:
    """The token is shown this once; hand it to the site's operator over a channel you trust."""
    context = context_of(request)
    federation = context.federation
    issued = issue_join_token(
        federation.enrolment, federation.registry, order.site, order.hours, context.now(), by=token.actor
    )
    return JoinTokenIssued(id=issued.token.id, site=issued.token.site, token=issued.token.encode())


@operating.get("/join-tokens", summary="Join tokens, used and open")
def join_tokens(request: Request, _token: Operator) -> list[JoinTokenRow]:
    """Newest first; secrets are not kept."""
    return context_of(request).federation.enrolment.tokens()


@operating.delete("/join-tokens/{token_id}", status_code=204, summary="Revoke an unused join token")
def revoke_join_token(request: Request, token_id: str, token: Operator) -> None:
    """A used token cannot be revoked; remove the site instead."""
    context_of(request).federation.enrolment.revoke_token(token_id, by=token.actor)


@operating.get("/certificates", summary="Certificates, valid and revoked")
def certificates(request: Request, _token: Operator) -> list[CertificateRow]:
    """Newest first."""
    return context_of(request).federation.registry.certificates()


@operating.post(
    "/certificates/{serial}/revoke",
    status_code=204,
    summary="Revoke a certificate",
    openapi_extra=described(Revocation),
)
def revoke_certificate(
    request: Request, serial: str, token: Operator, revocation: Annotated[Revocation, body_of(Revocation)]
) -> None:
    """A connection that uses the certificate is closed at once."""
    context = context_of(request)
    context.federation.registry.revoke_certificate(serial, revocation.reason, by=token.actor)
    context.changed()


@operating.get("/journal/head", summary="The signed head of the server's journal")
def journal_head(request: Request, _token: Operator) -> JournalHead:
    """Keep it: a journal that no longer contains it was cut off or rewritten."""
    federation = context_of(request).federation
    return own_journal.signed_head(federation.registry, federation.identity)


@operating.get("/journal", summary="Lines of the server's journal")
def journal_lines(
    request: Request, _token: Operator, after: int = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 200
) -> list[JournalEntry]:
    """Oldest first."""
    return context_of(request).federation.registry.journal(after, limit)
