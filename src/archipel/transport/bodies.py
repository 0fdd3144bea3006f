"""The bytes of a transfer through a blocking TLS socket, piece by piece, in a thread of its own.

Every byte is received where it stays, or into a buffer that is used again: there is no copy and no new memory for each
piece. Time runs for each piece: a caller that sends a byte now and then does not hold the thread.
"""

from __future__ import annotations

import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from archipel.transport.messages import CHUNK, piece_size
from archipel.vocabulary import ArchipelError, ErrorCode
from archipel.vocabulary.remedies import Nothing

CHECK_EVERY = 64 << 20
"""Bytes after which a caller's certificate is checked again."""
Readable = io.RawIOBase | io.BufferedIOBase


class Line:
    """A TLS connection whose bytes one thread moves; ``silence_s`` is how long one piece of them may take."""

    def __init__(self, connection: ssl.SSLSocket, silence_s: float) -> None:
        self._connection, self._silence_s = connection, silence_s

    def fill(self, window: memoryview) -> int:
        """Receive until the window is full; how many bytes came, fewer only where the connection ended.

        Raises ArchipelError (code lost) for a connection that broke or says nothing.
        """
        came, until = 0, time.monotonic() + self._silence_s
        with self._named():
            while came < len(window):
                got = self._connection.recv_into(window[came:])
                if not got:
                    break
                came += got
                if time.monotonic() > until:
                    raise TimeoutError
        return came

    def send(self, window: memoryview | bytes) -> None:
        """Send all of it. Raises ArchipelError (code lost) for a connection that broke or is not read."""
        gone, until = 0, time.monotonic() + self._silence_s
        window = memoryview(window)
        with self._named():
            while gone < len(window):
                gone += self._connection.send(window[gone:])
                if gone < len(window) and time.monotonic() > until:
                    raise TimeoutError

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise lost(f"moved nothing for {self._silence_s:.0f} s") from error
        except (OSError, ValueError) as error:
            # ValueError is what a socket raises that was closed here meanwhile.
            raise lost(f"broke ({error})"[:200]) from error


def lost(cause: str) -> ArchipelError:
    """The error for a connection that is tried again."""
    return ArchipelError("connection", cause, "it is tried again", code=ErrorCode.LOST, command=Nothing())


def end(connection: socket.socket) -> None:
    """Make every call on this connection return at once, in whichever thread it waits.

    Not by the method of ``ssl.SSLSocket``, after which what is left in the socket would be taken for decrypted bytes.
    """
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        # It has ended already.
        return


class Buffers:
    """Buffers that transfers use one after the other; smaller ones the more transfers there are at a time."""

    KEPT = 4

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[bytearray] = []
        self._used = 0

    @contextmanager
    def one(self) -> Iterator[memoryview]:
        """A buffer within the context."""
        with self._lock:
            self._used += 1
            size = piece_size(self._used)
            fits = [one for one in self._free if len(one) >= size]
            if fits:
                self._free.remove(fits[0])
        buffer = fits[0] if fits else bytearray(size)
        try:
            with memoryview(buffer) as window:
                yield window[:size]
        finally:
            with self._lock:
                self._used -= 1
                if len(self._free) < self.KEPT and len(buffer) == CHUNK:
                    self._free.append(buffer)


def give(line: Line, file: Readable, left: int, window: memoryview, check: Callable[[], None]) -> None:
    """Send the next ``left`` bytes of the file through the window. ``check`` raises when the caller may not go on."""
    unchecked = 0
    while left:
        count = file.readinto(window[:left])
        if not count:
            raise EOFError("a blob ends before its size")
        line.send(window[:count])
        left -= count
        unchecked += count
        if unchecked >= CHECK_EVERY:
            check()
            unchecked = 0


def take(
    line: Line,
    came: bytes,
    left: int,
    window: memoryview,
    keep: Callable[[memoryview], None],
    check: Callable[[], None],
) -> None:
    """Give the next ``left`` bytes to ``keep``, piece by piece through the window; ``came`` are those that are here.

    Raises ArchipelError (code lost) when the connection ends before; what ``keep`` was given stays there.
    """
    unchecked = 0
    while left:
        piece = window[: min(len(window), left)]
        here = came[: len(piece)]
        came = came[len(here) :]
        piece[: len(here)] = here
        count = len(here) + line.fill(piece[len(here) :])
        if count < len(piece):
            raise lost(f"ended {left - count} bytes early")
        keep(piece)
        left -= count
        unchecked += count
        if unchecked >= CHECK_EVERY:
            check()
            unchecked = 0
