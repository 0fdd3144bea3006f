"""A site's end of bulk connections: blobs come down to where they stay, updates go up, each in a thread of its own.

A connection that had its answer is used again; one that broke is told by code ``lost``, and what arrived is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import select
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from archipel.tensors import BlobHasher
from archipel.transport.bodies import Buffers, Line, Readable, end, lost
from archipel.transport.bulk_requests import Answer, fetch_head, read_answer, upload_head
from archipel.transport.dialling import dial
from archipel.transport.messages import CHUNK, FetchStart, UploadStart
from archipel.transport.reading import LONGEST_START
from archipel.transport.status import read_error, untrusted_server
from archipel.transport.tls import site_tls
from archipel.transport.waiting import in_thread
from archipel.vocabulary import ArchipelError

MOST_TRANSFERS = 4
"""Transfers of a site at a time; a further one waits for its turn."""
SILENCE_S = 60.0
"""How long one piece of a transfer may take."""
ANSWER_S = 300.0
"""How long the server may take for its answer: it may wait for a thread, or for its disk."""
KEPT_S = 60.0
"""How long a connection is kept for the next transfer; the server keeps it longer."""


class Download:
    """A blob on its way here, over as many connections as it takes: where it lands, and the hash of what is here.

    ``room`` gives the memory for a blob of so many bytes, or raises.
    """

    def __init__(self, blob: str, room: Callable[[int], memoryview]) -> None:
        self.blob, self._room = blob, room
        self.position = 0
        self._window: memoryview | None = None
        self._hasher = hashlib.sha256() if blob.startswith("sha256:") else BlobHasher()

    def window(self, size: int) -> memoryview:
        """Where the rest of the blob goes, which has ``size`` bytes in all."""
        if self._window is None:
            self._window = self._room(size)
        if len(self._window) != size:
            raise lost(f"brings a blob of {size} bytes that had {len(self._window)}")
        return self._window[self.position :]

    def came(self, piece: memoryview) -> None:
        """The next bytes are in their place."""
        self._hasher.update(piece)
        self.position += len(piece)

    @property
    def is_right(self) -> bool:
        """Whether the bytes that came have the blob's hash."""
        if isinstance(self._hasher, BlobHasher):
            return self._hasher.digest() == self.blob
        return f"sha256:{self._hasher.hexdigest()}" == self.blob

    def release(self) -> None:
        """Let the memory go."""
        if self._window is not None:
            self._window.release()


class _Link:
    """One connection, or one that is being made."""

    def __init__(self) -> None:
        self.connection: ssl.SSLSocket | None = None
        self.ended = False
        self.used = self.idle_since = 0.0
        self._lock = threading.Lock()

    def made(self, connection: ssl.SSLSocket) -> None:
        with self._lock:
            self.connection = connection
            if self.ended:
                end(connection)

    def abort(self) -> None:
        """Make the thread that uses it stop."""
        with self._lock:
            self.ended = True
            if self.connection is not None:
                end(self.connection)

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()

    @property
    def is_usable(self) -> bool:
        """Whether it is still open as far as this side knows: the server says nothing between two requests."""
        if self.connection is None or self.ended or time.monotonic() - self.idle_since > KEPT_S:
            return False
        return not _says_something(self.connection)


