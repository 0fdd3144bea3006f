"""The server's end of everything between it and its sites: one port, with gRPC and the bulk connections behind it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from archipel.transport.bulk_service import SILENCE_S, BulkService
from archipel.transport.front import MOST_CONNECTIONS, Front
from archipel.transport.listening import listen
from archipel.transport.service import FederationService, grpc_server
from archipel.transport.tls import server_tls

_SOCKET = "grpc.sock"


@dataclass(frozen=True)
class SitesPort:
    """The open port; ``number`` is the one that was chosen where 0 was asked for."""

    number: int
    bulk: BulkService
    front: Front

    @property
    def open(self) -> int:
        """How many connections there are."""
        return self.front.open


@asynccontextmanager
async def sites_port(
    service: FederationService,
    *,
    host: str,
    port: int,
    key: bytes,
    certificate: bytes,
    authority: bytes,
    folder: Path,
    silence_s: float = SILENCE_S,
    most: int = MOST_CONNECTIONS,
) -> AsyncIterator[SitesPort]:
    """Listen with mutual TLS within the context. ``folder`` is for the socket of gRPC: no other account may enter it.

    Raises ArchipelError (code port-in-use) that names the port.
    """
    bound = listen(host, port, "grpc_port")
    with bound, _socket_path(folder) as path:
        bulk = BulkService(service, server_tls(key, certificate, authority), silence_s)
        front = Front(bound, path, bulk, most)
        grpc = grpc_server(service, path, key=key, certificate=certificate, authority=authority)
        await grpc.start()
        front.start()
        try:
            yield SitesPort(bound.getsockname()[1], bulk, front)
        finally:
            await front.stop()
            await grpc.stop(1.0)
            bulk.close()


@contextmanager
def _socket_path(folder: Path) -> Iterator[Path]:
    """A path in the folder that is short enough for a socket, whatever the folder's own is."""
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    path = Path(f"/proc/self/fd/{descriptor}/{_SOCKET}")
    try:
        # A restored backup may have left it open to others.
        os.fchmod(descriptor, 0o700)
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
