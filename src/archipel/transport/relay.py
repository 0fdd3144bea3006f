"""A connection passed on as it is, byte for byte, to a socket of this machine: what is inside stays encrypted."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

LAST_S = 10.0
"""How long one side may take what the other sent before it ended."""
_PROTECTED = 23
"""The first byte of a record that is encrypted (RFC 8446, 5.1)."""


class _End(asyncio.Protocol):
    """One side of a relayed connection. What the other side does not take yet is not read here.

    ``ended`` is done when it sends no more, ``lost`` when it is closed.
    """

    def __init__(self, spoke: Callable[[bytes], None]) -> None:
        self.other: _End
        self.transport: asyncio.Transport
        self._spoke = spoke
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._spoke(data)
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        _done(self.ended)
        if not self.other.transport.is_closing():
            self.other.transport.write_eof()
        # The other direction may go on, until it ends as well.
        return not self.other.ended.done()

    def connection_lost(self, exc: Exception | None) -> None:
        self.other.transport.close()
        _done(self.ended)
        _done(self.lost)


class _Answers:
    """Calls ``admitted`` at the first answer of the listener by which it has admitted the caller.

    Within a handshake it answers with a hello, which is readable. What it answers encrypted comes after the caller's
    certificate: it is the end of a handshake that failed, and of the connection, or it is the listener's own words.
    """

    def __init__(self, admitted: Callable[[], None]) -> None:
        self._admitted: Callable[[], None] | None = admitted
        self._asked = False

    def ask(self, _data: bytes) -> None:
        self._asked = True

    def answer(self, data: bytes) -> None:
        if self._asked and self._admitted is not None and data[0] == _PROTECTED:
            self._admitted()
            self._admitted = None
        self._asked = False


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def relay(accepted: socket.socket, path: Path, admitted: Callable[[], None]) -> None:
    """Connect the accepted socket with the Unix socket at ``path`` until one of the two ends, and close both.

    ``admitted`` is called once the listener there, which does the TLS, has accepted the caller's certificate. Raises
    OSError when nobody listens there.
    """
    loop, answers = asyncio.get_running_loop(), _Answers(admitted)
    inner, outer = _End(answers.answer), _End(answers.ask)
    inner.other, outer.other = outer, inner
    await loop.create_unix_connection(lambda: inner, str(path))
    try:
        await loop.connect_accepted_socket(lambda: outer, accepted)
        try:
            await asyncio.wait({inner.ended, outer.ended}, return_when=asyncio.FIRST_COMPLETED)
            # What one side sent last is passed on before the end, for which no side waits longer.
            await asyncio.wait({inner.lost, outer.lost}, timeout=LAST_S)
        finally:
            outer.transport.abort()
    finally:
        inner.transport.abort()
