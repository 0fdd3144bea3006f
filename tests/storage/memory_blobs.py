"""A second blob store, for tests: blobs are values of a dictionary and no blob has a file."""

from __future__ import annotations

import io
import re
import secrets
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from typing_extensions import Buffer

from archipel.tensors import blob_hash
from archipel.vocabulary import BadInput, ErrorCode, NotFound


class MemoryBlobStore:
    """Blobs in memory; files only for as long as somebody asks for a local one."""

    def __init__(self) -> None:
        self._held: dict[str, bytes] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="memory-blobs-")

    def writer(self) -> MemoryBlobWriter:
        return MemoryBlobWriter(self._held)

    def put(self, data: Buffer, expected: str | None = None) -> str:
        with self.writer() as writer:
            writer.write(data)
            return writer.commit(expected)

    def work_file(self) -> Path:
        return Path(self._folder.name) / secrets.token_hex(16)

    def put_file(self, path: Path, blob: str) -> None:
        self.put(path.read_bytes(), _checked(blob))
        path.unlink()

    def has(self, blob: str) -> bool:
        return _checked(blob) in self._held

    def size(self, blob: str) -> int:
        return len(self._bytes(blob))

    def open(self, blob: str) -> BinaryIO:
        return io.BytesIO(self._bytes(blob))

    def read(self, blob: str, offset: int, length: int) -> bytes:
        return self._bytes(blob)[offset : offset + length]

    @contextmanager
    def local(self, blob: str) -> Iterator[Path]:
        path = self.work_file()
        path.write_bytes(self._bytes(blob))
        try:
            yield path
        finally:
            path.unlink()

    def delete(self, blob: str) -> None:
        self._held.pop(_checked(blob), None)

    def sweep(self, keep: Collection[str]) -> int:
        for part in Path(self._folder.name).iterdir():
            part.unlink()
        gone = set(self._held) - set(keep)
        for blob in gone:
            del self._held[blob]
        return len(gone)

    def _bytes(self, blob: str) -> bytes:
        if (data := self._held.get(_checked(blob))) is None:
            raise NotFound(f"blob {blob}", "is not in the store", "send it again")
        return data


class MemoryBlobWriter:
    def __init__(self, held: dict[str, bytes]) -> None:
        self._held, self._data = held, bytearray()

    def write(self, chunk: Buffer) -> None:
        self._data += memoryview(chunk).cast("B")

    def commit(self, expected: str | None = None) -> str:
        blob = blob_hash(self._data)
        if expected is not None and blob != expected:
            raise BadInput(f"blob {expected}", f"its bytes hash to {blob}", "send it again", code=ErrorCode.BAD_UPDATE)
        self._held[blob] = bytes(self._data)
        return blob

    def abort(self) -> None:
        self._data.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


def _checked(blob: str) -> str:
    if not re.fullmatch("(blake3:)?[0-9a-f]{64}", blob):
        raise BadInput(f"blob {blob}", "is not a content address", "give blake3: and 64 hex digits")
    return blob
