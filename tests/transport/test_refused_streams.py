"""A server that refuses a control stream is heard, also by a site that was about to say something itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from archipel.transport import Heartbeat
from archipel.transport.channel import ControlStream
from archipel.transport.status import to_status
from archipel.vocabulary import ArchipelError, ErrorCode, NotPermitted

REMOVED = NotPermitted("certificate 1f3a of tum", "is revoked", "ask for a join token", code=ErrorCode.REVOKED)


@asynccontextmanager
async def stream_to(answer: Any) -> AsyncIterator[ControlStream]:
    """A control stream to a server that answers every call so."""
    server = grpc.aio.server()
    handlers = {"Control": grpc.stream_stream_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield ControlStream(channel.stream_stream("/test/Control")())
    await server.stop(None)


async def refuse(_messages: object, context: Any) -> AsyncIterator[bytes]:
    await context.abort(*to_status(REMOVED))
    yield b""


async def end(_messages: object, _context: object) -> AsyncIterator[bytes]:
    for nothing in ():
        yield nothing


async def until_over(stream: ControlStream) -> None:
    while not stream._call.done():  # noqa: ASYNC110 - gRPC offers nothing to wait for here
        await asyncio.sleep(0.01)


async def test_who_speaks_to_a_server_that_has_refused_learns_why() -> None:
    async with stream_to(refuse) as stream:
        await until_over(stream)
        with pytest.raises(ArchipelError, match="certificate 1f3a of tum: is revoked; ask for a join token") as told:
            await stream.send(Heartbeat())
        assert told.value.code is ErrorCode.REVOKED
        with pytest.raises(ArchipelError, match="is revoked"):
            await stream.receive()


async def test_a_stream_that_ended_without_a_reason_is_a_lost_connection() -> None:
    async with stream_to(end) as stream:
        await until_over(stream)
        with pytest.raises(ArchipelError, match="ended; it is tried again") as lost:
            await stream.send(Heartbeat())
        assert lost.value.code is ErrorCode.LOST
        assert await stream.receive() is None
