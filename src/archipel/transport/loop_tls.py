"""A TLS socket in the event loop, for what is short: a handshake, a head, a refusal; not for a transfer's bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import TypeVar

T = TypeVar("T")
DRAIN_S = 2.0
_MOST_DRAINED = 64 << 20
_DRAINED_AT_ONCE = 1 << 16


class LoopTls:
    """The server's end of a connection that has not begun TLS."""

    def __init__(self, context: ssl.SSLContext, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        self.connection = context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)

    async def handshake(self) -> None:
        """Show and see certificates. Raises ConnectionError."""
        await self._done(self.connection.do_handshake)

    async def receive(self, most: int) -> bytes:
        """What came, at most so many bytes; nothing once the other side has ended.

        Whatever waits in the socket, others have their turn: a caller may send records of one byte each, as fast as
        they are read here.
        """
        await asyncio.sleep(0)
        return await self._done(lambda: self.connection.recv(most))

    async def send(self, data: bytes) -> None:
        """Send all of it, within the time of a drain. Raises ConnectionError when the other side does not read it."""
        try:
            async with asyncio.timeout(DRAIN_S):
                while data:
                    sent = await self._done(partial(self.connection.send, data))
                    data = data[sent:]
        except TimeoutError as error:
            raise ConnectionError("an answer that is not read") from error

    async def drain(self) -> None:
        """Throw away for a moment what still comes: a connection that is closed over unread bytes is reset, and the
        answer with it."""
        loop, left = asyncio.get_running_loop(), _MOST_DRAINED
        with contextlib.suppress(TimeoutError, OSError):
            socket.socket.shutdown(self.connection, socket.SHUT_WR)
            async with asyncio.timeout(DRAIN_S):
                while left > 0:
                    try:
                        # As it is: it is not decrypted.
                        got = len(socket.socket.recv(self.connection, _DRAINED_AT_ONCE))
                    except BlockingIOError:
                        await self._wait(loop.add_reader, loop.remove_reader)
                        continue
                    if not got:
                        return
                    left -= got
                    await asyncio.sleep(0)

    def close(self) -> None:
        """Close it at once."""
        self.connection.close()

    async def _done(self, step: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                await self._wait(loop.add_reader, loop.remove_reader)
            except ssl.SSLWantWriteError:
                await self._wait(loop.add_writer, loop.remove_writer)
            except ssl.SSLError as error:
                raise ConnectionError(str(error)) from error

    async def _wait(self, add: Callable[..., object], remove: Callable[[int], object]) -> None:
        ready, descriptor = asyncio.Event(), self.connection.fileno()
        add(descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            remove(descriptor)
