"""Enrolment: a single-use token, a proof of the identity key and a certificate request become a member site.

The token is used up in the same transaction that records the certificate, so of two requests with one token exactly
one wins, and a crash leaves either both or nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, RowMapping, insert, select, update

from archipel.governance import canonical, verify
from archipel.server.membership.authority import Authority
from archipel.server.membership.prefixes import whole
from archipel.server.membership.registry import MemberRegistry, enrol_site
from archipel.server.membership.secret_hashes import hashed, matches, new_id, new_secret
from archipel.server.state import (
    JoinTokenCreated,
    JoinTokenRevoked,
    ServerJournalKind,
    ServerSettings,
    add_entry,
    schema,
)
from archipel.storage import Database, utc_now
from archipel.transport.enrolment import EnrolmentReply, EnrolmentRequest, JoinToken, proof_message
from archipel.vocabulary import Actor, ArchipelError, BadInput, Conflict, ErrorCode, NotFound, Record, SiteName, Thing
from archipel.vocabulary.remedies import JoinFederation, ListJoinTokens, Nothing, RemoveSite

_NEW_ONE = "ask the server's operator for a new one"


class JoinTokenRow(Record):
    """A join token as listed; the secret is not kept."""

    id: str
    site: str
    created_at: str
    expires_at: str
    used_at: str | None
    revoked_at: str | None


class Enrolment:
    """Join tokens, and what they buy."""

    def __init__(
        self,
        database: Database,
        authority: Authority,
        registry: MemberRegistry,
        settings: ServerSettings,
        server_key: str,
    ) -> None:
        self._database, self._authority, self._registry = database, authority, registry
        self._settings, self._server_key = settings, server_key

    def create_token(
        self, site: str, lifetime: timedelta | None = None, now: datetime | None = None, *, by: Actor
    ) -> JoinToken:
        """A single-use token for one site; its secret is shown this once. Raises BadInput for a bad name or time."""
        try:
            TypeAdapter(SiteName).validate_python(site)
        except ValidationError as error:
            raise BadInput(
                Thing.worded(f"site {site!r}", site=site),
                "is not a site name",
                "use at most 63 lower-case letters, digits and hyphens",
            ) from error
        lifetime = timedelta(hours=self._settings.join_token_hours) if lifetime is None else lifetime
        if lifetime <= timedelta(0):
            raise BadInput(
                "join token lifetime",
                "is not positive",
                "give its lifetime in hours, above 0",
                values={"hours": lifetime.total_seconds() / 3600},
            )
        created = now or datetime.now(UTC)
        token = JoinToken(
            url=self._settings.rest_url,
            ca=self._authority.fingerprint,
            id=new_id(),
            secret=new_secret(),
            site=site,
            grpc=self._settings.grpc_address,
        )
        expires_at = _text(created + lifetime)
        row = {"id": token.id, "site": site, "created_at": _text(created), "expires_at": expires_at}
        with self._database.write() as connection:
            made = JoinTokenCreated(id=token.id, site=site, expires_at=expires_at, by=by.journal_name)
            add_entry(connection, ServerJournalKind.JOIN_TOKEN_CREATED, made)
            connection.execute(insert(schema.join_tokens).values(secret_hash=hashed(token.secret), **row))
        return token

    def tokens(self) -> list[JoinTokenRow]:
        """Every join token, newest first."""
        with self._database.read() as connection:
            rows = (
                connection.execute(select(schema.join_tokens).order_by(schema.join_tokens.c.created_at.desc()))
                .mappings()
                .all()
            )
        return [_token_row(row) for row in rows]

    def row(self, token: str) -> JoinTokenRow:
        """One join token as listed, by its id. Raises NotFound."""
        with self._database.read() as connection:
            row = (
                connection.execute(select(schema.join_tokens).where(schema.join_tokens.c.id == token))
                .mappings()
                .first()
            )
        if row is None:
            raise NotFound(
                Thing("join token", token),
                "does not exist",
                "see `archipel server join-token list`",
                command=ListJoinTokens(),
            )
        return _token_row(row)

    def revoke_token(self, token: str, *, by: Actor) -> JoinTokenRow:
        """End a join token that was not used, named by its id or how that begins; the token as it was.

        Raises NotFound and Conflict.
        """
        with self._database.write() as connection:
            token = whole(connection, schema.join_tokens.c.id, token, "join token", ListJoinTokens())
            thing = Thing("join token", token)
            row = (
                connection.execute(select(schema.join_tokens).where(schema.join_tokens.c.id == token)).mappings().one()
            )
            if row["used_at"] is not None:
                raise Conflict(
                    thing,
                    f"was used on {row['used_at']}",
                    "to undo it: `archipel server site remove " + row["site"] + "`",
                    values={"site": row["site"], "used_at": row["used_at"]},
                    command=RemoveSite(site=row["site"]),
                )
            if row["revoked_at"] is not None:
                raise Conflict(
                    thing,
                    f"was revoked on {row['revoked_at']}",
                    "no action is needed",
                    values={"revoked_at": row["revoked_at"]},
                    command=Nothing(),
                )
            revoked = JoinTokenRevoked(id=token, site=row["site"], by=by.journal_name)
            add_entry(connection, ServerJournalKind.JOIN_TOKEN_REVOKED, revoked)
            connection.execute(
                update(schema.join_tokens).where(schema.join_tokens.c.id == token).values(revoked_at=utc_now())
            )
        return _token_row(row)

    def check_open(self, token: str, now: datetime) -> None:
        """Raise ArchipelError (code token) unless a join token of this id can still be used; it needs no secret."""
        with self._database.read() as connection:
            _check_open(_row(connection, token), now)

    def enrol(self, request: EnrolmentRequest, now: datetime) -> EnrolmentReply:
        """Make the site a member.

        Raises ArchipelError: code clock when the site's clock is off, token when the token is unknown, expired, used,
        revoked or another site's, trust when the proof is not the identity key's, conflict when the site is enrolled
        with another identity key. Whatever it raises, the token is not used up.
        """
        self._check_clock(request, now)
        with self._database.write() as connection:
            self._check_token(connection, request, now)
            if not verify(request.identity_key, request.proof, proof_message(canonical(request.statement()))):
                raise ArchipelError(
                    Thing("site", request.site),
                    "its proof is not signed by the identity key it names",
                    "run `archipel site join` again with the site's own state folder",
                    code=ErrorCode.TRUST,
                    command=JoinFederation(),
                )
            lifetime = self._registry.certificate_lifetime
            signed = self._authority.sign_site(request.site, request.csr, now, lifetime)
            enrol_site(connection, request.site, request.identity_key, signed)
            taken = connection.execute(
                update(schema.join_tokens)
                .where(schema.join_tokens.c.id == request.id, schema.join_tokens.c.used_at.is_(None))
                .values(used_at=_text(now))
            )
            if taken.rowcount != 1:
                raise _refused("was used already", _NEW_ONE)
        return EnrolmentReply(
            certificate=signed.pem,
            ca=self._authority.pem,
            server_key=self._server_key,
            federation=self._settings.name,
            grpc=self._settings.grpc_address,
            heartbeat_s=self._settings.heartbeat_s,
        )

    def _check_clock(self, request: EnrolmentRequest, now: datetime) -> None:
        try:
            theirs = datetime.fromisoformat(request.time)
            if theirs.tzinfo is None:
                raise ValueError("no time zone")
        except ValueError as error:
            raise BadInput("time", "is not an ISO time with its zone", "send the time in UTC") from error
        ahead = (theirs - now).total_seconds()
        if abs(ahead) > self._settings.clock_skew_s:
            raise ArchipelError(
                Thing.worded(f"clock of site {request.site}", site=request.site),
                f"is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the server's ({_text(now)})",
                "set the site's clock (NTP) and join again; the token is still good",
                code=ErrorCode.CLOCK,
                values={"seconds": round(ahead), "limit": self._settings.clock_skew_s},
            )

    def _check_token(self, connection: Connection, request: EnrolmentRequest, now: datetime) -> None:
        row = _row(connection, request.id)
        if not matches(request.secret, row["secret_hash"]):
            raise _unknown()
        if row["site"] != request.site:
            raise _refused(f"is for site {row['site']}, not {request.site}", f"join under that name, or {_NEW_ONE}")
        _check_open(row, now)


def _row(connection: Connection, token: str) -> RowMapping:
    row = connection.execute(select(schema.join_tokens).where(schema.join_tokens.c.id == token)).mappings().first()
    if row is None:
        raise _unknown()
    return row


def _check_open(row: RowMapping, now: datetime) -> None:
    if row["revoked_at"] is not None:
        raise _refused("was revoked", _NEW_ONE)
    if row["used_at"] is not None:
        raise _refused(f"was used on {row['used_at']}; it is good for one join only", _NEW_ONE)
    if row["expires_at"] <= _text(now):
        raise _refused(f"expired on {row['expires_at']}", _NEW_ONE)


def _unknown() -> ArchipelError:
    return _refused("is not known here", f"copy the whole token, or {_NEW_ONE}")


def _token_row(row: RowMapping) -> JoinTokenRow:
    return JoinTokenRow.model_validate({key: row[key] for key in JoinTokenRow.model_fields})


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _refused(cause: str, remedy: str) -> ArchipelError:
    return ArchipelError("join token", cause, remedy, code=ErrorCode.TOKEN)
