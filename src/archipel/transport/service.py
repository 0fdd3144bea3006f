"""The server's end: five methods on one gRPC port that asks every caller for a certificate of the federation's CA.

Messages are bytes as they are; blobs and updates are raw chunks with no wrapping, which keeps a tensor file's bytes
from being copied into and out of a message object.
"""

from __future__ import annotations

import errno
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import grpc
import structlog
from cryptography import x509
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from archipel.transport.messages import FetchStart, FromServer, FromSite, Offset, RenewReply, RenewRequest, from_site
from archipel.transport.messages import UploadStart as UploadStartRecord
from archipel.transport.reading import LONGEST_FROM_SERVER, LONGEST_FROM_SITE, LONGEST_START, read
from archipel.transport.status import to_status
from archipel.vocabulary import ArchipelError, BadInput, ErrorCode, Thing
from archipel.vocabulary.remedies import Nothing

SERVICE = "archipel.Federation"
OPTIONS: list[tuple[str, Any]] = [
    ("grpc.so_reuseport", 0),
    # Windows of a fixed size, which each end sets for what it takes.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_ping_strikes", 0),
]
"""Options that both ends must share."""
SITE_TAKES = ("grpc.max_receive_message_length", LONGEST_FROM_SERVER)
SERVER_TAKES = ("grpc.max_receive_message_length", LONGEST_FROM_SITE)
MOST_STREAMS = 16
"""Calls at a time on one connection of a site; a further one waits for its turn there. A site has one control stream,
and a call for each tensor file that is being sent."""
MOST_CALLS = {"Control": 8, "Fetch": 32, "Upload": 32, "Offset": 32, "Renew": 4}
"""Calls of one site at a time, over all its connections: each holds memory, and many hold the server up for others. A
site has one control stream; those before it may be connections that broke and are not noticed yet."""
IDLE_MS = 300_000
"""How long a connection without a call stays open; a site that is connected has its control stream."""
HANDSHAKE_MS = 10_000
"""How long a connection may go without having shown a certificate."""
SITE_WINDOW = 1 << 20
"""Bytes of a stream that a site lets the server send ahead."""
SERVER_WINDOW = 384 << 10
"""The same for each site's stream at the server, which holds as much of every one: more would let its memory grow with
the number of sites, and this lets a site that is 20 ms away send 19 MB/s."""
_log = structlog.get_logger("archipel.wire")


@dataclass(frozen=True)
class Peer:
    """Who is calling, by the certificate that TLS checked."""

    site: str
    serial: str
    address: str


class FederationService(Protocol):
    """The server's action for each call."""

    def admit(self, peer: Peer) -> None:
        """Raise NotPermitted unless this certificate is valid now; asked for every message."""

    async def control(self, peer: Peer, incoming: AsyncIterator[FromSite], send: Send) -> None:
        """Serve one control stream until it ends."""

    def fetch(self, peer: Peer, start: FetchStart) -> AsyncIterator[bytes]:
        """The bytes of a blob."""

    async def upload(self, peer: Peer, start: UploadStartRecord, chunks: AsyncIterator[bytes]) -> None:
        """Take an update with its tensor file; returns once it is durable and counts."""

    async def offset(self, peer: Peer, start: UploadStartRecord) -> Offset:
        """How many bytes of this update's tensor file are here, and in what messages it takes the rest."""

    async def renew(self, peer: Peer, request: RenewRequest) -> str:
        """A new certificate (PEM) for the same site."""


Send = Callable[[FromServer], Awaitable[None]]


async def start_grpc_server(
    service: FederationService, *, host: str, port: int, key: bytes, certificate: bytes, authority: bytes
) -> tuple[grpc.aio.Server, int]:
    """Listen with mutual TLS; returns the server and its port (chosen when ``port`` is 0).

    Raises ArchipelError (code port-in-use) that names the port.
    """
    check_port(host, port)
    options = [
        *OPTIONS,
        SERVER_TAKES,
        ("grpc.http2.lookahead_bytes", SERVER_WINDOW),
        ("grpc.max_concurrent_streams", MOST_STREAMS),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
        ("grpc.max_connection_idle_ms", IDLE_MS),
    ]
    server = grpc.aio.server(options=options)
    handlers = {
        "Control": grpc.stream_stream_rpc_method_handler(_control(service)),
        "Fetch": grpc.unary_stream_rpc_method_handler(_fetch(service)),
        "Upload": grpc.stream_unary_rpc_method_handler(_upload(service)),
        "Offset": grpc.unary_unary_rpc_method_handler(_offset(service)),
        "Renew": grpc.unary_unary_rpc_method_handler(_renew(service)),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    credentials = grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)
    try:
        bound = server.add_secure_port(f"{host}:{port}", credentials)
    except RuntimeError as error:
        raise port_in_use(host, port) from error
    await server.start()
    return server, bound


