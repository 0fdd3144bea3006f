"""Content addresses: BLAKE3 for blobs on the fast path, SHA-256 for documents."""

from __future__ import annotations

import hashlib

from blake3 import blake3
from typing_extensions import Buffer


class BlobHasher:
    """A running BLAKE3 hash of a blob that arrives in chunks."""

    def __init__(self) -> None:
        self._state = blake3()

    def update(self, chunk: Buffer) -> None:
        """Add the next bytes."""
        self._state.update(chunk)

    def digest(self) -> str:
        """The content address of everything added so far, ``blake3:<64 hex digits>``."""
        return f"blake3:{self._state.hexdigest()}"


def blob_hash(data: Buffer) -> str:
    """The content address of a blob, ``blake3:<64 hex digits>``.

    >>> blob_hash(b"")
    'blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262'
    """
    return f"blake3:{blake3(data).hexdigest()}"


def document_hash(data: bytes) -> str:
    """The content address of a canonical document, ``sha256:<64 hex digits>``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
