"""What the tests of this room stand on: a site that applies, experiments in memory, a federation behind HTTPS."""

from __future__ import annotations

import asyncio
import io
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

import httpx
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import update

from archipel.governance import IdentityKey, canonical, job_hash
from archipel.server.experiments.records import ExperimentRecords
from archipel.server.membership.federation import ServerContext
from archipel.server.rest import RestContext, RestServer, create_app, listen
from archipel.server.state import schema
from archipel.server.state.settings import ServerSettings
from archipel.tensors import Arrays, encode, schema_of
from archipel.transport.enrolment import EnrolmentRequest, JoinToken, proof_message
from archipel.transport.rest import (
    Event,
    EventBody,
    ExperimentSummary,
    ExperimentView,
    ModelView,
    RoundView,
    StateChanged,
    Submitted,
)
from archipel.vocabulary import Conflict, Job, NotFound, StrategyTerms, Value
from archipel.vocabulary.states import ControlVerb, ExperimentState, RoundState

AT = "2026-11-21T08:00:00+00:00"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def settings(**changes: Any) -> ServerSettings:
    values: dict[str, Any] = {"name": "north sea", "hosts": ("127.0.0.1", "localhost"), "rest_port": free_port()}
    return ServerSettings(**(values | changes))


@dataclass
class Applicant:
    """A site's keys, as its state folder would hold them."""

    site: str
    identity: IdentityKey = field(default_factory=IdentityKey.generate)
    tls: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def csr(self) -> str:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "whatever it calls itself")])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(self.tls, hashes.SHA256())
        return request.public_bytes(serialization.Encoding.PEM).decode()

    def tls_pem(self) -> bytes:
        return self.tls.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def request(self, token: JoinToken, now: datetime | None = None, **changes: Any) -> EnrolmentRequest:
        draft = EnrolmentRequest(
            id=token.id,
            secret=token.secret,
            site=self.site,
            identity_key=self.identity.public,
            csr=self.csr(),
            proof="",
            time=(now or datetime.now(UTC)).isoformat(),
        )
        signed = draft.model_copy(update={"proof": self.identity.sign(proof_message(canonical(draft.statement())))})
        return signed.model_copy(update=changes)


FIRST_MODEL = {"w": np.ones(4, np.float32)}


def job_of(
    federation: ServerContext,
    site: Applicant,
    strategy: StrategyTerms | None = None,
    model: Arrays = FIRST_MODEL,
    **terms: Any,
) -> Job:
    """Experiment "first" at one site, whose plan and initial model are stored; ``terms`` are further fields."""
    return Job.model_validate(
        {
            "experiment": "first",
            "plan": {"files": {"plan.py": federation.blobs.put(b"plan")}, "entry": "plan.py", "class_name": "Plan"},
            "initial_model": federation.blobs.put(encode(model)),
            "tensors": schema_of(model),
            "needs": {"kind": "arrays"},
            "metrics": [],
            "terms": {"rounds": 3, "quorum": 1},
            "strategy": strategy or StrategyTerms(),
            "roster": [{"site": site.site, "identity_key": site.identity.public, "dataset": "table"}],
            "server_key": federation.identity.public,
            **terms,
        }
    )


def running_job(
    federation: ServerContext,
    site: Applicant,
    strategy: StrategyTerms | None = None,
    model: Arrays = FIRST_MODEL,
    **terms: Any,
) -> Job:
    """That experiment, approved and running."""
    job = job_of(federation, site, strategy, model, **terms)
    ExperimentRecords(federation).keep_job(job, job_hash(job), "ada")
    with federation.database.write() as connection:
        connection.execute(update(schema.approvals).values(state="approved"))
        connection.execute(update(schema.experiments).values(state="running"))
    return job