def check_port(host: str, port: int) -> None:
    """Raise ArchipelError (code port-in-use) when another process listens there; gRPC's own message does not name the
    port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise port_in_use(host, port) from error
            cause = f"cannot be listened on ({error.strerror or error})"
            remedy = "change grpc_host or grpc_port in server.toml"
            raise ArchipelError(f"{host}:{port}", cause, remedy, code=ErrorCode.CONFIGURATION) from error


def port_in_use(host: str, port: int) -> ArchipelError:
    """The error for a port that another process has."""
    return ArchipelError(
        f"{host}:{port}",
        "the port is in use by another process",
        f"stop that process (`ss -ltnp sport = :{port}` names it) or change grpc_port in server.toml",
        code=ErrorCode.PORT_IN_USE,
    )


Context = Any


class _UnderWay:
    """The calls of one method that are under way, by site."""

    def __init__(self, method: str) -> None:
        self._method, self._most = method, MOST_CALLS[method]
        self._calls: Counter[str] = Counter()

    @contextmanager
    def one(self, peer: Peer) -> Iterator[None]:
        """Count a call within the context. Raises ArchipelError (code lost) when the site has too many."""
        if self._calls[peer.site] >= self._most:
            raise ArchipelError(
                Thing("site", peer.site),
                f"has {self._most} calls of {self._method} under way",
                "it is tried again",
                code=ErrorCode.LOST,
                values={"calls": self._most, "method": self._method},
                command=Nothing(),
            )
        self._calls[peer.site] += 1
        try:
            yield
        finally:
            self._calls[peer.site] -= 1
            if not self._calls[peer.site]:
                del self._calls[peer.site]


def _control(service: FederationService) -> Callable[[AsyncIterator[bytes], Context], Awaitable[None]]:
    under_way = _UnderWay("Control")

    async def control(requests: AsyncIterator[bytes], context: Context) -> None:
        peer = _peer(context)

        async def incoming() -> AsyncIterator[FromSite]:
            async for message in requests:
                service.admit(peer)
                yield read(from_site.validate_python, message, LONGEST_FROM_SITE)

        async def send(message: FromServer) -> None:
            await context.write(message.model_dump_json().encode())

        async with _Reporting(context):
            service.admit(peer)
            with under_way.one(peer):
                await service.control(peer, incoming(), send)

    return control


def _fetch(service: FederationService) -> Callable[[bytes, Context], Awaitable[None]]:
    under_way = _UnderWay("Fetch")

    async def fetch(request: bytes, context: Context) -> None:
        peer = _peer(context)
        async with _Reporting(context):
            service.admit(peer)
            with under_way.one(peer):
                start = read(FetchStart.model_validate, request, LONGEST_START)
                async for chunk in service.fetch(peer, start):
                    service.admit(peer)
                    await context.write(chunk)

    return fetch


def _upload(service: FederationService) -> Callable[[AsyncIterator[bytes], Context], Awaitable[bytes]]:
    under_way = _UnderWay("Upload")

    async def upload(requests: AsyncIterator[bytes], context: Context) -> bytes:
        peer = _peer(context)

        async def chunks() -> AsyncIterator[bytes]:
            async for chunk in requests:
                service.admit(peer)
                yield chunk

        async with _Reporting(context):
            service.admit(peer)
            with under_way.one(peer):
                stream = chunks()
                try:
                    start = await anext(stream)
                except StopAsyncIteration:
                    raise BadInput("upload", "is empty", "send its start first") from None
                update = read(UploadStartRecord.model_validate, start, LONGEST_START)
                await service.upload(peer, update, stream)
        return b"{}"

    return upload


def _offset(service: FederationService) -> Callable[[bytes, Context], Awaitable[bytes]]:
    under_way = _UnderWay("Offset")

    async def offset(request: bytes, context: Context) -> bytes:
        peer = _peer(context)
        reply = Offset(offset=0)
        async with _Reporting(context):
            service.admit(peer)
            with under_way.one(peer):
                start = read(UploadStartRecord.model_validate, request, LONGEST_START)
                reply = await service.offset(peer, start)
        return reply.model_dump_json().encode()

    return offset


def _renew(service: FederationService) -> Callable[[bytes, Context], Awaitable[bytes]]:
    under_way = _UnderWay("Renew")

    async def renew(request: bytes, context: Context) -> bytes:
        peer = _peer(context)
        certificate = ""
        async with _Reporting(context):
            service.admit(peer)
            with under_way.one(peer):
                wanted = read(RenewRequest.model_validate, request, LONGEST_START)
                certificate = await service.renew(peer, wanted)
        return RenewReply(certificate=certificate).model_dump_json().encode()

    return renew


class _Reporting:
    """Turns an error inside the block into a status; what is unexpected is logged here and named only by its kind."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or not isinstance(error, Exception) or isinstance(error, grpc.aio.AbortError):
            return
        if isinstance(error, ValidationError):
            error = BadInput(
                "message", f"is not one of this protocol ({error.error_count()} faults)", "update Archipel"
            )
        if not isinstance(error, ArchipelError):
            _log.error("call failed", exc_info=error)
            error = ArchipelError("server", "could not answer", "its log says why; try again")
        status, details = to_status(error)
        await self._context.abort(status, details)


def _peer(context: Context) -> Peer:
    pem = context.auth_context()["x509_pem_cert"][0]
    site, serial = site_of_certificate(pem)
    return Peer(site, serial, context.peer())


@lru_cache(maxsize=4096)
def site_of_certificate(pem: bytes) -> tuple[str, str]:
    """(site, serial) as in the certificate that TLS checked; the registry says whether they are valid now."""
    certificate = x509.load_pem_x509_certificate(pem)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value), format(certificate.serial_number, "x")
