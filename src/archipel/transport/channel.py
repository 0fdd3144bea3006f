"""The site's end: one mutually authenticated gRPC channel for messages, and bulk connections for models and updates.

All of them go to one port, through a web proxy where there is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import grpc

from archipel.transport.bodies import Readable
from archipel.transport.bulk_site import BulkClient, Download
from archipel.transport.messages import (
    FromServer,
    FromSite,
    Offset,
    RenewReply,
    RenewRequest,
    UploadStart,
    from_server,
)
from archipel.transport.reading import LONGEST_FROM_SERVER, LONGEST_START, read
from archipel.transport.service import OPTIONS, SERVICE, SITE_TAKES, WINDOW
from archipel.transport.status import from_status
from archipel.vocabulary import ArchipelError, ErrorCode

_FINISHED = (grpc.aio.UsageError, asyncio.InvalidStateError)
"""What gRPC raises for a write to a call that the server has answered already."""


@contextmanager
def _errors_named() -> Iterator[None]:
    """Turn gRPC's several errors for a call that is over into one.

    A call whose channel was closed ends as if this task had been cancelled, which would end its work in silence.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_status(error) from error
    except _FINISHED as error:
        raise _lost("ended") from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise _lost("was closed") from error


def _lost(cause: str) -> ArchipelError:
    return ArchipelError("connection to the server", cause, "it is tried again", code=ErrorCode.LOST)


class Uplink:
    """A site's connection to its server. Every method raises ArchipelError; code ``lost`` means: try again later.

    ``proxy`` is ``http://host:port`` of a proxy that understands CONNECT, or empty.
    """

    def __init__(self, address: str, *, key: bytes, certificate: bytes, authority: bytes, proxy: str = "") -> None:
        credentials = grpc.ssl_channel_credentials(authority, key, certificate)
        options: list[tuple[str, Any]] = [
            *OPTIONS,
            SITE_TAKES,
            ("grpc.http2.lookahead_bytes", WINDOW),
            ("grpc.initial_reconnect_backoff_ms", 500),
            ("grpc.max_reconnect_backoff_ms", 5000),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        # Otherwise gRPC would use the proxy variables of the shell from which the agent was started.
        options += [("grpc.http_proxy", proxy)] if proxy else [("grpc.enable_http_proxy", 0)]
        self._channel = grpc.aio.secure_channel(address, credentials, options=options)
        self._control = self._channel.stream_stream(f"/{SERVICE}/Control")
        self._offset = self._channel.unary_unary(f"/{SERVICE}/Offset")
        self._renew = self._channel.unary_unary(f"/{SERVICE}/Renew")
        self._bulk = BulkClient(address, key=key, certificate=certificate, authority=authority, proxy=proxy)

    def control(self) -> ControlStream:
        """Open the control stream."""
        return ControlStream(self._control())

    async def fetch(self, download: Download) -> None:
        """Bring what is missing of a blob."""
        await self._bulk.fetch(download)

    async def upload(self, start: UploadStart, file: Readable | None) -> None:
        """Send an update and, from the start's offset on, its tensor file; returns once the server has recorded it."""
        await self._bulk.upload(start, file)

    async def offset(self, start: UploadStart) -> Offset:
        """How many bytes of the update's tensor file the server holds already."""
        with _errors_named():
            reply = await self._offset(start.model_dump_json().encode())
        return read(Offset.model_validate, reply, LONGEST_START)

    async def renew(self, request: RenewRequest) -> str:
        """A new certificate (PEM) for the same identity."""
        with _errors_named():
            reply = await self._renew(request.model_dump_json().encode())
        return read(RenewReply.model_validate, reply, LONGEST_START).certificate

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bulk.close()
        await self._channel.close(None)


class ControlStream:
    """The open control stream, as the site sees it."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def send(self, message: FromSite) -> None:
        """Send a message to the server."""
        with _errors_named():
            try:
                await self._call.write(message.model_dump_json().encode())
            except _FINISHED:
                # The server ended the stream before; reading on raises its reason, where it gave one.
                if self._call.done():
                    await self._call.read()
                raise

    async def receive(self) -> FromServer | None:
        """The next message, or None when the server ended the stream without an error."""
        with _errors_named():
            message = await self._call.read()
        return None if message is grpc.aio.EOF else read(from_server.validate_python, message, LONGEST_FROM_SERVER)

    def cancel(self) -> None:
        """Drop the stream."""
        self._call.cancel()
