"""The server's end of bulk connections: models go down and updates come up over TLS 1.3 sockets.

Handshakes, heads and the records of updates are read in the event loop, where a slow caller costs a little memory. The
bytes of a transfer move in a thread of their own, and a caller gets one only after its certificate was checked. Between
two requests a connection has no thread.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

import structlog
from pydantic import ValidationError

from archipel.transport.bodies import Buffers, Line, Readable, end, give, take
from archipel.transport.bulk_requests import (
    GO_ON,
    LONGEST_HEAD,
    TAKEN,
    Fetching,
    HeadReader,
    Uploading,
    blob_head,
    refusal,
)
from archipel.transport.connections import Connection, site_caller
from archipel.transport.loop_tls import LoopTls
from archipel.transport.messages import FetchStart, UploadStart
from archipel.transport.peers import Peer, UnderWay, peer_of_der
from archipel.transport.reading import LONGEST_START, read
from archipel.transport.tls import BULK
from archipel.transport.waiting import in_thread
from archipel.vocabulary import ArchipelError, BadInput, ErrorCode

MOST_THREADS = 128
"""Transfers at a time; a further one waits for its turn."""
MOST_TRANSFERS = 8
"""Transfers of one site at a time, over all its connections. An agent has fewer; those before may be of connections
that broke and are not noticed yet."""
HANDSHAKE_S = 10.0
"""How long a connection may go without having shown a certificate, and a request without its whole head."""
IDLE_S = 120.0
"""How long a connection stays open between two requests."""
RECORD_S = 60.0
"""How long the record of an update may take."""
SILENCE_S = 60.0
"""How long one piece of a transfer may take before it is given up; of an update, what arrived stays for the next
try."""
_log = structlog.get_logger("archipel.wire")


class Outgoing(Protocol):
    """A blob on its way to a site, from the byte on that it asked for."""

    async def send(self, file: Readable, size: int) -> int:
        """Send a file of ``size`` bytes; how many went. Raises ArchipelError (code lost) when the connection ends."""


class Incoming(Protocol):
    """The bytes that follow an update's record; ``size`` is how many are announced."""

    size: int

    async def receive(self, keep: Callable[[memoryview], None]) -> None:
        """Receive them all; ``keep`` gets them piece by piece, in a thread, and the memory is used again after it.

        Raises ArchipelError (code lost) when the connection ends before; nothing calls ``keep`` any more then.
        """


class BulkActions(Protocol):
    """The server's action for each request."""

    def admit(self, peer: Peer) -> None:
        """Raise NotPermitted unless this certificate is valid now; asked in any thread."""

    async def fetch(self, peer: Peer, start: FetchStart, outgoing: Outgoing) -> None:
        """Send a blob, or the document of a job."""

    async def upload(self, peer: Peer, start: UploadStart, incoming: Incoming) -> None:
        """Take an update with its tensor file; returns once it is durable and counts."""


class BulkService:
    """All bulk connections of a server."""

    def __init__(self, actions: BulkActions, tls: ssl.SSLContext, silence_s: float = SILENCE_S) -> None:
        self.actions, self.silence_s = actions, silence_s
        self.transfers = UnderWay("transfers", MOST_TRANSFERS)
        self.buffers = Buffers()
        self.pool = ThreadPoolExecutor(MOST_THREADS, "bulk")
        self._tls = tls
        self._open: dict[ssl.SSLSocket, Peer] = {}

    async def serve(self, accepted: socket.socket, counted: Connection) -> None:
        """Serve a connection from its handshake to its end. Raises OSError for one that did not complete it."""
        tls = LoopTls(self._tls, accepted)
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await tls.handshake()
            shown = tls.connection.getpeercert(binary_form=True)
            if tls.connection.selected_alpn_protocol() != BULK or shown is None:
                raise ConnectionError("no bulk connection")
            peer = peer_of_der(shown)
            counted.caller = site_caller(peer.site)
            self._open[tls.connection] = peer
            await _Caller(self, tls, peer, counted).serve()
        finally:
            self._open.pop(tls.connection, None)
            tls.close()

    def cut_revoked(self) -> None:
        """End the connections whose certificates are not valid any more; called when the registry changed."""
        for connection, peer in list(self._open.items()):
            try:
                self.actions.admit(peer)
            except ArchipelError:
                end(connection)

    def close(self) -> None:
        """Let the threads go; their connections have been closed."""
        self.pool.shutdown(wait=False, cancel_futures=True)


