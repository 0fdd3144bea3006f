"""A site, its federation and offered jobs without a server."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID
from sqlalchemy import insert
from typer.testing import CliRunner, Result

from archipel.cli.site import app
from archipel.governance import IdentityKey, job_hash
from archipel.site.approval import offers
from archipel.site.approval.offer_limits import OFFER_LIMITS, OfferLimits
from archipel.site.membership.certificates import keep_certificate, tls_request
from archipel.site.membership.creation import create_site
from archipel.site.state import schema
from archipel.site.state.folder import StateFolder
from archipel.storage import utc_now
from archipel.tensors import blob_hash
from archipel.vocabulary import (
    DataNeeds,
    HyperParameter,
    Job,
    MetricSpec,
    PlanReference,
    RosterEntry,
    RoundTerms,
    TensorSchema,
    TensorSpec,
)

PLAN = b"class Tiny(Plan):\n    needs = 'a table'\n"
SERVER = IdentityKey.generate()


def make_site(folder: Path, name: str = "charite") -> StateFolder:
    """A site that joined the federation of SERVER, with a certificate that it signed itself."""
    site = create_site(folder, name)
    key, certificate = pair()
    keep_certificate(site.keys, key, certificate, certificate)
    with site.database.write() as connection:
        connection.execute(
            insert(schema.federation).values(
                id=1,
                name="North",
                server_key=SERVER.public,
                grpc="127.0.0.1:8444",
                rest="https://127.0.0.1:8443",
                heartbeat_s=15.0,
                joined_at=utc_now(),
            )
        )
    return site


def pair(days: int = 90) -> tuple[bytes, str]:
    """A TLS key and a certificate on it, both PEM."""
    key, _ = tls_request("charite")
    private, now = load_pem_private_key(key, None), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "charite")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(private.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=days))
    return key, builder.sign(private, SHA256()).public_bytes(Encoding.PEM).decode()


def job_for(site: StateFolder, **changes) -> Job:
    values = {
        "experiment": "heart",
        "title": "Heart disease from a table",
        "plan": PlanReference(files={"tiny.py": blob_hash(PLAN)}, entry="tiny.py", class_name="Tiny"),
        "initial_model": blob_hash(b"model"),
        "tensors": TensorSchema.of([TensorSpec(name="w", dtype="float32", shape=(3,))]),
        "needs": DataNeeds(kind="arrays"),
        "metrics": (MetricSpec(name="loss", better="lower"),),
        "validation": (MetricSpec(name="accuracy", better="higher"),),
        "parameters": (HyperParameter(name="rate", kind="float", default=0.1, minimum=0.0, maximum=1.0),),
        "arguments": {"rate": 0.1},
        "terms": RoundTerms(rounds=3, quorum=1),
        "roster": (RosterEntry(site=site.name, identity_key=site.identity.public, dataset="table"),),
        "server_key": SERVER.public,
    }
    return Job.model_validate({**values, **changes})


def take_offer(site: StateFolder, offer_limits: OfferLimits = OFFER_LIMITS, **changes) -> tuple[Job, str]:
    """Offer a job whose plan was fetched; the job and its hash."""
    job = job_for(site, **changes)
    site.blobs.put(PLAN)
    offers.record(site, job, limits=offer_limits)
    return job, job_hash(job)


class Terminal:
    """The site's command line on one state folder."""

    def __init__(self, state: Path, columns: str = "200") -> None:
        self.state, self.columns = state, columns

    def __call__(self, *words: str, answer: str | None = None) -> Result:
        environment = {"ARCHIPEL_SITE_STATE": str(self.state), "COLUMNS": self.columns}
        return CliRunner().invoke(app, list(words), input=answer, env=environment)

    def json(self, *words: str) -> object:
        result = self(*words, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)
