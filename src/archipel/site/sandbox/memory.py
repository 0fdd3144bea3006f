"""Shared memory that the agent makes: a model sealed against every change, a result sealed against a change of size."""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import Self

F_ADD_SEALS = 1033
F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE = 1, 2, 4, 8


class SharedFrame:
    """Memory of a fixed size behind a descriptor that a worker can be given.

    Its size is sealed from the start, so that a worker that shrinks it cannot make the agent's reads fault.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self.fd, self.size = descriptor, size
        self._map: mmap.mmap | None = None
        self._sealed = False

    @classmethod
    def create(cls, size: int) -> Self:
        """New zeroed memory of ``size`` bytes."""
        descriptor = os.memfd_create("archipel", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)
        return cls(descriptor, size)

    @classmethod
    def holding(cls, data: bytes) -> Self:
        """Sealed memory with this content."""
        frame = cls.create(len(data))
        frame.write(data, 0)
        frame.seal()
        return frame

    def write(self, chunk: bytes, position: int) -> None:
        """Write bytes at a position; not after ``seal``."""
        window = memoryview(chunk)
        while window.nbytes:
            done = os.pwrite(self.fd, window, position)
            window, position = window[done:], position + done

    def seal(self) -> None:
        """Nobody can change the content any more, not even the agent."""
        fcntl.fcntl(self.fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL)
        self._sealed = True

    def view(self) -> memoryview:
        """The content, to be read; release it after use. A worker may still be writing to memory not sealed."""
        if self._map is None:
            # Kernels before 6.7 refuse a shared mapping of memory that is sealed against writing.
            kind = mmap.MAP_PRIVATE if self._sealed else mmap.MAP_SHARED
            self._map = mmap.mmap(self.fd, self.size, kind, mmap.PROT_READ)
        return memoryview(self._map)

    def close(self) -> None:
        """Give the memory back once nobody uses it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self._map = None