class _Caller:
    """One connection of a site and its requests, one after the other."""

    def __init__(self, bulk: BulkService, tls: LoopTls, peer: Peer, counted: Connection) -> None:
        self._bulk, self._tls, self.peer, self._counted = bulk, tls, peer, counted
        self._line = Line(tls.connection, bulk.silence_s)
        self._answering = False

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            async with asyncio.timeout(IDLE_S):
                data = await self._tls.receive(LONGEST_HEAD)
            if not data:
                return
            self._counted.busy, self._counted.since = True, loop.time()
            try:
                await self._answer(data)
            except Exception as error:
                await self._refuse(error)
                return
            self._counted.busy, self._counted.since = False, loop.time()

    async def _answer(self, data: bytes) -> None:
        self._bulk.actions.admit(self.peer)
        reader = HeadReader()
        request = reader.read(data)
        with _in_time():
            async with asyncio.timeout(HANDSHAKE_S):
                while request is None:
                    request = reader.read(await self._tls.receive(LONGEST_HEAD))
        with self._bulk.transfers.one(self.peer):
            match request:
                case Fetching(start=start):
                    await self._fetch(start)
                case Uploading():
                    await self._upload(request)

    async def _fetch(self, start: FetchStart) -> None:
        await self._bulk.actions.fetch(self.peer, start, _Going(self, start.offset))
        if not self._answering:
            raise RuntimeError("a request for a blob was not answered")
        self._answering = False

    async def _upload(self, request: Uploading) -> None:
        record = bytearray(request.came[: request.record])
        with _in_time():
            async with asyncio.timeout(RECORD_S):
                while len(record) < request.record:
                    more = await self._tls.receive(request.record - len(record))
                    if not more:
                        raise ConnectionError("closed before the update's record")
                    record += more
        start = read(UploadStart.model_validate, bytes(record), LONGEST_START)
        coming = _Coming(self, request)
        await self._bulk.actions.upload(self.peer, start, coming)
        if not coming.taken and request.tensors:
            # The update is here already, and its bytes are not read again.
            await self._tls.send(TAKEN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            await self._tls.drain()
            raise _Done
        await self._tls.send(TAKEN)

    async def _refuse(self, error: Exception) -> None:
        """Say why, as far as the other side still reads it; what it is sending is thrown away meanwhile."""
        if isinstance(error, _Done | ConnectionError):
            return
        if self._answering:
            # Bytes of a blob are on their way: only the end of the connection can say that they are not all.
            if not isinstance(error, ArchipelError):
                _log.error("transfer failed", site=self.peer.site, exc_info=error)
            return
        if isinstance(error, ValidationError):
            error = BadInput("request", "is not one of this protocol", "update Archipel")
        if not isinstance(error, ArchipelError):
            _log.error("transfer failed", site=self.peer.site, exc_info=error)
            error = ArchipelError("server", "could not answer", "its log says why; try again")
        await self._tls.send(refusal(error))
        await self._tls.drain()

    async def in_thread(self, move: Callable[[Line, memoryview], None]) -> None:
        """Move bytes in a thread; when this is cancelled the connection ends, and so does the thread."""
        connection = self._tls.connection

        def work() -> None:
            connection.settimeout(self._bulk.silence_s)
            try:
                with self._bulk.buffers.one() as window:
                    move(self._line, window)
            finally:
                connection.setblocking(False)

        await in_thread(self._bulk.pool, work, lambda: end(connection))

    def begin_answer(self) -> None:
        """From now on the bytes of a blob go out."""
        self._answering = True

    def check(self) -> None:
        """Raise NotPermitted unless the certificate is still valid."""
        self._bulk.actions.admit(self.peer)


@contextmanager
def _in_time() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise ConnectionError("a request that does not end") from error


class _Done(Exception):
    pass


class _Going:
    def __init__(self, caller: _Caller, offset: int) -> None:
        self._caller, self._offset = caller, offset

    async def send(self, file: Readable, size: int) -> int:
        left = size - self._offset
        if left < 0:
            cause = f"was asked for from byte {self._offset} on and has {size}"
            raise BadInput("blob", cause, "fetch it from the start", code=ErrorCode.BAD_INPUT)
        self._caller.begin_answer()

        def move(line: Line, window: memoryview) -> None:
            file.seek(self._offset)
            line.send(blob_head(self._offset, size))
            give(line, file, left, window, self._caller.check)

        await self._caller.in_thread(move)
        return left


class _Coming:
    def __init__(self, caller: _Caller, request: Uploading) -> None:
        self._caller, self._request, self.size = caller, request, request.tensors
        self.taken = False

    async def receive(self, keep: Callable[[memoryview], None]) -> None:
        self.taken = True
        came = self._request.came[self._request.record :]

        def move(line: Line, window: memoryview) -> None:
            if self._request.waits:
                line.send(GO_ON)
            take(line, came, self.size, window, keep, self._caller.check)

        await self._caller.in_thread(move)
