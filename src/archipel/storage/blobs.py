"""A content-addressed store: a blob's name is the hash of its bytes, so a name that exists has the right content.

``BlobStore`` is the contract that every user depends on: only code that opens a store names an implementation.
``FolderBlobStore`` keeps blobs in a folder. Every implementation passes ``tests/storage/blob_store_conformance.py``.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from typing_extensions import Buffer

from archipel.storage.files import disk_errors_named, sync_folder
from archipel.tensors import BlobHasher, write_all
from archipel.vocabulary import BadInput, ErrorCode, NotFound, Thing

_CHUNK = 1 << 20


class BlobWriter(Protocol):
    """A blob that is being written; it exists only after ``commit``."""

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
    """Blobs by content address. Every method raises BadInput for a name that is not one."""

    def writer(self) -> BlobWriter:
        """Begin a blob; use it as a context manager, which aborts what was not committed."""

    def put(self, data: Buffer, expected: str | None = None) -> str:
        """Store these bytes and return their hash; storing the same bytes twice is one blob."""

    def work_file(self) -> Path:
        """A new local path at which to write a file for ``put_file``; ``sweep`` removes what is left there."""

    def put_file(self, path: Path, blob: str) -> None:
        """Take over a finished, synced file of which the caller has computed the hash ``blob``; ``path`` does not exist
        afterwards.

        A file at ``work_file()`` is taken without reading it again where the store can do that. Raises StorageFull.
        """

    def has(self, blob: str) -> bool:
        """Whether the blob is here."""

    def size(self, blob: str) -> int:
        """Length in bytes. Raises NotFound."""

    def open(self, blob: str) -> BinaryIO:
        """A readable, seekable file on the blob. Raises NotFound."""

    def read(self, blob: str, offset: int, length: int) -> bytes:
        """At most ``length`` bytes from ``offset`` on, fewer only at the blob's end. Raises NotFound."""

    def local(self, blob: str) -> AbstractContextManager[Path]:
        """A local file with the blob's bytes, to be read within the context. Raises NotFound."""

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
        """The path of the blob, whether it exists or not."""
        digits = blob.removeprefix("blake3:")
        if len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
            raise BadInput(Thing("blob", blob), "is not a content address", "give blake3: and 64 hex digits")
        return self.root / digits[:2] / digits[2:]

    def writer(self) -> FolderBlobWriter:
        """Begin a blob; a context manager that aborts what was not committed."""
        return FolderBlobWriter(self)

    def put(self, data: Buffer, expected: str | None = None) -> str:
        """Store these bytes and return their hash."""
        with self.writer() as writer:
            writer.write(data)
            return writer.commit(expected)

    def work_file(self) -> Path:
        """A new path in the store's own file system, so that ``put_file`` renames and copies nothing."""
        return self.incoming / secrets.token_hex(16)

    def put_file(self, path: Path, blob: str) -> None:
        """Give a finished, synced file its place by a rename; from another file system it is copied and checked."""
        place = self.path(blob)
        with disk_errors_named(self.root):
            is_new = not place.parent.exists()
            place.parent.mkdir(exist_ok=True)
            try:
                path.replace(place)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._copy_in(path, blob)
                return
            sync_folder(place.parent)
            if is_new:
                sync_folder(self.root)

    def _copy_in(self, path: Path, blob: str) -> None:
        with path.open("rb") as file, self.writer() as writer:
            while chunk := file.read(_CHUNK):
                writer.write(chunk)
            writer.commit(blob)
        path.unlink()

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

    def read(self, blob: str, offset: int, length: int) -> bytes:
        """At most ``length`` bytes from ``offset`` on."""
        pieces = []
        with self.open(blob) as file:
            while length and (piece := os.pread(file.fileno(), length, offset)):
                pieces.append(piece)
                offset += len(piece)
                length -= len(piece)
        return b"".join(pieces)

    @contextmanager
    def local(self, blob: str) -> Iterator[Path]:
        """The blob's own file."""
        path = self.path(blob)
        if not path.exists():
            raise _missing(blob)
        yield path

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
        self._part = store.work_file()
        self._hasher = BlobHasher()
        with disk_errors_named(store.root):
            self._file = self._part.open("xb", buffering=0)

    def write(self, chunk: Buffer) -> None:
        """Add bytes."""
        with disk_errors_named(self._store.root):
            write_all(self._file, chunk)
        self._hasher.update(chunk)

    def commit(self, expected: str | None = None) -> str:
        """Make the blob durable; it is in the store afterwards."""
        blob = self._hasher.digest()
        if expected is not None and blob != expected:
            raise BadInput(
                Thing("blob", expected), f"its bytes hash to {blob}", "send it again", code=ErrorCode.BAD_UPDATE
            )
        with disk_errors_named(self._store.root):
            os.fsync(self._file.fileno())
            self._file.close()
            self._store.put_file(self._part, blob)
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
    return NotFound(Thing("blob", blob), "is not in the store", "send it again")
