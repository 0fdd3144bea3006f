"""A blob goes out in messages that are the smaller the more sites are connected, so that memory stays the same."""

from __future__ import annotations

import numpy as np
import pytest

from archipel.server.experiments.hub import Stream
from archipel.server.experiments.service import Experiments
from archipel.server.membership.federation import ServerContext
from archipel.server.sites.servicer import FederationServicer
from archipel.tensors import encode
from archipel.transport import CHUNK, FetchStart, FromServer, Peer
from archipel.vocabulary import NotFound
from worlds.server import Applicant, running_job

MODEL = {"w": np.random.default_rng(0).normal(size=3 * CHUNK // 8 + 9)}


async def nothing_is_said(_: FromServer) -> None:
    return None


@pytest.mark.parametrize(("sites", "largest"), [(1, CHUNK), (16, CHUNK // 4)])
async def test_a_blob_goes_out_in_the_messages_of_so_many_sites(
    federation: ServerContext, enrolled: Applicant, sites: int, largest: int
) -> None:
    job = running_job(federation, enrolled, model=MODEL)
    wire = FederationServicer(Experiments(federation))
    for number in range(sites):
        wire.hub.attach(Stream(Peer(f"site-{number}", str(number), ""), nothing_is_said))
    berlin, whole = Peer("berlin", "1", ""), encode(MODEL)
    for offset in (0, CHUNK):
        chunks = [chunk async for chunk in wire.fetch(berlin, FetchStart(hash=job.initial_model, offset=offset))]
        assert b"".join(chunks) == whole[offset:] and max(map(len, chunks)) == largest
    assert wire.hub.fetched["berlin", "first"] == 2 * len(whole) - CHUNK
    with pytest.raises(NotFound, match="is not one that rome may fetch"):
        await anext(wire.fetch(Peer("rome", "2", ""), FetchStart(hash=job.initial_model)))
