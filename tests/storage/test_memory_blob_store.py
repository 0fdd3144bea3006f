"""The memory store of the tests keeps the contract, so that what runs on it runs on any store."""

from __future__ import annotations

import pytest
from blob_store_conformance import BlobStoreConformance
from memory_blobs import MemoryBlobStore


class TestMemoryBlobStore(BlobStoreConformance):
    @pytest.fixture
    def store(self) -> MemoryBlobStore:
        return MemoryBlobStore()
