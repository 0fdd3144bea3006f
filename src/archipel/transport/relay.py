"""A connection passed on as it is, byte for byte, to a socket of this machine: what is inside stays encrypted."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

LAST_S = 10.0
"""How long one side may take what the other sent before it ended."""


class _End(asyncio.Protocol):
    """One side of a relayed connection. What the other side does not take yet is not read here."""

    def __init__(self) -> None:
        self.other: _End
        self.ended = False
        self.transport: asyncio.Transport
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        self.ended = True
        if not self.other.transport.is_closing():
            self.other.transport.write_eof()
        # The other direction may go on, until it ends as well.
        return not self.other.ended

    def connection_lost(self, exc: Exception | None) -> None:
        self.other.transport.close()
        if not self.lost.done():
            self.lost.set_result(None)


async def relay(accepted: socket.socket, path: Path) -> None:
    """Connect the accepted socket with the Unix socket at ``path`` until one of the two ends, and close both.

    Raises OSError when nobody listens there.
    """
    loop = asyncio.get_running_loop()
    inner, outer = _End(), _End()
    inner.other, outer.other = outer, inner
    await loop.create_unix_connection(lambda: inner, str(path))
    try:
        await loop.connect_accepted_socket(lambda: outer, accepted)
        try:
            await asyncio.wait({inner.lost, outer.lost}, return_when=asyncio.FIRST_COMPLETED)
            # What one side sent last is passed on before the end.
            await asyncio.wait({inner.lost, outer.lost}, timeout=LAST_S)
        finally:
            outer.transport.abort()
    finally:
        inner.transport.abort()
