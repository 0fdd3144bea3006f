"""What a site fetches goes on after a break, counts only with its hash, and is not longer than it may be."""

from __future__ import annotations

import numpy as np
import pytest

from archipel.site.state.folder import StateFolder
from archipel.tensors import blob_hash, document_hash
from archipel.vocabulary import BadInput, ErrorCode
from worlds.transfers import Linked

DATA = np.random.default_rng(0).bytes(1000)
BLOB = blob_hash(DATA)


async def test_after_each_break_it_goes_on_at_the_byte_that_is_missing(hospital: StateFolder) -> None:
    link, memory = Linked(hospital, {BLOB: DATA}, breaks=2), bytearray(len(DATA))
    await link.fetch_into(BLOB, memoryview(memory))
    assert memory == DATA and link.positions == [0, 500, 750]


async def test_a_document_is_fetched_by_its_own_hash(hospital: StateFolder) -> None:
    link = Linked(hospital, {document_hash(DATA): DATA}, breaks=1)
    assert await link.fetch(document_hash(DATA), len(DATA)) == DATA


@pytest.mark.parametrize("name", [BLOB, document_hash(DATA)])
async def test_other_bytes_than_those_of_the_hash_do_not_count(hospital: StateFolder, name: str) -> None:
    link = Linked(hospital, {name: DATA[:-1] + b"-"})
    with pytest.raises(BadInput, match="arrived with other bytes") as other:
        await link.fetch(name, len(DATA))
    assert other.value.code is ErrorCode.LOST
    with pytest.raises(BadInput, match="arrived with other bytes"):
        await link.fetch_into(name, memoryview(bytearray(len(DATA))))


async def test_nothing_of_what_is_too_long_is_fetched(hospital: StateFolder) -> None:
    link = Linked(hospital, {BLOB: DATA})
    assert await link.fetch(BLOB, len(DATA) - 1) is None
    for size in (len(DATA) - 1, len(DATA) + 1):
        memory = bytearray(size)
        with pytest.raises(BadInput, match=f"has {len(DATA)} bytes where the job's model has {size}"):
            await link.fetch_into(BLOB, memoryview(memory))
        assert memory == bytes(size)
