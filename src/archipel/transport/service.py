"""The server's end of gRPC: three methods, and every caller shows a certificate of the federation's CA.

It listens on a Unix socket, to which the sites' port relays (``front``). Models and updates do not come here: they have
connections of their own (``bulk_service``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import grpc
import structlog
from pydantic import ValidationError

from archipel.transport.bulk_service import BulkActions
from archipel.transport.messages import FromServer, FromSite, Offset, RenewReply, RenewRequest, UploadStart, from_site
from archipel.transport.peers import Peer, UnderWay, peer_of_pem
from archipel.transport.reading import LONGEST_FROM_SERVER, LONGEST_FROM_SITE, LONGEST_START, read
from archipel.transport.status import to_status
from archipel.vocabulary import ArchipelError, BadInput

SERVICE = "archipel.Federation"
OPTIONS: list[tuple[str, Any]] = [
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
and a call for each tensor file of which it asks how much is here."""
MOST_CALLS = {"Control": 8, "Offset": 32, "Renew": 4}
"""Calls of one site at a time, over all its connections: each holds memory, and many hold the server up for others. A
site has one control stream; those before it may be connections that broke and are not noticed yet."""
IDLE_MS = 300_000
"""How long a connection without a call stays open; a site that is connected has its control stream."""
HANDSHAKE_MS = 10_000
"""How long a connection may go without having shown a certificate."""
WINDOW = 1 << 20
"""Bytes of a stream that each end lets the other send ahead."""
_log = structlog.get_logger("archipel.wire")


class FederationService(BulkActions, Protocol):
    """The server's action for each call."""

    async def control(self, peer: Peer, incoming: AsyncIterator[FromSite], send: Send) -> None:
        """Serve one control stream until it ends."""

    async def offset(self, peer: Peer, start: UploadStart) -> Offset:
        """How many bytes of this update's tensor file are here."""

    async def renew(self, peer: Peer, request: RenewRequest) -> str:
        """A new certificate (PEM) for the same site."""


Send = Callable[[FromServer], Awaitable[None]]


def grpc_server(
    service: FederationService, path: Path, *, key: bytes, certificate: bytes, authority: bytes
) -> grpc.aio.Server:
    """A server, not started, with mutual TLS on a Unix socket."""
    options = [
        *OPTIONS,
        SERVER_TAKES,
        ("grpc.http2.lookahead_bytes", WINDOW),
        ("grpc.max_concurrent_streams", MOST_STREAMS),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
        ("grpc.max_connection_idle_ms", IDLE_MS),
    ]
    server = grpc.aio.server(options=options)
    handlers = {
        "Control": grpc.stream_stream_rpc_method_handler(_control(service)),
        "Offset": grpc.unary_unary_rpc_method_handler(_offset(service)),
        "Renew": grpc.unary_unary_rpc_method_handler(_renew(service)),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    credentials = grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)
    server.add_secure_port(f"unix:{path}", credentials)
    return server


Context = Any


def _under_way(method: str) -> UnderWay:
    return UnderWay(f"calls of {method}", MOST_CALLS[method])


def _control(service: FederationService) -> Callable[[AsyncIterator[bytes], Context], Awaitable[None]]:
    under_way = _under_way("Control")

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


def _offset(service: FederationService) -> Callable[[bytes, Context], Awaitable[bytes]]:
    under_way = _under_way("Offset")

    async def offset(request: bytes, context: Context) -> bytes:
        peer = _peer(context)
        reply = Offset(offset=0)
        async with _Reporting(context):
            service.admit(peer)
            with under_way.one(peer):
                start = read(UploadStart.model_validate, request, LONGEST_START)
                reply = await service.offset(peer, start)
        return reply.model_dump_json().encode()

    return offset


def _renew(service: FederationService) -> Callable[[bytes, Context], Awaitable[bytes]]:
    under_way = _under_way("Renew")

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
    return peer_of_pem(context.auth_context()["x509_pem_cert"][0])
