"""A site's state folder: where its settings, keys, database, blobs and spools lie, readable by its owner only.

``site.toml`` settings, ``site.db`` database, ``keys/`` secrets, ``blobs/`` plans and models fetched, ``spool/`` updates
made, ``state/`` optimiser frames, ``logs/``, and the doorbell's socket.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from archipel.governance import IdentityKey
from archipel.site import journal, schema, settings
from archipel.site.settings import SiteSettings
from archipel.storage import Database, FolderBlobStore, disk_errors_named, load_settings, write_private
from archipel.transport.doorbell import ring
from archipel.vocabulary import ArchipelError, BadInput, Conflict, ErrorCode, Record, SiteName, StorageFull

_FOLDERS = ("keys", "blobs", "spool", "state", "logs")


class Federation(Record):
    """The federation this site joined: where it is and whose signature its server has."""

    name: str
    server_key: str
    grpc: str
    rest: str
    heartbeat_s: float
    joined_at: str


class SiteState:
    """An opened state folder. Several processes may have the same one open (the agent and its command line)."""

    def __init__(self, folder: Path, values: SiteSettings, database: Database) -> None:
        self.folder = folder
        self.settings = values
        self.database = database
        self.keys = folder / "keys"
        self.spool = folder / "spool"
        self.frames = folder / "state"
        self.logs = folder / "logs"
        self.reports = folder / "reports"

    @classmethod
    def create(cls, folder: Path, site: str) -> SiteState:
        """Make a new site: its settings, its database and the two secrets it keeps for life.

        Raises Conflict when the folder holds something already and BadInput for a name that a site may not have.
        """
        try:
            TypeAdapter(SiteName).validate_python(site)
        except ValidationError as error:
            raise BadInput(
                f"site name {site}",
                "is not one a site may have",
                "use lower-case letters, digits and hyphens, at most 63",
            ) from error
        if (folder / "site.toml").exists():
            raise Conflict(str(folder), "is a site already", "use it, or name another folder")
        existed = folder.exists()
        if existed and any(folder.iterdir()):
            raise Conflict(str(folder), "is not empty", "name a new folder")
        with disk_errors_named(folder):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
        try:
            return cls._fill(folder, site)
        except BaseException:
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if not existed:
                folder.rmdir()
            raise

    @classmethod
    def _fill(cls, folder: Path, site: str) -> SiteState:
        with disk_errors_named(folder):
            for name in _FOLDERS:
                (folder / name).mkdir(mode=0o700)
        write_private(folder / "site.db", b"")
        database = _open_database(folder)
        identity = IdentityKey.generate()
        identity.save(folder / "keys" / "identity.key")
        write_private(folder / "keys" / "cohort.key", secrets.token_bytes(32))
        with database.write() as connection:
            journal.append(connection, journal.FIRST, {"site": site, "identity_key": identity.public})
        settings.write_first(folder / "site.toml", site)
        return cls(folder, load_settings(folder / "site.toml", SiteSettings), database)

    @classmethod
    def open(cls, folder: Path) -> SiteState:
        """The site kept in this folder, its database brought to this version.

        Raises ArchipelError (code configuration) when there is none or its settings are wrong.
        """
        values = load_settings(folder / "site.toml", SiteSettings)
        if not (folder / "site.db").exists():
            raise ArchipelError(
                str(folder / "site.db"), "is not there", "restore it from the backup", code=ErrorCode.CONFIGURATION
            )
        database = _open_database(folder)
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
                str(path), "cannot be read", "restore it from the backup", code=ErrorCode.CONFIGURATION
            ) from error
        if len(key) != 32:
            raise ArchipelError(
                str(path), f"has {len(key)} bytes, not 32", "restore it from the backup", code=ErrorCode.CONFIGURATION
            )
        return key

    @cached_property
    def blobs(self) -> FolderBlobStore:
        """Plans and models fetched from the server."""
        return FolderBlobStore(self.folder / "blobs")

    def federation(self) -> Federation | None:
        """The federation this site joined, None before it did."""
        with self.database.read() as connection:
            row = connection.execute(select(schema.federation)).mappings().first()
        return _federation(row) if row else None

    def joined(self) -> Federation:
        """The federation this site joined. Raises ArchipelError before it did."""
        found = self.federation()
        if found is None:
            raise ArchipelError(
                f"site {self.name}",
                "has joined no federation yet",
                "ask the server's owner for a join token and run archipel site join TOKEN",
                code=ErrorCode.CONFIGURATION,
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
                raise Conflict(str(self.folder), "is served by an agent already", "stop that one first") from error
            yield
        finally:
            os.close(descriptor)

    def ring(self) -> bool:
        """Wake the agent of this folder, when one runs; False when none does."""
        return ring(self.folder)


def _federation(row: Mapping[Any, Any]) -> Federation:
    return Federation(**{name: row[name] for name in Federation.model_fields})


def _open_database(folder: Path) -> Database:
    """The database, of this version. The first connection writes SQLite's side files, so a full disk shows here."""
    database = Database(f"sqlite:///{(folder / 'site.db').absolute()}")
    try:
        schema.upgrade(database)
    except OperationalError as error:
        database.close()
        if "disk is full" in str(error.orig):
            raise StorageFull(str(folder), "the disk is full", "free space there; what was finished is kept") from error
        raise
    return database
