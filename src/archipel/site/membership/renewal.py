"""Certificates expire; the site renews its own in time, with a new TLS key and a request signed by its identity key."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Protocol

import structlog
from cryptography import x509

from archipel.governance import canonical
from archipel.site.audit import CertificateRenewed, add_entry
from archipel.site.membership.certificates import credentials, keep_certificate, tls_request
from archipel.site.state import SiteJournalKind, StateFolder
from archipel.transport import RenewRequest, Uplink
from archipel.vocabulary import ArchipelError, ErrorCode, Thing
from archipel.vocabulary.remedies import RenewCertificate

_log = structlog.get_logger("archipel.renewal")
LOOK_S = 3600.0
FRACTION_LEFT = 1 / 3
"""A certificate is renewed when less than this part of its life is left."""
ANSWER_S = 30.0


class Line(Protocol):
    """How a renewal reaches the server: over the agent's connection, or one of its own."""

    async def renew(self, request: RenewRequest) -> str:
        """A new certificate (PEM). Raises ArchipelError."""


async def renew_when_due(site: StateFolder, link: Line) -> None:
    """Check every hour; renew over the connection when it is time. A failure is logged and tried again at the next
    check.
    """
    while True:
        if is_due((site.keys / "tls.pem").read_bytes(), datetime.now(UTC)):
            try:
                await renew(site, link)
            except Exception as error:
                _log.error("certificate not renewed", error=str(error), exc_info=error)
        await asyncio.sleep(LOOK_S)


def is_due(pem: bytes, now: datetime) -> bool:
    """Whether less than a third of the certificate's life is left."""
    certificate = x509.load_pem_x509_certificate(pem)
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return certificate.not_valid_after_utc - now < life * FRACTION_LEFT


async def renew(site: StateFolder, link: Line) -> None:
    """Get a certificate on a new TLS key; the identity key stays. Raises ArchipelError."""
    key, csr = tls_request(site.name)
    message = b"archipel-renewal/1\n" + canonical({"site": site.name, "csr": csr})
    certificate = await link.renew(RenewRequest(csr=csr, proof=site.identity.sign(message)))
    keep_certificate(site.keys, key, certificate)
    with site.database.write() as connection:
        add_entry(connection, SiteJournalKind.CERTIFICATE_RENEWED, CertificateRenewed(site=site.name))
    _log.info("certificate renewed")


async def renew_now(site: StateFolder) -> datetime:
    """Renew over a connection of its own, whether an agent runs or not; until when the new certificate lasts (UTC).

    Raises ArchipelError when the server cannot be reached or refuses; the certificate that is here stays then.
    """
    federation, keys = site.joined(), credentials(site.keys)
    try:
        async with (
            asyncio.timeout(ANSWER_S),
            Uplink(
                federation.grpc,
                key=keys.key,
                certificate=keys.certificate,
                authority=keys.authority,
                proxy=site.settings.proxy,
            ) as uplink,
        ):
            await renew(site, uplink)
    except TimeoutError as error:
        raise _unreachable(site, f"did not answer for {ANSWER_S:.0f} s") from error
    except ArchipelError as error:
        if error.code is not ErrorCode.LOST:
            raise
        raise _unreachable(site, f"cannot be reached ({error.thing}: {error.cause})") from error
    return credentials(site.keys).expires


def _unreachable(site: StateFolder, cause: str) -> ArchipelError:
    until = f"{credentials(site.keys).expires:%Y-%m-%d %H:%M:%S} UTC"
    remedy = f"try again when it can; the certificate that is here lasts until {until}"
    server = site.joined().grpc
    values = {"server": server, "until": credentials(site.keys).expires.isoformat()}
    return ArchipelError(
        Thing("server", server), cause, remedy, code=ErrorCode.LOST, values=values, command=RenewCertificate()
    )
