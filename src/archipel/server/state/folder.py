"""The server's state folder: the place of each file; only its owner may read it, and one process serves it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from archipel.server.state.settings import ServerSettings
from archipel.storage import BlobStore, Database, FolderBlobStore, disk_errors_named, load_settings, write_private
from archipel.vocabulary import ArchipelError, Conflict, ErrorCode, Thing

_DATABASE_FILES = ("server.db", "server.db-wal", "server.db-shm")
_LEFT_BY_INIT = {"keys", "spool", "blobs", "server.toml.part", *_DATABASE_FILES}


@dataclass(frozen=True)
class ServerState:
    """Paths in one state folder; folders are 0700, files 0600."""

    root: Path

    @property
    def settings_file(self) -> Path:
        """``server.toml``."""
        return self.root / "server.toml"

    @property
    def keys(self) -> Path:
        """The folder of private keys."""
        return self.root / "keys"

    @property
    def ca_key(self) -> Path:
        """The federation CA's private key."""
        return self.keys / "ca.key"

    @property
    def ca_certificate(self) -> Path:
        """The federation CA's certificate."""
        return self.keys / "ca.pem"

    @property
    def identity_key(self) -> Path:
        """The server's Ed25519 identity key, which signs rounds and journal heads."""
        return self.keys / "identity.key"

    @property
    def tls_key(self) -> Path:
        """The private key of the server's TLS certificate, for REST and gRPC."""
        return self.keys / "tls.key"

    @property
    def tls_certificate(self) -> Path:
        """The server's TLS certificate."""
        return self.keys / "tls.pem"

    @property
    def spool(self) -> Path:
        """Where received updates are kept until their round commits."""
        return self.root / "spool"

    def settings(self) -> ServerSettings:
        """The settings. Raises ArchipelError (code configuration) that names a bad key or a missing file."""
        return load_settings(self.settings_file, ServerSettings)

    def database(self, settings: ServerSettings) -> Database:
        """The database; the caller closes it."""
        return Database(settings.database or f"sqlite:///{self.root / 'server.db'}")

    def blobs(self, settings: ServerSettings) -> BlobStore:
        """The blob store."""
        return FolderBlobStore(self.root / settings.blobs)

    def make_folders(self) -> None:
        """Create the folder and those in it.

        Raises Conflict when a server's state is already there, or anything that an init cut short did not leave.
        """
        if self.settings_file.exists():
            raise Conflict(
                Thing.folder(self.root), "holds a server's state already", "start it, or choose another folder"
            )
        with disk_errors_named(self.root):
            strange = {path.name for path in self.root.iterdir()} - _LEFT_BY_INIT if self.root.exists() else set()
            if strange:
                raise Conflict(
                    Thing.folder(self.root),
                    f"contains other files ({min(strange)})",
                    "choose a new, empty folder",
                    values={"file": min(strange)},
                )
            for name in _DATABASE_FILES:
                (self.root / name).unlink(missing_ok=True)
            for folder in (self.root, self.keys, self.spool):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                folder.chmod(0o700)

    def write_settings(self, settings: ServerSettings) -> None:
        """Write ``server.toml``; its presence is what makes the folder a server's state."""
        write_private(self.settings_file, settings.as_toml().encode())

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for one serving process.

        Raises ArchipelError (code conflict) when another process serves it and (code configuration) when it is not
        a server's state. The lock ends with the process, however that ends.
        """
        self.settings()
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ArchipelError(
                    Thing.folder(self.root),
                    "is served by another process",
                    "stop that one first",
                    code=ErrorCode.CONFLICT,
                ) from error
            yield
        finally:
            os.close(descriptor)
