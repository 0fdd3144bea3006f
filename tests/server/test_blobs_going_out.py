"""A site gets the blobs and documents that it may have, from the byte on that it asks for."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import update

from archipel.governance import canonical, job_hash
from archipel.server.experiments.service import Experiments
from archipel.server.membership.federation import ServerContext
from archipel.server.sites.servicer import FederationServicer
from archipel.server.state import schema
from archipel.tensors import encode
from archipel.transport import CHUNK, FetchStart, JobOffer, Peer
from archipel.vocabulary import NotFound
from archipel.vocabulary.states import ExperimentState
from worlds.server import Applicant, running_job
from worlds.transfers import Going

MODEL = {"w": np.random.default_rng(0).normal(size=3 * CHUNK // 8 + 9)}


async def fetched(wire: FederationServicer, peer: Peer, blob: str, offset: int = 0) -> bytes:
    going = Going(offset)
    await wire.fetch(peer, FetchStart(hash=blob, offset=offset), going)
    return going.sent


async def test_a_blob_goes_out_to_a_site_that_may_have_it(federation: ServerContext, enrolled: Applicant) -> None:
    job = running_job(federation, enrolled, model=MODEL)
    wire = FederationServicer(Experiments(federation))
    berlin, whole = Peer("berlin", "1"), encode(MODEL)
    for offset in (0, CHUNK):
        assert await fetched(wire, berlin, job.initial_model, offset) == whole[offset:]
    assert wire.hub.fetched["berlin", "first"] == 2 * len(whole) - CHUNK
    with pytest.raises(NotFound, match="is not one that rome may fetch"):
        await fetched(wire, Peer("rome", "2"), job.initial_model)


async def test_a_job_travels_by_its_hash_to_the_sites_that_are_asked(
    federation: ServerContext, enrolled: Applicant
) -> None:
    job = running_job(federation, enrolled)
    wire = FederationServicer(Experiments(federation))
    (offer,) = wire.experiments.offers("berlin")
    assert offer == JobOffer(experiment="first", job_hash=job_hash(job)) and len(offer.model_dump_json()) < 300
    berlin, whole = Peer("berlin", "1"), canonical(job)
    for offset in (0, 7):
        assert await fetched(wire, berlin, offer.job_hash, offset) == whole[offset:]
    with pytest.raises(NotFound, match="is not one that rome is asked about"):
        await fetched(wire, Peer("rome", "2"), offer.job_hash)
    with federation.database.write() as connection:
        connection.execute(update(schema.experiments).values(state=ExperimentState.CANCELLED))
    with pytest.raises(NotFound, match="is not one that berlin is asked about"):
        await fetched(wire, berlin, offer.job_hash)
