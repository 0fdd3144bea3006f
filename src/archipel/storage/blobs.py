"""A content-addressed store: a blob's name is the hash of its bytes, so a name that exists has the right content.

``BlobStore`` is what the rest of Archipel asks for; a folder is the first implementation and an object store fits the
same interface.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from typing_extensions import Buffer

from archipel.storage.files import disk_errors_named, sync_folder
from archipel.tensors import BlobHasher
from archipel.vocabulary import BadInput, ErrorCode, NotFound


class BlobWriter(Protocol):
    """A blob on its way in; it exists only after ``commit``."""

    def write(self, chunk: Buffer) -> None:
        """Add bytes. Raises StorageFull; what was written is then gone with ``abort``."""

    def commit(self, expected: str | None = None) -> str:
        """Make the blob durable and return its hash. Raises BadInput when it is not the ``expected`` one."""

    def abort(self) -> None:
        """Forget what was written; does nothing after a commit."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class BlobStore(Protocol):
    """Blobs by content address."""

    def writer(self) -> BlobWriter:
        """Begin a blob; use it as a context manager, which aborts what was not committed."""

    def put(self, data: Buffer, expected: str | None = None) -> str:
        """Store these bytes and return their hash; storing the same bytes twice is one blob."""

    def size(self, blob: str) -> int:
        """Length in bytes. Raises NotFound."""

    def open(self, blob: str) -> BinaryIO:
        """A readable, seekable file on the blob. Raises NotFound."""

    def delete(self, blob: str) -> None:
        """Remove the blob if it is there."""

    def sweep(self, keep: Collection[str]) -> int:
        """Remove every blob not in ``keep`` and everything half-written; returns how many blobs went."""


class FolderBlobStore:
    """A blob store in a folder: ``<first two hex digits>/<the other digits>``, parts in ``incoming/``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.incoming = root / "incoming"
        with disk_errors_named(root):
            self.incoming.mkdir(parents=True, exist_ok=True)

    def path(self, blob: str) -> Path:
        """Where the blob lies or would lie."""
        digits = blob.removeprefix("blake3:")
        if len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
            raise BadInput(f"blob {blob}", "is not a content address", "give blake3: and 64 hex digits")
        return self.root / digits[:2] / digits[2:]

    def writer(self) -> FolderBlobWriter:
        """Begin a blob; a context manager that aborts what was not committed."""
        return FolderBlobWriter(self)

    def put(self, data: Buffer, expected: str | None = None) -> str:
        """Store these bytes and return their hash."""
        with self.writer() as writer:
            writer.write(data)
            return writer.commit(expected)

    def adopt(self, part: Path, blob: str) -> None:
        """Give a finished, synced file (in the same file system) its place; its bytes have hash ``blob``."""
        place = self.path(blob)
        with disk_errors_named(self.root):
            is_new = not place.parent.exists()
            place.parent.mkdir(exist_ok=True)
            part.replace(place)
            sync_folder(place.parent)
            if is_new:
                sync_folder(self.root)

    def has(self, blob: str) -> bool:
        """Whether the blob is here."""
        return self.path(blob).exists()

    def size(self, blob: str) -> int:
        """Length in bytes."""
        try:
            return self.path(blob).stat().st_size
        except FileNotFoundError as error:
            raise _missing(blob) from error

    def open(self, blob: str) -> BinaryIO:
        """A readable file on the blob."""
        try:
            return self.path(blob).open("rb", buffering=0)
        except FileNotFoundError as error:
            raise _missing(blob) from error

    def delete(self, blob: str) -> None:
        """Remove the blob if it is there."""
        self.path(blob).unlink(missing_ok=True)

    def sweep(self, keep: Collection[str]) -> int:
        """Remove every blob not in ``keep`` and every part."""
        kept = {self.path(blob) for blob in keep}
        gone = 0
        for part in self.incoming.iterdir():
            part.unlink()
        for path in self.root.glob("[0-9a-f][0-9a-f]/*"):
            if path not in kept:
                path.unlink()
                gone += 1
        return gone


class FolderBlobWriter:
    """A blob being written into the folder store: hashed on the way, synced and renamed at commit."""

    def __init__(self, store: FolderBlobStore) -> None:
        self._store = store
        self._part = store.incoming / secrets.token_hex(16)
        self._hasher = BlobHasher()
        with disk_errors_named(store.root):
            self._file = self._part.open("xb", buffering=0)

    def write(self, chunk: Buffer) -> None:
        """Add bytes."""
        with disk_errors_named(self._store.root):
            window = memoryview(chunk).cast("B")
            while window.nbytes:
                window = window[self._file.write(window) :]
        self._hasher.update(chunk)

    def commit(self, expected: str | None = None) -> str:
        """Make the blob durable; it is in the store afterwards."""
        blob = self._hasher.digest()
        if expected is not None and blob != expected:
            raise BadInput(f"blob {expected}", f"its bytes hash to {blob}", "send it again", code=ErrorCode.BAD_UPDATE)
        with disk_errors_named(self._store.root):
            os.fsync(self._file.fileno())
            self._file.close()
            self._store.adopt(self._part, blob)
        return blob

    def abort(self) -> None:
        """Forget what was written."""
        self._file.close()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


def _missing(blob: str) -> NotFound:
    return NotFound(f"blob {blob}", "is not in the store", "send it again")
