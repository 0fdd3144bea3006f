"""The sites' port of a server that a test writes, with two sites that have certificates, and TLS by hand."""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc

from archipel.server.membership.federation import ServerContext
from archipel.tensors import blob_hash
from archipel.transport import FetchStart, Peer, SitesPort, sites_port
from archipel.transport.bulk_requests import read_answer
from archipel.transport.bulk_site import BulkClient, Download
from archipel.transport.dialling import dial
from archipel.transport.messages import FromSite, Offset, RenewRequest, UploadStart
from archipel.transport.service import SERVICE
from archipel.transport.status import read_error
from archipel.transport.tls import site_tls
from archipel.vocabulary import ArchipelError, NotFound
from worlds.people import OLGA
from worlds.server import Applicant

ENDLESS = "blake3:" + "0" * 64
ENDLESS_BYTES = 1 << 32


class EndlessFile(io.RawIOBase):
    """Gives bytes, but not fast: they are to be on their way when something else happens."""

    def readinto(self, window: Any) -> int:
        time.sleep(0.02)
        return len(window)

    def seek(self, offset: int, whence: int = 0) -> int:
        return offset


class Scripted:
    """A server that admits everybody, has blobs, and keeps what is uploaded."""

    def __init__(self, *blobs: bytes) -> None:
        self.blobs = {blob_hash(data): data for data in blobs}
        self.uploaded = bytearray()
        self.starts: list[UploadStart] = []
        self.refuses: ArchipelError | None = None
        """What is said of an upload before its bytes are read."""
        self.full: Exception | None = None
        """What is raised when the first piece of an upload is kept."""

    def admit(self, peer: Peer) -> None:
        pass

    async def control(self, peer: Peer, incoming: AsyncIterator[FromSite], send: Any) -> None:
        async for _ in incoming:
            pass

    async def fetch(self, peer: Peer, start: FetchStart, outgoing: Any) -> None:
        if start.hash == ENDLESS:
            await outgoing.send(EndlessFile(), ENDLESS_BYTES)
            return
        if start.hash not in self.blobs:
            raise NotFound("blob", "is not here", "ask for another")
        data = self.blobs[start.hash]
        await outgoing.send(io.BytesIO(data), len(data))

    async def upload(self, peer: Peer, start: UploadStart, incoming: Any) -> None:
        self.starts.append(start)
        if self.refuses is not None:
            raise self.refuses

        def keep(piece: memoryview) -> None:
            if self.full is not None:
                raise self.full
            self.uploaded += piece

        await incoming.receive(keep)

    async def offset(self, peer: Peer, start: UploadStart) -> Offset:
        return Offset(offset=len(self.uploaded))

    async def renew(self, peer: Peer, request: RenewRequest) -> str:
        return "a certificate"


@dataclass
class Keys:
    """What a site connects with."""

    key: bytes
    certificate: bytes
    authority: bytes

    @property
    def grpc(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.authority, self.key, self.certificate)

    @property
    def tls(self) -> ssl.SSLContext:
        return site_tls(self.key, self.certificate, self.authority)


@dataclass
class Attacked:
    """The listening server, the site's keys, and those of another site."""

    port: SitesPort
    service: Scripted
    keys: Keys
    other: Keys
    channels: list[Any] = field(default_factory=list)
    clients: list[BulkClient] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port.number}"

    def channel(self, keys: Keys | None = None) -> Any:
        """A gRPC connection of its own."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        self.channels.append(grpc.aio.secure_channel(self.address, (keys or self.keys).grpc, options=options))
        return self.channels[-1]

    def client(self, keys: Keys | None = None, **more: Any) -> BulkClient:
        """A site's end of bulk connections."""
        whose = keys or self.keys
        made = BulkClient(self.address, key=whose.key, certificate=whose.certificate, authority=whose.authority, **more)
        self.clients.append(made)
        return made

    def plain(self) -> socket.socket:
        """A connection that has said nothing."""
        return socket.create_connection(("127.0.0.1", self.port.number), 10)

    def bulk(self, keys: Keys | None = None) -> ssl.SSLSocket:
        """A bulk connection by hand."""
        return dial(self.address, "", (keys or self.keys).tls)

    async def still_answers(self) -> bool:
        renew = self.channel(self.other).unary_unary(f"/{SERVICE}/Renew")
        return b"a certificate" in await renew(RenewRequest(csr="", proof="").model_dump_json().encode())


async def fetched(client: BulkClient, blob: str) -> bytes:
    """A blob's bytes."""
    found = bytearray()

    def room(size: int) -> memoryview:
        found.extend(bytes(size))
        return memoryview(found)

    download = Download(blob, room)
    await client.fetch(download)
    assert download.is_right
    return bytes(found)


def answer(connection: ssl.SSLSocket) -> tuple[int, ArchipelError | None]:
    """Status of the next answer, and the error that it carries."""
    head = read_answer(lambda: connection.recv(4096))
    body = head.came
    if 200 <= head.status < 300:
        return head.status, None
    while len(body) < head.length and (more := connection.recv(4096)):
        body += more
    return head.status, read_error(body.decode())


@contextlib.asynccontextmanager
async def listening(federation: ServerContext, service: Scripted | None = None, **more: Any) -> AsyncIterator[Attacked]:
    """The port, open; ``more`` are its limits."""
    state, service = federation.state, service or Scripted()
    federation.authority.ensure_server_certificate(state, ["127.0.0.1"], datetime.now(UTC))
    authority = state.ca_certificate.read_bytes()

    def keys(name: str) -> Keys:
        site = Applicant(name)
        token = federation.enrolment.create_token(name, by=OLGA)
        certificate = federation.enrolment.enrol(site.request(token), datetime.now(UTC)).certificate
        return Keys(site.tls_pem(), certificate.encode(), authority)

    found: Attacked
    async with sites_port(
        service, host="127.0.0.1", port=0, authority=authority, key=state.tls_key.read_bytes(),
        certificate=state.tls_certificate.read_bytes(), folder=Path(state.root) / "port", **more,
    ) as port:  # fmt: skip
        found = Attacked(port, service, keys("berlin"), keys("paris"))
        try:
            yield found
        finally:
            for client in found.clients:
                client.close()
            for channel in found.channels:
                await channel.close(None)


@contextlib.contextmanager
def closing_all(connections: list[Any]) -> Iterator[None]:
    """Close them afterwards."""
    try:
        yield
    finally:
        for one in connections:
            one.close()
