"""A site's state folder: where its settings, keys, database, blobs and spools lie, readable by its owner only.

``site.toml`` settings, ``site.db`` database, ``keys/`` secrets, ``blobs/`` plans and models fetched, ``spool/`` updates
made, ``state/`` optimiser tensor files, ``logs/``, and ``listeners/`` sockets by which processes wake one another.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path

from sqlalchemy import RowMapping, select

from archipel.governance import IdentityKey
from archipel.site.state import schema
from archipel.site.state.change_records import DECISIONS
from archipel.site.state.settings import SiteSettings
from archipel.storage import BlobStore, Database, FolderBlobStore, disk_errors_named, load_settings
from archipel.storage.migrations import upgrade
from archipel.transport.wakeup import wake
from archipel.vocabulary import ArchipelError, Conflict, ErrorCode, Record, Thing
from archipel.vocabulary.remedies import JoinFederation

FOLDERS = ("keys", "blobs", "spool", "state", "logs")


class FederationMembership(Record):
    """The federation this site joined: where it is and whose signature its server has."""

    name: str
    server_key: str
    grpc: str
    rest: str
    heartbeat_s: float
    joined_at: str


class StateFolder:
    """An opened state folder. Several processes may have the same one open (the agent and its command line)."""

    def __init__(self, folder: Path, values: SiteSettings, database: Database) -> None:
        self.folder = folder
        self.settings = values
        self.database = database
        self.keys = folder / "keys"
        self.spool = folder / "spool"
        self.tensor_files = folder / "state"
        self.logs = folder / "logs"
        self.reports = folder / "reports"
        self.prepared = folder / "prepared"

    @classmethod
    def open(cls, folder: Path) -> StateFolder:
        """The site kept in this folder, its database brought to this version.

        Raises ArchipelError (code configuration) when there is none, its settings are wrong, or its database is
        missing, damaged, empty or of a schema that this version does not know.
        """
        values = load_settings(folder / "site.toml", SiteSettings)
        if not (folder / "site.db").exists():
            raise ArchipelError(
                Thing.file(folder / "site.db"),
                "is not there",
                "restore it from the backup",
                code=ErrorCode.CONFIGURATION,
            )
        database = open_database(folder, made_before=True)
        return cls(folder, values, database)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    @property
    def name(self) -> str:
        """The site's name in the federation."""
        return self.settings.site

    @cached_property
    def identity(self) -> IdentityKey:
        """The identity key, kept for life."""
        return IdentityKey.load(self.keys / "identity.key")

    @cached_property
    def cohort_key(self) -> bytes:
        """The secret that keys cohort hashes, kept for life."""
        path = self.keys / "cohort.key"
        try:
            key = path.read_bytes()
        except OSError as error:
            raise ArchipelError(
                Thing.file(path), "cannot be read", "restore it from the backup", code=ErrorCode.CONFIGURATION
            ) from error
        if len(key) != 32:
            raise ArchipelError(
                Thing.file(path),
                f"has {len(key)} bytes, not 32",
                "restore it from the backup",
                code=ErrorCode.CONFIGURATION,
                values={"bytes": len(key), "needed": 32},
            )
        return key

    @cached_property
    def blobs(self) -> BlobStore:
        """Plans and models fetched from the server."""
        return FolderBlobStore(self.folder / "blobs")

    def federation(self) -> FederationMembership | None:
        """The federation this site joined, None before it did."""
        with self.database.read() as connection:
            row = connection.execute(select(schema.federation)).mappings().first()
        return _federation(row) if row else None

    def joined(self) -> FederationMembership:
        """The federation this site joined. Raises ArchipelError before it did."""
        found = self.federation()
        if found is None:
            raise ArchipelError(
                Thing("site", self.name),
                "has not joined a federation yet",
                "ask the server's operator for a join token and run archipel site join",
                code=ErrorCode.CONFIGURATION,
                command=JoinFederation(),
            )
        return found

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for one running agent; the hold goes with the process, however it ends.

        Raises Conflict when another agent runs on this folder.
        """
        with disk_errors_named(self.folder):
            descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(
                    Thing.folder(self.folder), "is served by an agent already", "stop that one first"
                ) from error
            yield
        finally:
            os.close(descriptor)

    def agent_runs(self) -> bool:
        """Whether an agent serves this folder; every listener of the folder is woken to find out."""
        return wake(self.folder)


def _federation(row: RowMapping) -> FederationMembership:
    return FederationMembership(**{name: row[name] for name in FederationMembership.model_fields})


def _wake(folder: Path, announced: frozenset[str]) -> None:
    wake(folder, followers_only=DECISIONS.isdisjoint(announced))


def open_database(folder: Path, *, made_before: bool = False) -> Database:
    """The database, of this version; one that was ``made_before`` must have its tables.

    The first connection writes SQLite's side files, so a full disk shows here. Raises what ``Database.read`` does.
    """
    database = Database(f"sqlite:///{(folder / 'site.db').absolute()}", committed=partial(_wake, folder))
    try:
        upgrade(database, schema.HISTORY, made_before=made_before)
    except BaseException:
        database.close()
        raise
    return database
