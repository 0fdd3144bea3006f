"""A blob goes out in messages that are the smaller the more sites are connected, so that memory stays the same."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import update

from archipel.governance import canonical, job_hash
from archipel.server.experiments.hub import Stream
from archipel.server.experiments.service import Experiments
from archipel.server.membership.federation import ServerContext
from archipel.server.sites.servicer import FederationServicer
from archipel.server.state import schema
from archipel.tensors import encode
from archipel.transport import CHUNK, FetchStart, FromServer, JobOffer, Peer
from archipel.vocabulary import NotFound
from archipel.vocabulary.states import ExperimentState
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


async def test_a_job_travels_by_its_hash_to_the_sites_that_are_asked(
    federation: ServerContext, enrolled: Applicant
) -> None:
    job = running_job(federation, enrolled)
    wire = FederationServicer(Experiments(federation))
    (offer,) = wire.experiments.offers("berlin")
    assert offer == JobOffer(experiment="first", job_hash=job_hash(job)) and len(offer.model_dump_json()) < 300
    berlin, whole = Peer("berlin", "1", ""), canonical(job)
    for offset in (0, 7):
        start = FetchStart(hash=offer.job_hash, offset=offset)
        assert b"".join([chunk async for chunk in wire.fetch(berlin, start)]) == whole[offset:]
    with pytest.raises(NotFound, match="is not one that rome is asked about"):
        await anext(wire.fetch(Peer("rome", "2", ""), FetchStart(hash=offer.job_hash)))
    with federation.database.write() as connection:
        connection.execute(update(schema.experiments).values(state=ExperimentState.CANCELLED))
    with pytest.raises(NotFound, match="is not one that berlin is asked about"):
        await anext(wire.fetch(berlin, FetchStart(hash=offer.job_hash)))
