"""How large a message is: the more sites, the smaller, so that a server's memory stays the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from archipel.server.sites.servicer import FederationServicer
from archipel.site.agent import upload
from archipel.storage import FolderBlobStore
from archipel.transport import CHUNK, SMALLEST, FetchStart, Offset, UploadStart, message_size

FRAME = np.random.default_rng(0).bytes(3 * CHUNK + 77)


@given(st.integers(0, 5000))
def test_messages_of_all_sites_together_are_no_more_than_those_of_four(sites: int) -> None:
    size = message_size(sites)
    assert size == SMALLEST or size * sites <= 4 * CHUNK
    assert CHUNK % size == 0 and size >= message_size(sites + 1)


@pytest.mark.parametrize("message", [0, SMALLEST - 1, CHUNK + 1])
def test_a_server_cannot_ask_for_messages_of_any_size(message: int) -> None:
    with pytest.raises(ValidationError):
        Offset(offset=0, message=message)


@pytest.mark.parametrize(("sites", "largest"), [(1, CHUNK), (16, CHUNK // 4)])
@pytest.mark.parametrize("offset", [0, CHUNK])
async def test_a_blob_goes_out_in_the_messages_of_so_many_sites(
    tmp_path: Path, sites: int, largest: int, offset: int
) -> None:
    blobs = FolderBlobStore(tmp_path)
    known = blobs.put(FRAME)
    server: Any = SimpleNamespace(
        experiments=SimpleNamespace(records=SimpleNamespace(may_fetch=lambda site, blob: "one")),
        federation=SimpleNamespace(blobs=blobs),
        hub=SimpleNamespace(streams=dict.fromkeys(range(sites)), fetched={}),
    )
    start = FetchStart(hash=known, offset=offset)
    chunks = [chunk async for chunk in FederationServicer.fetch(server, SimpleNamespace(site="a"), start)]  # type: ignore[arg-type]
    assert b"".join(chunks) == FRAME[offset:] and max(map(len, chunks)) == largest


async def test_an_update_is_sent_in_the_messages_that_the_server_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "frame").write_bytes(FRAME)
    sent: list[bytes] = []

    class Link:
        async def offset(self, start: UploadStart) -> Offset:
            return Offset(offset=CHUNK, message=SMALLEST)

        async def upload(self, start: UploadStart, chunks: AsyncIterator[bytes]) -> None:
            assert start.offset == CHUNK
            sent.extend([chunk async for chunk in chunks])

    head = SimpleNamespace(model_dump=lambda mode: {})
    monkeypatch.setattr(upload.journal, "signed_head", lambda site: head)
    # Neither update nor head is looked at here.
    monkeypatch.setattr(upload, "UploadStart", UploadStart.model_construct)
    made: Any = SimpleNamespace(update=SimpleNamespace(model_bytes=len(FRAME), key="k"), tensor_file=tmp_path / "frame")
    store: Any = SimpleNamespace(sent=lambda key: None)
    link: Any = Link()
    site: Any = None
    await upload.deliver(site, store, link, made)
    assert b"".join(sent) == FRAME[CHUNK:] and {len(chunk) for chunk in sent[:-1]} == {SMALLEST}
