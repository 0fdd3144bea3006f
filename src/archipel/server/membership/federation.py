"""A server's state folder, created or opened: settings, keys, database and what is built directly on them.

The serving process and the command line open the same folder the same way; the database's write lock keeps them apart.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import select

from archipel.governance import IdentityKey
from archipel.server.membership.authority import Authority
from archipel.server.membership.enrolment import Enrolment
from archipel.server.membership.registry import MemberRegistry
from archipel.server.membership.tokens import AccessTokens
from archipel.server.state import (
    ServerInitialised,
    ServerJournalKind,
    ServerLimits,
    ServerSettings,
    ServerState,
    add_entry,
    schema,
)
from archipel.storage import BlobStore, Database
from archipel.storage.migrations import upgrade
from archipel.vocabulary import Actor, ArchipelError, Conflict, ErrorCode, Thing


@dataclass(frozen=True)
class ServerContext:
    """Everything that follows from a state folder; close it, or use it as a context manager."""

    state: ServerState
    settings: ServerSettings
    database: Database
    identity: IdentityKey
    authority: Authority
    registry: MemberRegistry
    enrolment: Enrolment
    tokens: AccessTokens
    blobs: BlobStore
    limits: ServerLimits = field(default_factory=ServerLimits)

    @classmethod
    def create(cls, state: ServerState, settings: ServerSettings, *, by: Actor) -> Self:
        """Make a new federation: its CA, identity, TLS certificate and database.

        Raises Conflict when the folder holds one already. Settings are written last, so a crash before leaves a
        folder in which init can be run again.
        """
        state.make_folders()
        now = datetime.now(UTC)
        identity = IdentityKey.generate()
        identity.save(state.identity_key)
        authority = Authority.create(state, settings.name, now)
        authority.ensure_server_certificate(state, settings.hosts, now)
        database = _database(state, settings, new=True)
        with database.write() as connection:
            if connection.execute(select(schema.journal.c.number).limit(1)).first() is not None:
                raise Conflict(
                    database.engine.url.render_as_string(hide_password=True),
                    "is another server's database",
                    "give this server an empty database of its own",
                )
            initialised = ServerInitialised(
                federation=settings.name,
                server_key=identity.public,
                ca=authority.fingerprint,
                by=by.journal_name,
            )
            add_entry(connection, ServerJournalKind.SERVER_INITIALISED, initialised)
        state.write_settings(settings)
        return cls._over(state, settings, database, identity, authority)

    @classmethod
    def open(cls, state: ServerState) -> Self:
        """An existing federation, its database brought to this version's schema.

        Raises ArchipelError (code configuration) for anything that is
        missing or malformed, and for a database that is
        damaged, empty or of a schema that this version does not know.
        """
        settings = state.settings()
        identity, authority = IdentityKey.load(state.identity_key), Authority.load(state)
        return cls._over(state, settings, _database(state, settings, new=False), identity, authority)

    @classmethod
    def _over(
        cls,
        state: ServerState,
        settings: ServerSettings,
        database: Database,
        identity: IdentityKey,
        authority: Authority,
    ) -> Self:
        registry = MemberRegistry(database, authority, timedelta(days=settings.certificate_days))
        return cls(
            state=state,
            settings=settings,
            database=database,
            identity=identity,
            authority=authority,
            registry=registry,
            enrolment=Enrolment(database, authority, registry, settings, identity.public),
            tokens=AccessTokens(database),
            blobs=state.blobs(settings),
        )

    def close(self) -> None:
        """Close the database."""
        self.registry.close()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _database(state: ServerState, settings: ServerSettings, *, new: bool) -> Database:
    database = state.database(settings)
    file = database.engine.url.database
    if database.engine.dialect.name == "sqlite" and file:
        if not new and not Path(file).exists():
            raise ArchipelError(
                Thing.file(file),
                "the database does not exist",
                "restore it from the backup",
                code=ErrorCode.CONFIGURATION,
            )
        if new:
            # SQLite gives its WAL and shared-memory files the mode of the database file, so this one decides for all.
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    upgrade(database, schema.HISTORY, made_before=not new)
    return database
