"""The wake-up: how a command line tells the running process of the same state folder to look at its database.

A ring carries no content; the one who is woken reads the database, which is the only truth. Nobody listening is fine:
the process reads the database when it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

_NAME = "doorbell"


def wake(folder: Path) -> bool:
    """Wake the process that serves this state folder; False when none listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as bell:
        try:
            with _address(folder) as address:
                bell.sendto(b"!", address)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except BlockingIOError:
            return True
    return True


class Wakeup:
    """The listening end; ``async for _ in Doorbell(folder)`` yields once per burst of rings."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        Path(folder / _NAME).unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        with _address(folder) as address:
            self._socket.bind(address)
        (folder / _NAME).chmod(0o600)

    async def wait(self) -> None:
        """Return at the next ring; rings that came together are one."""
        loop = asyncio.get_running_loop()
        await loop.sock_recv(self._socket, 16)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(16)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        (self._folder / _NAME).unlink(missing_ok=True)


@contextlib.contextmanager
def _address(folder: Path) -> Iterator[str]:
    """The socket's address; a Unix socket's path is at most 107 bytes, so a longer one goes through /proc."""
    path = str(folder / _NAME)
    if len(path.encode()) < 108:
        yield path
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{_NAME}"
    finally:
        os.close(descriptor)
