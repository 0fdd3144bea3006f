"""A founded server, a site that applies to it, and the server behind its real HTTPS port."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import update

from archipel.governance import IdentityKey, canonical, job_hash
from archipel.lab.ports import free_port
from archipel.server.experiments.contract import ExperimentService
from archipel.server.experiments.experiment_store import SqlExperimentStore
from archipel.server.experiments.records import ExperimentRecords
from archipel.server.membership.federation import ServerContext
from archipel.server.rest import RestContext, RestServer, create_app
from archipel.server.state import schema
from archipel.server.state.folder import ServerState
from archipel.server.state.settings import ServerSettings
from archipel.tensors import Arrays, encode, schema_of
from archipel.transport.enrolment import EnrolmentRequest, JoinToken, proof_message
from archipel.transport.listening import listen
from archipel.vocabulary import Job, StrategyTerms
from worlds.memory_experiments import MemoryExperiments
from worlds.people import OLGA


def settings(**changes: Any) -> ServerSettings:
    values: dict[str, Any] = {"name": "north sea", "hosts": ("127.0.0.1", "localhost"), "rest_port": free_port()}
    return ServerSettings(**(values | changes))


def make_server(folder: Path, **changes: Any) -> ServerContext:
    """A server that is founded in this folder; ``changes`` are to its settings."""
    return ServerContext.create(ServerState(folder), settings(**changes), by=OLGA)


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

    def enrol(self, federation: ServerContext) -> Applicant:
        """Enrol at a server, with a token made for this."""
        token = federation.enrolment.create_token(self.site, by=OLGA)
        federation.enrolment.enrol(self.request(token), datetime.now(UTC))
        return self


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


def records_of(federation: ServerContext) -> ExperimentRecords:
    """The experiments in this server's database."""
    return ExperimentRecords(federation.database, federation.blobs, federation.registry, federation.identity.public)


def sql_store_of(federation: ServerContext, job: Job, digest: str) -> SqlExperimentStore:
    """The store of an experiment, as the loop has it, with nobody to tell of changes."""
    return SqlExperimentStore(
        federation.database, federation.blobs, federation.state.spool, job, digest, {}, {}, lambda: None
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
    records_of(federation).keep_job(job, job_hash(job), "ada")
    with federation.database.write() as connection:
        connection.execute(update(schema.approvals).values(state="approved"))
        connection.execute(update(schema.experiments).values(state="running"))
    return job


@dataclass
class Served:
    """A federation behind its real HTTPS port."""

    federation: ServerContext
    experiments: Any
    changes: list[int]
    context: RestContext

    @property
    def url(self) -> str:
        return self.federation.settings.rest_url

    def client(self, *scopes: str, ca: str | None = None) -> httpx.AsyncClient:
        trust = ssl.create_default_context(cadata=ca or self.federation.authority.pem)
        trust.verify_flags |= ssl.VERIFY_X509_STRICT
        headers = {}
        if scopes:
            text, _ = self.federation.tokens.create("me", scopes, timedelta(days=1), datetime.now(UTC), by=OLGA)
            headers["Authorization"] = f"Bearer {text}"
        return httpx.AsyncClient(base_url=self.url, verify=trust, headers=headers, trust_env=False, timeout=30)


@asynccontextmanager
async def serving(
    federation: ServerContext,
    experiments: ExperimentService | None = None,
    connected: frozenset[str] = frozenset({"berlin"}),
    **limits: float,
) -> AsyncIterator[Served]:
    """Serve it over TLS; ``limits`` are those of ``ServerLimits`` that are not to be the usual ones."""
    federation = replace(federation, limits=replace(federation.limits, **limits))
    experiments, changes = MemoryExperiments() if experiments is None else experiments, []
    context = RestContext(
        federation=federation,
        experiments=experiments,
        connected=lambda: set(connected),
        changed=lambda: changes.append(1),
    )
    bound = listen(federation.settings.rest_host, federation.settings.rest_port, "rest_port")
    server = RestServer(create_app(context), federation.state, bound, federation.limits)
    await server.start()
    try:
        yield Served(federation, experiments, changes, context)
    finally:
        await server.stop()
