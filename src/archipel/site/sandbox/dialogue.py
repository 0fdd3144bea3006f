"""The agent's end of the socket to a worker: whole messages out, bounded messages in, and only replies to requests.

The agent assumes that the plan wrote everything that arrives. Descriptors that come with it are never received: the
kernel drops them, because the agent reads without a buffer for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence

from pydantic import ValidationError

from archipel.site.worker import HEADER, LARGEST_REPLY, FromWorker, ToWorker, encode_message, from_worker
from archipel.vocabulary.documents import parsed


class Gone(Exception):
    """The worker closed its end."""


class Malformed(Exception):
    """What came is not a message of the protocol, or came unasked."""


class NotFinite(Exception):
    """A message held NaN or infinite numbers."""


class Dialogue:
    """One socket; one question at a time."""

    def __init__(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        self._channel = channel

    async def say(self, message: ToWorker, descriptors: Sequence[int] = ()) -> None:
        """Send a message, with descriptors beside its first byte. Raises Gone; waits while the worker reads nothing."""
        data = encode_message(message)
        try:
            if descriptors:
                sent = socket.send_fds(self._channel, [data[:1]], list(descriptors))
                data = data[sent:]
            await asyncio.get_running_loop().sock_sendall(self._channel, data)
        except OSError as error:
            raise Gone(str(error)) from error

    async def hear(self) -> FromWorker:
        """The next message. Raises Gone, Malformed and NotFinite; waits for one that never comes."""
        (length,) = HEADER.unpack(await self._exactly(HEADER.size))
        if length > LARGEST_REPLY:
            raise Malformed(f"began a reply of {length} bytes")
        try:
            return parsed(from_worker.validate_python, await self._exactly(length), LARGEST_REPLY)
        except ValidationError as error:
            if any(one["type"] == "finite_number" for one in error.errors(include_input=False, include_url=False)):
                raise NotFinite(str(error)[:1000]) from error
            raise Malformed(f"sent a reply that does not fit: {str(error)[:1000]}") from error
        except ValueError as error:
            raise Malformed(f"sent what is not a message: {str(error)[:200]}") from error

    def check_silent(self) -> None:
        """Raise Malformed when a message came that was not asked for, Gone when the other end is closed."""
        try:
            waiting = self._channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            raise Gone(str(error)) from error
        if not waiting:
            raise Gone("it closed the socket")
        raise Malformed("sent a message that was not asked for")

    async def close(self) -> None:
        """The worker ends when it sees that; what still waits for its answer here gets Gone."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        # The event loop forgets a closed socket with those who wait for it: they must see its end before that.
        await asyncio.sleep(0)
        self._channel.close()

    async def _exactly(self, length: int) -> bytes:
        loop = asyncio.get_running_loop()
        data = bytearray()
        while len(data) < length:
            try:
                more = await loop.sock_recv(self._channel, min(length - len(data), 1 << 16))
            except OSError as error:
                raise Gone(str(error)) from error
            if not more:
                raise Gone("it ended without an answer")
            data += more
        return bytes(data)
