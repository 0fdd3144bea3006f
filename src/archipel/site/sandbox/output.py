"""What a worker prints, kept in a file that stays small while it runs.

The worker writes into a pipe, so that no plan holds a descriptor of a file; the agent moves it into the log, without
control characters, and begins the file again when it is full. Output that comes faster than it is read is slowed down.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from pathlib import Path

LIMIT = 2 << 20
"""Bytes of the log file and of the one before it, which is kept beside it."""
_PIPE = 256 << 10
_A_LOOK = 0.1
_PLAIN = bytes(code if code >= 32 or code in b"\n\t" else ord("?") for code in range(256))


class Output:
    """A pipe for a worker to write to, and the log file at its end."""

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        self._path, self._limit = path, limit
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._before = self._written = os.fstat(self._file).st_size
        self._read, self.descriptor = os.pipe()
        with contextlib.suppress(OSError):
            # The default size does as well where the user has no more pages for pipes.
            fcntl.fcntl(self._read, fcntl.F_SETPIPE_SZ, _PIPE)
        os.set_blocking(self._read, False)
        self._loop = asyncio.get_running_loop()
        self._later: asyncio.TimerHandle | None = None
        self._loop.add_reader(self._read, self._take)

    def given(self) -> None:
        """The worker has its end; the agent's copy is closed, so that the pipe ends with the worker."""
        os.close(self.descriptor)

    def tail(self, length: int = 2_000) -> str:
        """The last of what this worker printed; the file may begin with the output of earlier ones."""
        self._drain()
        with self._path.open("rb") as file:
            file.seek(max(self._before, self._path.stat().st_size - length))
            return file.read().decode(errors="replace")

    def close(self) -> None:
        """Keep what is still in the pipe and stop reading."""
        if self._read < 0:
            return
        self._drain()
        self._pause()
        os.close(self._read)
        os.close(self._file)
        self._read = self._file = -1

    def _take(self) -> None:
        # At most one pipe's content per turn: 2.5 MB/s, however much the plan prints.
        self._pause()
        if self._drain():
            self._later = self._loop.call_later(_A_LOOK, self._resume)

    def _resume(self) -> None:
        self._later = None
        if self._read >= 0:
            self._loop.add_reader(self._read, self._take)

    def _pause(self) -> None:
        self._loop.remove_reader(self._read)
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def _drain(self) -> bool:
        """Move one pipe's content into the log; False when the worker's end is closed."""
        try:
            data = os.read(self._read, _PIPE)
        except BlockingIOError:
            return True
        if data:
            self._keep(data.translate(_PLAIN))
        return bool(data)

    def _keep(self, data: bytes) -> None:
        try:
            if self._written + len(data) > self._limit:
                self._begin_anew()
            self._written += os.write(self._file, data)
        except OSError:
            # A full disk must not end the training; what a plan prints is not worth that.
            self._written = self._limit

    def _begin_anew(self) -> None:
        new = self._path.with_suffix(".new.log")
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with contextlib.suppress(FileNotFoundError):
                self._path.replace(self._path.with_suffix(".old.log"))
            new.replace(self._path)
        except OSError:
            os.close(file)
            raise
        before, self._file, self._written, self._before = self._file, file, 0, 0
        os.close(before)
