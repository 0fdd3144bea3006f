"""The sites' one port: each connection goes by the protocol that its ClientHello offers, before any TLS is done here.

``archipel-bulk/1`` is served here (``bulk_service``); ``h2`` is relayed to gRPC on a Unix socket, which ends its TLS
itself. Every machine that reaches the port may open connections, so their number is bounded, and when there is no room
the caller with the most gives one up (``connections``).
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import structlog

from archipel.transport.accepting import accept
from archipel.transport.bulk_service import BulkService
from archipel.transport.client_hello import LONGEST_HELLO, HelloReader
from archipel.transport.connections import Connection, Connections
from archipel.transport.relay import relay
from archipel.transport.tls import BULK

_log = structlog.get_logger("archipel.wire")
MOST_CONNECTIONS = 1000
"""Connections of this port at a time; a site has one for its messages, and one for each transfer."""
HELLO_S = 10.0
"""How long a connection may go without its whole ClientHello."""
_LOOK_AGAIN_S = (0.005, 0.25)
"""Seconds between two looks at a ClientHello that came in part: the first time, doubled each time, at most."""


class Front:
    """The port, in the running event loop."""

    def __init__(self, bound: socket.socket, grpc: Path, bulk: BulkService, most: int = MOST_CONNECTIONS) -> None:
        self._bound, self._grpc, self._bulk, self._most = bound, grpc, bulk, most
        self._open: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._open)

    def start(self) -> None:
        """Begin to accept."""
        self._bound.setblocking(False)
        self._accepting = asyncio.create_task(
            accept(self._bound, self._most, self._serve, self._open), name="front-accept"
        )

    async def stop(self) -> None:
        """Close the port and every connection."""
        accepting = [self._accepting] if self._accepting is not None else []
        for task in (*accepting, *self._open):
            task.cancel()
        await asyncio.gather(*accepting, *self._open, return_exceptions=True)
        self._bound.close()

    async def _serve(self, accepted: socket.socket, counted: Connection, connections: Connections) -> None:
        try:
            async with asyncio.timeout(HELLO_S):
                protocols = await _protocols(accepted)
            if BULK in protocols:
                await self._bulk.serve(accepted, counted)
            elif "h2" in protocols:
                # A hello costs its sender nothing: until its certificate was accepted it counts as an idle connection.
                await relay(accepted, self._grpc, counted.begin)
            else:
                _log.debug("a connection offers no protocol of this port", caller=counted.caller)
        except (OSError, ValueError) as error:
            _log.debug("a connection ended early", caller=counted.caller, error=str(error))
        except Exception as error:
            _log.error("a connection failed", caller=counted.caller, exc_info=error)
        finally:
            connections.remove(counted)
            accepted.close()


async def _protocols(accepted: socket.socket) -> tuple[str, ...]:
    """What the ClientHello offers; its bytes stay in the socket for the one who does the TLS.

    Raises ValueError for what is not a ClientHello, OSError.
    """
    wait, longest = _LOOK_AGAIN_S
    reader, seen = HelloReader(), 0
    await _readable(accepted)
    while True:
        data = accepted.recv(LONGEST_HELLO, socket.MSG_PEEK)
        if not data:
            raise ConnectionResetError("closed before its ClientHello")
        if len(data) > seen:
            seen = len(data)
            protocols = reader.read(data)
            if protocols is not None:
                return protocols
        # The socket stays readable for what was seen already: only looking again tells whether more came.
        await asyncio.sleep(wait)
        wait = min(2 * wait, longest)


async def _readable(accepted: socket.socket) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(accepted, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(accepted)
