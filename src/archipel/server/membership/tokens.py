"""Access tokens for people and their programs: scoped, expiring, revocable, hashed at rest.

A token reads ``archipel_<id>_<secret>``. ``read`` looks, ``models`` also downloads the models of every experiment,
``research`` submits experiments, and steers and downloads those of the same name, ``operate`` steers any and admits and
removes sites. A scope includes no other but ``read``.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import RowMapping, insert, select, update

from archipel.server.membership.prefixes import whole
from archipel.server.membership.revoked import check_not_revoked
from archipel.server.membership.secret_hashes import hashed, matches, new_id, new_secret
from archipel.server.state import AccessTokenCreated, AccessTokenRevoked, ServerJournalKind, add_entry, schema
from archipel.storage import Database, utc_now
from archipel.vocabulary import Actor, ArchipelError, BadInput, ErrorCode, Record, StorageFull, Thing
from archipel.vocabulary.actor import TOKEN
from archipel.vocabulary.remedies import ListAccessTokens
from archipel.vocabulary.states import Scope
from archipel.vocabulary.visible import escape_hidden

_log = structlog.get_logger("archipel.server")

_PREFIX = "archipel_"
_NOTED_EVERY = timedelta(minutes=1)


class AccessToken(Record):
    """A token as listed; the secret is not kept."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: str
    expires_at: str
    revoked_at: str | None = None
    last_used_at: str | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether the token may do what ``scope`` covers; a token of any scope may read."""
        return scope == Scope.READ or scope in self.scopes

    @property
    def actor(self) -> Actor:
        """The person who sends it, as the journal names them."""
        return Actor(name=self.name, authentication=TOKEN)


class AccessTokens:
    """Access tokens over the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self, name: str, scopes: Collection[str], lifetime: timedelta, now: datetime, *, by: Actor
    ) -> tuple[str, AccessToken]:
        """A new token: the text to hand over, shown this once, and the token as listed. Raises BadInput."""
        unknown = sorted(set(scopes) - set(Scope))
        if unknown or not scopes:
            raise BadInput(Thing("scope", ", ".join(unknown) or "none"), "is not a scope", f"use {', '.join(Scope)}")
        if not 0 < len(name) <= 100:
            raise BadInput(
                "token name",
                "must have 1 to 100 characters",
                "name the person or program",
                values={"length": len(name), "limit": 100},
            )
        if escape_hidden(name) != name or name != name.strip():
            raise BadInput("token name", "has hidden characters, or a space at an end", "give the name without them")
        if lifetime <= timedelta(0):
            raise BadInput(
                "token lifetime",
                "is not positive",
                "give its lifetime in days, above 0",
                values={"days": lifetime / timedelta(days=1)},
            )
        secret = new_secret()
        token = AccessToken(
            id=new_id(),
            name=name,
            scopes=tuple(scope for scope in Scope if scope in scopes),
            created_at=_text(now),
            expires_at=_text(now + lifetime),
        )
        row = token.model_dump() | {"scopes": " ".join(token.scopes), "secret_hash": hashed(secret)}
        with self._database.write() as connection:
            made = AccessTokenCreated(
                id=token.id, name=name, scopes=token.scopes, expires_at=token.expires_at, by=by.journal_name
            )
            add_entry(connection, ServerJournalKind.ACCESS_TOKEN_CREATED, made)
            connection.execute(insert(schema.access_tokens).values(**row))
        return f"{_PREFIX}{token.id}_{secret}", token

    def all(self) -> list[AccessToken]:
        """Every token, newest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(schema.access_tokens).order_by(schema.access_tokens.c.created_at.desc())
            ).mappings()
            return [_token(row) for row in rows]

    def name_of(self, token: str) -> str | None:
        """Whose token it is or was, by its id; None for one that was never made."""
        with self._database.read() as connection:
            return connection.scalar(select(schema.access_tokens.c.name).where(schema.access_tokens.c.id == token))

    def revoke(self, token: str, *, by: Actor) -> AccessToken:
        """End a token now, named by its id or how that begins; the token as it was.

        Raises NotFound, and Conflict when it is revoked already or several begin so.
        """
        with self._database.write() as connection:
            token = whole(connection, schema.access_tokens.c.id, token, "access token", ListAccessTokens())
            row = (
                connection.execute(select(schema.access_tokens).where(schema.access_tokens.c.id == token))
                .mappings()
                .one()
            )
            check_not_revoked("access token", token, row["revoked_at"])
            revoked = AccessTokenRevoked(id=token, name=row["name"], by=by.journal_name)
            add_entry(connection, ServerJournalKind.ACCESS_TOKEN_REVOKED, revoked)
            connection.execute(
                update(schema.access_tokens).where(schema.access_tokens.c.id == token).values(revoked_at=utc_now())
            )
        return _token(row)

    def check(self, text: str, now: datetime) -> AccessToken:
        """The token that ``text`` is. Raises ArchipelError (code token) when it is unknown, expired or revoked."""
        parts = text.removeprefix(_PREFIX).split("_")
        if not text.startswith(_PREFIX) or len(parts) != 2:
            raise _refused("is not an access token", "send `Authorization: Bearer archipel_...`")
        with self._database.read() as connection:
            query = select(schema.access_tokens).where(schema.access_tokens.c.id == parts[0])
            row = connection.execute(query).mappings().first()
        if row is None or not matches(parts[1], row["secret_hash"]):
            raise _refused("is not known here", "ask the server's operator for a token")
        if row["revoked_at"] is not None:
            raise _refused("was revoked", "ask the server's operator for a new one")
        if row["expires_at"] <= _text(now):
            raise _refused(f"expired on {row['expires_at']}", "ask the server's operator for a new one")
        token = _token(row)
        if token.last_used_at is None or datetime.fromisoformat(token.last_used_at) < now - _NOTED_EVERY:
            self._note_use(token, now)
        return token

    def _note_use(self, token: AccessToken, now: datetime) -> None:
        change = (
            update(schema.access_tokens).where(schema.access_tokens.c.id == token.id).values(last_used_at=_text(now))
        )
        try:
            with self._database.write() as connection:
                connection.execute(change)
        except StorageFull as error:
            # Reading must work on a full disk, most of all for the operator who fixes it.
            _log.warning("the use of a token was not recorded", id=token.id, error=str(error))


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _token(row: RowMapping) -> AccessToken:
    known = {name: row[name] for name in AccessToken.model_fields}
    return AccessToken.model_validate(known | {"scopes": row["scopes"].split()})


def _refused(cause: str, remedy: str) -> ArchipelError:
    return ArchipelError("access token", cause, remedy, code=ErrorCode.TOKEN)