class BulkClient:
    """A site's bulk connections to its server. Every method raises ArchipelError; code ``lost``: try again."""

    def __init__(self, address: str, *, key: bytes, certificate: bytes, authority: bytes, proxy: str = "") -> None:
        self._address, self._proxy = address, proxy
        self._keys = key, certificate, authority
        self._tls: ssl.SSLContext | None = None
        self._pool = ThreadPoolExecutor(MOST_TRANSFERS, "bulk")
        self._buffers = Buffers()
        self._lock = threading.Lock()
        self._idle: list[_Link] = []
        self._active: set[_Link] = set()
        self._closed = False

    async def fetch(self, download: Download) -> None:
        """Bring what is missing of a blob."""
        await self._in_thread(lambda link: self._fetch(link, download))

    async def upload(self, start: UploadStart, file: Readable | None) -> None:
        """Send an update and, from the start's offset on, its tensor file; returns once the server has recorded it."""
        await self._in_thread(lambda link: self._upload(link, start, file))

    def close(self) -> None:
        """End every transfer and connection."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for link in self._active:
                link.abort()
        for link in idle:
            link.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, move: Callable[[_Link], None]) -> None:
        link = _Link()
        try:
            # The memory that the thread writes to is not given back before it has ended.
            await in_thread(self._pool, lambda: self._moved(link, move), link.abort)
        except RuntimeError as error:
            # The pool takes no more work.
            raise lost("was closed") from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # It was waiting for its turn when all was closed.
            raise lost("was closed") from None

    def _moved(self, link: _Link, move: Callable[[_Link], None]) -> None:
        """One transfer, in its thread; a connection that was used before may have ended meanwhile unnoticed."""
        for old in (True, False):
            with self._connected(link, old) as used:
                try:
                    move(link)
                    return
                except _NeverAnswered as error:
                    if not used or link.ended:
                        raise lost(f"broke ({error})") from error

    @contextmanager
    def _connected(self, link: _Link, old: bool) -> Iterator[bool]:
        """Within the context the link has a connection; whether it was used before."""
        with self._lock:
            if self._closed or link.ended:
                raise lost("was closed")
            self._active.add(link)
            found = self._idle.pop() if old and self._idle else None
        try:
            used = found is not None and found.is_usable
            if found is not None and not used:
                found.close()
            link.made(found.connection if used and found is not None and found.connection else self._dialled())
            link.idle_since = 0.0
            yield used
        finally:
            with self._lock:
                self._active.discard(link)
                keep = bool(link.idle_since) and not link.ended and not self._closed
                if keep:
                    kept = _Link()
                    kept.connection, kept.idle_since = link.connection, link.idle_since
                    self._idle.append(kept)
            if not keep:
                link.close()

    def _dialled(self) -> ssl.SSLSocket:
        try:
            if self._tls is None:
                self._tls = site_tls(*self._keys)
            connection = dial(self._address, self._proxy, self._tls)
        except ssl.SSLCertVerificationError as error:
            raise untrusted_server() from error
        except OSError as error:
            raise ArchipelError(*_unreached(self._address, error), code=lost("").code) from error
        connection.settimeout(SILENCE_S)
        return connection

    def _fetch(self, link: _Link, download: Download) -> None:
        connection, line = _open(link)
        asked_from = download.position
        _ask(line, fetch_head(self._address, FetchStart(hash=download.blob, offset=asked_from)))
        answer = self._answered(connection, (200, 206))
        left = download.window(asked_from + answer.length)
        here = answer.came[: len(left)]
        left[: len(here)] = here
        fresh = len(here)
        while len(left):
            piece = left[:CHUNK]
            count = fresh + line.fill(piece[fresh:])
            fresh = 0
            download.came(piece[:count])
            if count < len(piece):
                raise lost("ended before the blob did")
            left = left[count:]
        _has_its_answer(link, answer)

    def _upload(self, link: _Link, start: UploadStart, file: Readable | None) -> None:
        connection, line = _open(link)
        record = start.model_dump_json().encode()
        left = start.update.model_bytes - start.offset if file is not None else 0
        waits = left > CHUNK
        _ask(line, upload_head(self._address, len(record), left, waits=waits) + record)
        answer = self._answered(connection, (100, 200, 204)) if waits else None
        if file is not None and (answer is None or answer.status == 100):
            file.seek(start.offset)
            answer = self._sent(connection, line, file, left)
        _has_its_answer(link, answer or self._answered(connection, (200, 204)))

    def _sent(self, connection: ssl.SSLSocket, line: Line, file: Readable, left: int) -> Answer:
        """Send the next bytes of the file; the answer, which ends the sending if it comes early."""
        with self._buffers.one() as window:
            while left and not _says_something(connection):
                count = file.readinto(window[:left])
                if not count:
                    raise lost("has no more of the update's file to send")
                try:
                    line.send(window[:count])
                except ArchipelError:
                    # The server may have said why before it closed.
                    with contextlib.suppress(_NeverAnswered):
                        self._answered(connection, ())
                    raise
                left -= count
        try:
            return self._answered(connection, (200, 204))
        except _NeverAnswered as error:
            raise lost(f"broke ({error})"[:200]) from error

    def _answered(self, connection: ssl.SSLSocket, good: tuple[int, ...]) -> Answer:
        """The server's answer when it has one of these statuses; else it raises what the answer says."""

        def receive() -> bytes:
            return connection.recv(4096)

        try:
            connection.settimeout(ANSWER_S)
            answer = read_answer(receive)
            connection.settimeout(SILENCE_S)
            if answer.status in good:
                return answer
            body = answer.came
            while len(body) < min(answer.length, LONGEST_START) and (more := receive()):
                body += more
        except (OSError, ValueError) as error:
            raise _NeverAnswered(str(error)[:200]) from error
        raise read_error(body.decode(errors="replace")) or lost(f"brought status {answer.status}")


class _NeverAnswered(Exception):
    """The connection ended before the server answered."""


def _says_something(connection: ssl.SSLSocket) -> bool:
    now = select.poll()
    now.register(connection, select.POLLIN)
    return bool(now.poll(0))


def _open(link: _Link) -> tuple[ssl.SSLSocket, Line]:
    assert link.connection is not None
    return link.connection, Line(link.connection, SILENCE_S)


def _ask(line: Line, request: bytes) -> None:
    try:
        line.send(request)
    except ArchipelError as error:
        raise _NeverAnswered(error.cause) from error


def _has_its_answer(link: _Link, answer: Answer) -> None:
    """Keep the connection for the next transfer, unless the server ends it."""
    link.idle_since = 0.0 if answer.last else time.monotonic()


def _unreached(address: str, error: OSError) -> tuple[str, str, str]:
    return "connection to the server", f"{address} is not reached ({error})"[:300], "it is tried again"
