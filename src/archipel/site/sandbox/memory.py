"""Shared memory that the agent makes: a model that only the agent can change, a result that keeps its size.

Memory is used again for the next model: new pages cost several times what copying into old ones does.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import Self

from archipel.vocabulary import Conflict

F_ADD_SEALS = 1033
F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_FUTURE_WRITE = 1, 2, 4, 16
"""fcntl(2). The last, from Linux 5.1 on, refuses every write but those through mappings made before it."""


class SharedBuffer:
    """Memory of a fixed size behind a descriptor that a worker can be given.

    Its size is sealed from the start, so that a worker that shrinks it cannot make the agent's reads fault.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self.fd, self.size = descriptor, size
        self._map: mmap.mmap | None = None
        self._sealed = self._fixed = False

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
        buffer = cls.create(len(data))
        if data:
            buffer.write(data, 0)
        buffer.seal()
        return buffer

    def write(self, chunk: bytes | memoryview, position: int) -> None:
        """Write bytes at a position. Raises Conflict once sealed, ValueError when they do not fit."""
        with self.writable() as window:
            window[position : position + len(chunk)] = chunk

    def writable(self) -> memoryview:
        """The content, to be written; release it after use. Raises Conflict once sealed."""
        if self._sealed:
            raise Conflict("a sealed buffer", "is not written any more", "call reuse() when no worker runs on it")
        return memoryview(self._mapped())

    def seal(self) -> None:
        """From now on the content cannot be changed: by a worker never, by the agent only after ``reuse``."""
        # Memory of no bytes, which an empty file of a plan is, cannot be mapped and needs none.
        if self.size:
            self._mapped()
        self._fix(F_SEAL_FUTURE_WRITE)
        self._sealed = True

    def lend(self) -> None:
        """A worker may write here, and put no seal of its own on it that the next worker would suffer from. The agent
        may write here too, before a task and never while one runs.
        """
        self._fix(0)

    def _fix(self, seals: int) -> None:
        if not self._fixed:
            fcntl.fcntl(self.fd, F_ADD_SEALS, seals | F_SEAL_SEAL)
            self._fixed = True

    def reuse(self) -> None:
        """The agent may write again, and only the agent. No worker may be at work on this memory."""
        self._sealed = False

    def view(self) -> memoryview:
        """The content, to be read; release it after use. A worker may still be writing to memory not sealed."""
        return memoryview(self._mapped()).toreadonly()

    def _mapped(self) -> mmap.mmap:
        """The agent's own mapping, made once and before the seal that refuses to make it."""
        if self._map is None:
            self._map = mmap.mmap(self.fd, self.size)
        return self._map

    def close(self) -> None:
        """Give the memory back once it is not used any more."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self._map = None