class MemoryExperiments:
    """An ExperimentService over a dictionary."""

    def __init__(self) -> None:
        self.held: dict[str, ExperimentView] = {}
        self.happened: dict[str, list[Event]] = {}
        self.news = asyncio.Condition()

    async def submit(self, job: Job, owner: str) -> ExperimentView:
        if job.experiment in self.held:
            raise Conflict(f"experiment {job.experiment}", "exists", "choose another name")
        self.held[job.experiment] = ExperimentView(
            experiment=job.experiment,
            state=ExperimentState.WAITING,
            owner=owner,
            round=0,
            rounds=job.terms.rounds,
            created=AT,
            job=job,
            job_hash=job_hash(job),
            arguments=job.arguments,
        )
        await self.happen(job.experiment, Submitted(job_hash=job_hash(job)))
        return self.held[job.experiment]

    async def happen(self, experiment: str, body: EventBody) -> None:
        async with self.news:
            found = self.happened.setdefault(experiment, [])
            found.append(Event(seq=len(found) + 1, at=AT, kind=body.event, body=body))
            self.news.notify_all()

    async def owner(self, experiment: str) -> str:
        return str((await self.get(experiment)).owner)

    async def all(self) -> list[ExperimentSummary]:
        return list(self.held.values())

    async def get(self, experiment: str) -> ExperimentView:
        if experiment not in self.held:
            raise NotFound(f"experiment {experiment}", "does not exist", "list experiments")
        return self.held[experiment]

    async def control(self, experiment: str, verb: ControlVerb) -> ExperimentView:
        found = await self.get(experiment)
        if verb is ControlVerb.RESUME and found.state is not ExperimentState.PAUSED:
            raise Conflict(f"experiment {experiment}", f"is {found.state}", "pause it first")
        state = {ControlVerb.PAUSE: ExperimentState.PAUSED, ControlVerb.CANCEL: ExperimentState.CANCELLED}
        self.held[experiment] = found.model_copy(update={"state": state.get(verb, ExperimentState.RUNNING)})
        return self.held[experiment]

    async def set_arguments(self, experiment: str, values: Mapping[str, Value]) -> ExperimentView:
        found = await self.get(experiment)
        self.held[experiment] = found.model_copy(update={"arguments": {**found.arguments, **values}})
        return self.held[experiment]

    async def rounds(self, experiment: str) -> list[RoundView]:
        await self.get(experiment)
        return [RoundView(round=0, attempt=1, state=RoundState.COMMITTED, opened=AT, contributors=("berlin",))]

    async def events(self, experiment: str, after: int, follow: bool) -> AsyncIterator[Event]:
        await self.get(experiment)
        while True:
            async with self.news:
                while follow and len(self.happened[experiment]) <= after:
                    await self.news.wait()
            new = self.happened[experiment][after:]
            for event in new:
                yield event
            after += len(new)
            if not follow or (new and isinstance(new[-1].body, StateChanged)):
                return

    async def models(self, experiment: str) -> list[ModelView]:
        await self.get(experiment)
        return [ModelView(name="best", round=0, hash="blake3:" + "0" * 64)]

    async def open_model(self, experiment: str, name: str) -> tuple[BinaryIO, int]:
        await self.get(experiment)
        if name != "best":
            raise NotFound(f"model {name}", "does not exist", "list models")
        return io.BytesIO(b"frame"), 5


@dataclass
class Served:
    """A federation behind its real HTTPS port."""

    federation: ServerContext
    experiments: MemoryExperiments
    changes: list[int]

    @property
    def url(self) -> str:
        return self.federation.settings.rest_url

    def client(self, *scopes: str, ca: str | None = None) -> httpx.AsyncClient:
        trust = ssl.create_default_context(cadata=ca or self.federation.authority.pem)
        trust.verify_flags |= ssl.VERIFY_X509_STRICT
        headers = {}
        if scopes:
            text, _ = self.federation.tokens.create("me", scopes, timedelta(days=1), datetime.now(UTC))
            headers["Authorization"] = f"Bearer {text}"
        return httpx.AsyncClient(base_url=self.url, verify=trust, headers=headers, trust_env=False, timeout=30)


@asynccontextmanager
async def serving(federation: ServerContext, **limits: float) -> AsyncIterator[Served]:
    """Serve it over TLS; ``limits`` are those of ``ServerLimits`` that are not to be the usual ones."""
    federation = replace(federation, limits=replace(federation.limits, **limits))
    experiments, changes = MemoryExperiments(), []
    context = RestContext(
        federation=federation,
        experiments=experiments,
        connected=lambda: {"berlin"},
        changed=lambda: changes.append(1),
    )
    bound = listen(federation.settings.rest_host, federation.settings.rest_port, "rest_port")
    server = RestServer(create_app(context), federation.state, bound, federation.limits)
    await server.start()
    try:
        yield Served(federation, experiments, changes)
    finally:
        await server.stop()
