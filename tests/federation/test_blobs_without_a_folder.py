"""A whole server and a whole site keep every blob in memory: nobody reaches for a blob's file but through ``local``."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import httpx
import pytest
from exact_run import PLAN, SEED, write_data
from memory_blobs import MemoryBlobStore

from archipel.lab.ports import HOST, free_port
from archipel.plans import Draft, draft, load
from archipel.server import backup
from archipel.server.experiments.service import Experiments
from archipel.server.membership.federation import ServerContext
from archipel.server.rest import RestContext, RestServer, create_app
from archipel.server.sites.servicer import FederationServicer
from archipel.server.state.folder import ServerState
from archipel.server.state.settings import ServerSettings
from archipel.simulation import scanned_site, simulate
from archipel.site.agent.agent import Agent
from archipel.site.agent.connection import ServerConnection
from archipel.site.approval import offers
from archipel.site.membership import enrolment
from archipel.site.membership.creation import create_site
from archipel.site.services import approvals, datasets
from archipel.site.state.folder import StateFolder
from archipel.storage import BlobStore
from archipel.tensors import blob_hash
from archipel.transport import sites_port
from archipel.transport.listening import listen
from archipel.vocabulary import NotFound, RosterEntry, RoundTerms
from archipel.vocabulary.actor import Actor
from worlds.people import OLGA

pytestmark = pytest.mark.processes
SITE = "site-a"


class MemoryServerState(ServerState):
    """A server's state folder whose blobs are elsewhere."""

    def blobs(self, settings: ServerSettings) -> BlobStore:
        return MemoryBlobStore()


class MemoryStateFolder(StateFolder):
    """A site's state folder whose blobs are elsewhere."""

    @cached_property
    def blobs(self) -> BlobStore:
        return MemoryBlobStore()


@contextlib.asynccontextmanager
async def served(federation: ServerContext) -> AsyncIterator[None]:
    """The server of a federation, in this process."""
    state, settings = federation.state, federation.settings
    experiments = Experiments(federation)
    async with sites_port(
        FederationServicer(experiments),
        host=settings.grpc_host,
        port=settings.grpc_port,
        key=state.tls_key.read_bytes(),
        certificate=state.tls_certificate.read_bytes(),
        authority=state.ca_certificate.read_bytes(),
        folder=state.root / "port",
    ):
        context = RestContext(
            federation=federation,
            experiments=experiments,
            connected=lambda: set(experiments.hub.streams),
            changed=lambda: None,
        )
        rest = RestServer(
            create_app(context), state, listen(settings.rest_host, settings.rest_port, "rest_port"), federation.limits
        )
        await experiments.start()
        await rest.start()
        try:
            yield
        finally:
            await rest.stop()
            await experiments.stop()


@contextlib.asynccontextmanager
async def connected(site: StateFolder) -> AsyncIterator[Agent]:
    """The site's agent, in this process."""
    link = ServerConnection(site)
    agent = Agent(site, link)
    agent.start()
    dials = asyncio.create_task(link.run(agent.take, agent.reporting.datasets))
    try:
        yield agent
    finally:
        dials.cancel()
        await agent.stop()
        await asyncio.gather(dials, return_exceptions=True)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Pytest's own timeout ends a wait for what never comes."""
    while True:
        if await true():
            return
        await asyncio.sleep(0.05)


def the_draft(site: StateFolder, server_key: str) -> Draft:
    return draft(
        PLAN,
        experiment="exact",
        roster=[RosterEntry(site=SITE, identity_key=site.identity.public, dataset="data")],
        server_key=server_key,
        terms=RoundTerms(rounds=2, quorum=1, retries=0),
        seed=SEED,
    )


async def simulated_model(folder: Path, made: Draft) -> str:
    who = [scanned_site(SITE, write_data(folder / "data", SITE), load(PLAN).needs)]
    (folder / "run").mkdir()
    return (await simulate(made.job, made.plan, made.initial_model, who, folder / "run")).model


async def test_two_rounds_run_on_blobs_that_have_no_files(tmp_path: Path) -> None:
    settings = ServerSettings(name="memory", hosts=(HOST,), rest_port=free_port(), grpc_port=free_port(), heartbeat_s=1)
    with ServerContext.create(MemoryServerState(tmp_path / "server"), settings, by=OLGA) as federation:
        async with served(federation):
            create_site(tmp_path / SITE, SITE).close()
            site = MemoryStateFolder.open(tmp_path / SITE)
            try:
                await asyncio.to_thread(enrolment.join, site, federation.enrolment.create_token(SITE, by=OLGA).encode())
                datasets.add(site, "data", write_data(tmp_path / "data", SITE), "npz", by=Actor.of_terminal())
                made = the_draft(site, federation.identity.public)
                async with connected(site) as agent:
                    await steer(federation, site, agent, made)
            finally:
                site.close()
        models = [row.hash for row in await Experiments(federation).models("exact") if row.name == "last"]
        assert models == [await simulated_model(tmp_path / "simulated", made)]
        for blobs in (tmp_path / "server" / "blobs", tmp_path / SITE / "blobs"):
            assert not blobs.exists() or not [path for path in blobs.rglob("*") if path.is_file()]
        copied = backup.copy(federation, tmp_path / "copy")
        assert copied.faults == () and copied.blobs >= 3, "the plan, the initial model and the last one"
        assert (tmp_path / "copy" / "blobs").is_dir(), "a copy is a folder, whatever the store"


async def steer(federation: ServerContext, site: StateFolder, agent: Agent, made: Draft) -> None:
    """Submit the job over REST, approve it at the site, start it, and wait until it has finished."""
    token, _ = federation.tokens.create("researcher", ("research",), timedelta(days=1), datetime.now(UTC), by=OLGA)
    async with httpx.AsyncClient(
        base_url=federation.settings.rest_url,
        verify=ssl.create_default_context(cafile=str(federation.state.ca_certificate)),
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
    ) as client:
        for data in made.blobs.values():
            (await client.put(f"/v1/blobs/{blob_hash(data)}", content=data)).raise_for_status()
        reply = await client.post("/v1/experiments", json={"job": made.job.model_dump(mode="json")})
        assert reply.is_success, reply.text

        async def offered() -> bool:
            try:
                return offers.plan_files(site.blobs, offers.offered(site.database, "exact").job) is not None
            except NotFound:
                return False

        await until(offered)
        asked = await asyncio.to_thread(approvals.prepare, site, "exact")
        shown = {"job_hash": asked.job_hash, "cohort_hash": asked.cohort_hash}
        await asyncio.to_thread(approvals.approve, site, "exact", **shown, by=Actor.of_terminal())
        await agent.decided()

        async def approved() -> bool:
            return bool((await client.get("/v1/experiments/exact")).json()["approvals"][0]["state"] == "approved")

        await until(approved)
        (await client.post("/v1/experiments/exact/start")).raise_for_status()

        async def finished() -> bool:
            shown = (await client.get("/v1/experiments/exact")).json()
            assert shown["state"] in ("running", "finished"), shown["reason"]
            return bool(shown["state"] == "finished")

        await until(finished)
        model = await client.get("/v1/experiments/exact/models/last")
        named = {one["name"]: one["hash"] for one in (await client.get("/v1/experiments/exact/models")).json()}
        assert blob_hash(model.content) == named["last"]
