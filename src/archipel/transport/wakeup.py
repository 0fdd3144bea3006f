"""Wake-ups: one process makes the others that have the same state folder open read its database.

A wake-up carries no content; the process that is woken reads the database, which has everything. Each listener has a
socket of its own in the folder ``listeners``, so that any number of them listen and none disturbs another. A wake-up
without listeners is fine: a process reads the database when it starts. The next wake-up removes what a killed listener
left. A listener that cannot be woken is left out: the commit counts, and followers read from time to time anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

_log = structlog.get_logger("archipel.wakeup")
FOLDER = "listeners"
_PROCESS, _FOLLOWER = "process", "follower"
_UNFINISHED = "."
"""Begins the name of a socket that is being made: no process sends to it, because it would refuse and be removed as
dead.
"""
_UNFINISHED_S = 60.0
"""A socket that is still being made after so long belongs to a process that was killed."""


def wake(folder: Path, *, followers_only: bool = False) -> bool:
    """Wake every process that listens in this state folder; whether the one that serves the folder is among them.

    ``followers_only`` leaves that one asleep: what happened is not for it, and most often it did it itself.
    Never raises OSError: it is called after a commit, which would then look as if it had failed.
    """
    served = False
    try:
        paths = list((folder / FOLDER).iterdir())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            for path in paths:
                if not path.name.startswith((_UNFINISHED, _PROCESS) if followers_only else _UNFINISHED):
                    served |= _send(sender, path) and path.name.startswith(_PROCESS)
    except FileNotFoundError:
        return False
    except OSError as error:
        _log.warning("nobody was woken", folder=str(folder), error=str(error))
    return served


def _send(sender: socket.socket, path: Path) -> bool:
    """Whether a process listens at this socket; the socket of a dead process is removed. No name is used a second time,
    so that what is removed cannot be a new listener's. What is not a socket is left alone.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return False
        with _address(path) as address:
            sender.sendto(b"!", address)
    except FileNotFoundError:
        return False
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
        return False
    except BlockingIOError:
        # Its queue is full of wake-ups that it has not read yet: it will wake.
        return True
    except OSError as error:
        # A socket of another account (root follows a site of another account) or of another kind.
        _log.warning("a listener was not woken", path=str(path), error=str(error))
        return False
    return True


class Wakeup:
    """One listener. ``follower``: it only follows what happens and is not the process that serves the folder."""

    def __init__(self, folder: Path, *, follower: bool = False) -> None:
        place = folder / FOLDER
        _make(place)
        _remove_unfinished(place)
        name = f"{_FOLLOWER if follower else _PROCESS}.{secrets.token_hex(8)}"
        self._path, unfinished = place / name, place / f"{_UNFINISHED}{name}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            with _address(unfinished) as address:
                self._socket.bind(address)
            unfinished.chmod(0o600)
            # A socket is found by its inode: under its new name it is reached as before.
            unfinished.rename(self._path)
        except BaseException:
            self._socket.close()
            unfinished.unlink(missing_ok=True)
            raise

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Return at the next wake-up, or False after ``timeout_s`` seconds; wake-ups that came together are one."""
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.get_running_loop().sock_recv(self._socket, 16)
        except TimeoutError:
            return False
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(16)
        return True

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        self._path.unlink(missing_ok=True)


def _make(place: Path) -> None:
    """The folder of the listeners; made by root it belongs to whom the state folder belongs, whose agent listens."""
    try:
        place.mkdir(mode=0o700)
    except FileExistsError:
        return
    owner = place.parent.stat()
    if owner.st_uid != os.geteuid():
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        finally:
            os.close(descriptor)


def _remove_unfinished(place: Path) -> None:
    for path in place.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path.name.startswith(_UNFINISHED) and time.time() - path.lstat().st_mtime > _UNFINISHED_S:
                path.unlink()


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """The socket's address; a Unix socket's path is at most 107 bytes, so a longer one goes through /proc."""
    if len(str(path).encode()) < 108:
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
