"""How a site joins a federation: keys are made here, the CA is checked before the secret is shown, then a certificate.

The site fetches the CA certificate without trust, compares it with the fingerprint that a person carried in the join
token, and only then sends the token's secret, over a connection that trusts this CA alone. The identity key, made at
``init``, stays for life; every join makes a new TLS key.
"""

from __future__ import annotations

import re
import ssl
import time
from datetime import UTC, datetime
from typing import TypeVar

import httpx
from pydantic import JsonValue, TypeAdapter
from sqlalchemy import insert, select, update

from archipel.governance import IdentityKey, canonical
from archipel.site.audit import Joined, add_entry
from archipel.site.membership.certificates import keep_certificate, tls_request
from archipel.site.state import FederationMembership, SiteJournalKind, StateFolder, checked_proxy, schema, set_proxy
from archipel.storage import utc_now
from archipel.transport.enrolment import (
    ENROLMENT_HEADER,
    AuthorityReply,
    EnrolmentReply,
    EnrolmentRequest,
    EnrolmentStatement,
    JoinToken,
    authority_fingerprint,
    proof_message,
)
from archipel.vocabulary import ArchipelError, Conflict, ErrorCode, Record, Thing
from archipel.vocabulary.documents import parsed
from archipel.vocabulary.remedies import CreateSite, JoinFederation

CLOCK_TOLERANCE_S = 300.0
"""How far the clocks of site and server may be apart; certificates and signed times mean little beyond it."""

LONGEST_ANSWER = 1 << 20
"""Bytes of an answer: two certificates and some words."""
_TIMEOUT_S = 30.0
_BEFORE_TRUST = "check the address in the token, the network and, if there is one, the proxy in site.toml"

R = TypeVar("R", bound=Record)
_ANY_JSON: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)


def join(site: StateFolder, token: str, proxy: str | None = None) -> FederationMembership:
    """Join the federation that the token names and keep its certificate; ``proxy`` is kept in the settings if given.

    Joining the same federation again (an expired certificate) keeps the identity key. Raises ArchipelError for a
    token that is damaged, expired, used or another site's, a wrong CA, a clock that is off, and a server that cannot
    be reached; nothing is changed then.
    """
    ticket = JoinToken.decode(token)
    if ticket.site != site.name:
        raise ArchipelError(
            "join token",
            f"is for site {ticket.site}; this is site {site.name}",
            f"ask for a token for {site.name}",
            code=ErrorCode.TOKEN,
            values={"site": site.name, "token_site": ticket.site},
            command=JoinFederation(),
        )
    known = site.federation()
    if known is not None and authority_fingerprint((site.keys / "ca.pem").read_text()) != ticket.ca:
        raise _other_federation(site.name, known, ticket.url)
    through = site.settings.proxy if proxy is None else checked_proxy(proxy)
    authority = _authority(ticket, through)
    _check_clock(authority.time)
    key, request = tls_request(site.name)
    reply = _enrol(site.identity, site.name, ticket, authority.ca, request, through)
    if known is not None and known.server_key != reply.server_key:
        raise _other_federation(site.name, known, reply.federation)
    keep_certificate(site.keys, key, reply.certificate, reply.ca)
    joined = FederationMembership(
        name=reply.federation,
        server_key=reply.server_key,
        grpc=reply.grpc,
        rest=ticket.url,
        heartbeat_s=reply.heartbeat_s,
        joined_at=utc_now(),
    )
    with site.database.write() as connection:
        body = Joined(federation=joined.name, server_key=joined.server_key, again=known is not None)
        add_entry(connection, SiteJournalKind.JOINED, body)
        if connection.execute(select(schema.federation.c.id)).first() is None:
            connection.execute(insert(schema.federation).values(id=1, **joined.model_dump()))
        else:
            connection.execute(update(schema.federation).values(**joined.model_dump()))
    if proxy is not None:
        set_proxy(site.folder / "site.toml", proxy)
    return joined


def _other_federation(site_name: str, known: FederationMembership, other: str) -> Conflict:
    return Conflict(
        Thing("site", site_name),
        f"belongs to federation {known.name} already, and {other} is another one",
        "make a second site folder for it with archipel site init",
        values={"federation": known.name, "other": other},
        command=CreateSite(),
    )


def _authority(ticket: JoinToken, proxy: str) -> AuthorityReply:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    authority = _ask(ticket, proxy, context, "/v1/enrolment/authority", AuthorityReply)
    ticket.check_authority(authority.ca)
    return authority


