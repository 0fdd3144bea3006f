"""A large file on its way to the disk: hashed as it is written, and sent off early, so that the last sync is short."""

from __future__ import annotations

import os
from io import FileIO

from typing_extensions import Buffer

from archipel.linux import begin_writing_back
from archipel.tensors.hashing import BlobHasher

_EARLY = 8 << 20


def write_all(file: FileIO, data: Buffer) -> None:
    """Write all of ``data`` to an unbuffered file: a disk that is nearly full accepts a part without an error."""
    window = memoryview(data).cast("B")
    while window.nbytes:
        window = window[file.write(window) or 0 :]


class TensorFileWriter:
    """Writes an unbuffered file from its current position to its end, and hashes what it writes.

    ``hasher`` has the bytes before that position.
    """

    def __init__(self, file: FileIO, hasher: BlobHasher | None = None) -> None:
        self._file = file
        self._hasher = hasher or BlobHasher()
        self.position = file.tell()
        self._begun = self.position

    def write(self, data: Buffer) -> None:
        """Write and hash ``data``. Raises OSError when the disk is full."""
        self._hasher.update(data)
        write_all(self._file, data)
        self.position += memoryview(data).nbytes
        if self.position - self._begun >= _EARLY:
            # The kernel writes these pages while the next ones are made.
            begin_writing_back(self._file.fileno(), self._begun, self.position - self._begun)
            self._begun = self.position

    def sync(self) -> None:
        """Return once everything written survives a power cut."""
        os.fsync(self._file.fileno())

    def finish(self, *, durable: bool = True) -> str:
        """End the file here, whatever longer one it was, and return its content address; ``durable``: it survives a
        power cut.
        """
        self._file.truncate()
        if durable:
            self.sync()
        return self.digest()

    def digest(self) -> str:
        """The content address of everything so far."""
        return self._hasher.digest()
