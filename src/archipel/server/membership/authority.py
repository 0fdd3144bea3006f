"""The federation's own certificate authority: made at init, it vouches for this server and for enrolled sites only.

TLS keys are ECDSA on P-256, which gRPC's TLS library speaks; a site's identity key (Ed25519) is another one, kept for
life, and appears in no certificate.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from archipel.server.state import ServerState
from archipel.storage import write_private
from archipel.tensors import document_hash
from archipel.vocabulary import ArchipelError, BadInput, ErrorCode, Thing
from archipel.vocabulary.remedies import JoinFederation

_BACKDATED = timedelta(minutes=10)
_CA_LIFETIME = timedelta(days=20 * 365)
_SERVER_LIFETIME = timedelta(days=730)
_SERVER_RENEWED_BEFORE = timedelta(days=180)
_SITE_URI = "archipel:site:"


@dataclass(frozen=True)
class SiteCertificate:
    """A certificate the authority signed for a site; times are ISO text in UTC, the serial lower-case hexadecimal."""

    serial: str
    site: str
    pem: str
    issued_at: str
    not_after: str


class Authority:
    """The CA's key and certificate."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key, self._certificate = key, certificate
        self.pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        self.fingerprint = document_hash(certificate.public_bytes(serialization.Encoding.DER))

    @classmethod
    def create(cls, state: ServerState, federation: str, now: datetime) -> Authority:
        """Make the federation's CA and keep it in the state folder."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Archipel {federation}"[:64])])
        usage = _key_usage(certificates=True)
        certificate = (
            _builder(
                subject=name,
                issuer=name,
                public=key.public_key(),
                issuer_public=key.public_key(),
                now=now,
                lifetime=_CA_LIFETIME,
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        write_private(state.ca_key, _private_pem(key))
        write_private(state.ca_certificate, certificate.public_bytes(serialization.Encoding.PEM))
        return cls(key, certificate)

    @classmethod
    def load(cls, state: ServerState) -> Authority:
        """The CA kept in the state folder. Raises ArchipelError (code configuration) when it is not readable."""
        key = _load_key(state.ca_key)
        return cls(key, _load_certificate(state.ca_certificate))

    def sign_site(self, site: str, csr: str, now: datetime, lifetime: timedelta) -> SiteCertificate:
        """A client certificate for a site's TLS key.

        Names come from the registry, never from the request. Raises BadInput when the request is damaged, not signed
        by its own key, or its key is not ECDSA on P-256.
        """
        public = _checked_csr(csr)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site)])
        certificate = (
            self._signed_builder(subject, public, now, lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(_SITE_URI + site)]), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        return SiteCertificate(
            serial=format(certificate.serial_number, "x"),
            site=site,
            pem=certificate.public_bytes(serialization.Encoding.PEM).decode(),
            issued_at=now.astimezone(UTC).isoformat(timespec="microseconds"),
            not_after=certificate.not_valid_after_utc.isoformat(timespec="microseconds"),
        )

    def ensure_server_certificate(self, state: ServerState, hosts: Sequence[str], now: datetime) -> bool:
        """Make the server's TLS key and certificate unless good ones are there; returns whether it made them.

        A certificate is made again when it lacks one of ``hosts``, was signed by another CA or nears its end. The CA
        stays, so no site needs to do anything.
        """
        if state.tls_key.exists() and state.tls_certificate.exists():
            kept = _load_certificate(state.tls_certificate)
            names = kept.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            lasts = kept.not_valid_after_utc - now > _SERVER_RENEWED_BEFORE
            if lasts and list(names) == _alternative_names(hosts) and self._signed(kept):
                return False
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
        certificate = (
            self._signed_builder(subject, key.public_key(), now, _SERVER_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName(_alternative_names(hosts)), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        write_private(state.tls_key, _private_pem(key))
        write_private(state.tls_certificate, certificate.public_bytes(serialization.Encoding.PEM))
        return True

    def _signed_builder(
        self, subject: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
    ) -> x509.CertificateBuilder:
        return _builder(
            subject=subject,
            issuer=self._certificate.subject,
            public=public,
            issuer_public=self._key.public_key(),
            now=now,
            lifetime=lifetime,
        )

    def _signed(self, certificate: x509.Certificate) -> bool:
        try:
            certificate.verify_directly_issued_by(self._certificate)
        except (InvalidSignature, ValueError, TypeError):
            return False
        return True


def _builder(
    *,
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    issuer_public: ec.EllipticCurvePublicKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), critical=False)
    )


def _key_usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _checked_csr(csr: str) -> ec.EllipticCurvePublicKey:
    remedy = "make the request again with `archipel site join`"
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        signed = request.is_signature_valid
        public = request.public_key()
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise BadInput("certificate request", "is damaged", remedy, command=JoinFederation()) from error
    if not signed:
        raise BadInput("certificate request", "is not signed by its own key", remedy, command=JoinFederation())
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise BadInput("certificate request", "its key is not ECDSA on P-256", remedy, command=JoinFederation())
    return public


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(path) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _unreadable(path)
    return key


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(path) from error


def _unreadable(path: Path) -> ArchipelError:
    return ArchipelError(
        Thing.file(path),
        "holds no readable key or certificate",
        "restore it from the backup",
        code=ErrorCode.CONFIGURATION,
    )