def _enrol(
    identity: IdentityKey, site_name: str, ticket: JoinToken, authority: str, csr: str, proxy: str
) -> EnrolmentReply:
    statement = EnrolmentStatement(id=ticket.id, site=site_name, identity_key=identity.public, csr=csr)
    request = EnrolmentRequest(
        **dict(statement),
        secret=ticket.secret,
        proof=identity.sign(proof_message(canonical(statement))),
        time=utc_now(),
    )
    context = ssl.create_default_context(cadata=authority)
    enrolled = _ask(ticket, proxy, context, "/v1/enrolment", EnrolmentReply, request)
    ticket.check_authority(enrolled.ca)
    return enrolled


def _ask(
    ticket: JoinToken, proxy: str, trust: ssl.SSLContext, path: str, reply: type[R], request: Record | None = None
) -> R:
    body = request.model_dump(mode="json") if request is not None else None
    thing, shown_proxy = f"server {ticket.url}", re.sub(r"//[^@]*@", "//", proxy)
    try:
        with httpx.Client(verify=trust, proxy=proxy or None, trust_env=False, timeout=_TIMEOUT_S) as client:
            address = ticket.url.rstrip("/") + path
            # Asked for as it is: a short answer that was packed may be gigabytes long.
            headers = {"Accept-Encoding": "identity"} | ({ENROLMENT_HEADER: ticket.id} if body else {})
            with client.stream("POST" if body else "GET", address, json=body, headers=headers) as response:
                answer = _whole(ticket, response)
    except httpx.ProxyError as error:
        raise ArchipelError(
            Thing("proxy", shown_proxy),
            f"refused to connect to {ticket.url} ({error})",
            "ask its administrator to allow that address",
            code=ErrorCode.LOST,
        ) from error
    except httpx.ConnectError as error:
        if "certificate verify failed" in str(error).lower():
            raise ArchipelError(
                thing,
                "shows a certificate that is not for this address or not by the token's CA",
                "do not continue: ask the server's operator for a new token and check the address",
                code=ErrorCode.TRUST,
            ) from error
        way = f" through proxy {shown_proxy}" if proxy else ""
        raise ArchipelError(thing, f"cannot be reached{way}", _BEFORE_TRUST, code=ErrorCode.LOST) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ArchipelError(
            thing, f"did not answer ({type(error).__name__})", _BEFORE_TRUST, code=ErrorCode.LOST
        ) from error
    try:
        if response.is_success:
            return parsed(reply.model_validate, answer, LONGEST_ANSWER)
        raise _refusal(ticket, response.status_code, parsed(_ANY_JSON.validate_python, answer, LONGEST_ANSWER))
    except ValueError as error:
        raise _strange(ticket) from error


def _whole(ticket: JoinToken, response: httpx.Response) -> bytes:
    """The answer's bytes as they came. Raises ArchipelError when they are packed, more than any answer has, or slow."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _strange(ticket)
    answer, until = b"", time.monotonic() + _TIMEOUT_S
    for chunk in response.iter_raw(1 << 14):
        answer += chunk
        if len(answer) > LONGEST_ANSWER or time.monotonic() > until:
            raise _strange(ticket)
    return answer


def _refusal(ticket: JoinToken, status: int, document: JsonValue) -> ArchipelError:
    """The server's reason for refusing, if it answered with an error document."""
    said = document if isinstance(document, dict) else {}
    try:
        thing, cause, remedy = (str(said[name])[:500] for name in ("thing", "cause", "remedy"))
        code = ErrorCode(str(said["code"]))
    except (KeyError, ValueError):
        return ArchipelError(
            Thing("server", ticket.url),
            f"refused with status {status}",
            "ask its operator to look at its log",
            values={"status": status},
        )
    return ArchipelError(thing, cause, remedy, code=code)


def _strange(ticket: JoinToken) -> ArchipelError:
    return ArchipelError(
        Thing("server", ticket.url), "does not answer as an Archipel server", _BEFORE_TRUST, code=ErrorCode.TRUST
    )


def _check_clock(server_time: str) -> None:
    try:
        theirs = datetime.fromisoformat(server_time)
        apart = (datetime.now(UTC) - theirs).total_seconds()
    except (ValueError, TypeError) as error:
        raise ArchipelError(
            "server clock", "gives no readable time", "ask its operator to look at its log", code=ErrorCode.CLOCK
        ) from error
    if abs(apart) > CLOCK_TOLERANCE_S:
        raise ArchipelError(
            "clock",
            f"this machine's is {abs(apart):.0f} seconds {'ahead of' if apart > 0 else 'behind'} the server's",
            "set both by a time service (NTP), then join with the same token",
            code=ErrorCode.CLOCK,
            values={"seconds": round(apart)},
        )
