"""The site's TLS key and its certificate: made here, changed together or not at all, and independent of the identity
key.

Two files cannot be renamed at once. The new key is written beside the old one, then the certificate takes its place,
then the key. The next reader finishes a change that a crash left half done: it sees for which key the certificate is.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from archipel.storage import disk_errors_named, sync_folder, write_private
from archipel.vocabulary import ArchipelError, ErrorCode, Thing
from archipel.vocabulary.remedies import JoinFederation

_NEXT = "tls.key.next"


class Credentials(NamedTuple):
    """What a connection to the server needs, as PEM bytes."""

    key: bytes
    certificate: bytes
    authority: bytes

    @property
    def expires(self) -> datetime:
        """When the certificate ends (UTC)."""
        return x509.load_pem_x509_certificate(self.certificate).not_valid_after_utc


def tls_request(name: str) -> tuple[bytes, str]:
    """A new P-256 key (PEM) and a request for a certificate on it in the site's name (PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem, request.public_bytes(serialization.Encoding.PEM).decode()


def keep_certificate(keys: Path, key: bytes, certificate: str, authority: str | None = None) -> None:
    """Keep a TLS key with its certificate, and the CA's when it is given.

    Raises ArchipelError (code trust) when the certificate is on another key; the old pair is kept then.
    """
    if not _is_on(certificate.encode(), key):
        raise ArchipelError(
            "certificate",
            "the server signed another key than this site's",
            "ask its operator for a new token",
            code=ErrorCode.TRUST,
            command=JoinFederation(),
        )
    with _alone(keys):
        if authority is not None:
            write_private(keys / "ca.pem", authority.encode())
        write_private(keys / _NEXT, key)
        write_private(keys / "tls.pem", certificate.encode())
        _settle(keys)


def credentials(keys: Path) -> Credentials:
    """The key, certificate and CA for a connection, from the folder of a site that joined.

    Raises ArchipelError (code configuration) when they are not there.
    """
    try:
        with _alone(keys):
            _settle(keys)
            key, certificate, authority = ((keys / name).read_bytes() for name in ("tls.key", "tls.pem", "ca.pem"))
        return Credentials(key, certificate, authority)
    except FileNotFoundError as error:
        raise ArchipelError(
            Thing.file(str(error.filename)),
            "is not there",
            "restore it from the backup or join again with a new token",
            code=ErrorCode.CONFIGURATION,
        ) from error


@contextmanager
def _alone(keys: Path) -> Iterator[None]:
    descriptor = os.open(keys, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _settle(keys: Path) -> None:
    """Finish a change of the pair: the next key takes its place exactly when the certificate is on it."""
    following, certificate = keys / _NEXT, keys / "tls.pem"
    if not following.exists():
        return
    with disk_errors_named(keys):
        if certificate.exists() and _is_on(certificate.read_bytes(), following.read_bytes()):
            following.replace(keys / "tls.key")
        else:
            following.unlink()
        sync_folder(keys)


def _is_on(certificate: bytes, key: bytes) -> bool:
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        certified = x509.load_pem_x509_certificate(certificate).public_key().public_bytes(*form)
    except ValueError:
        return False
    return certified == serialization.load_pem_private_key(key, password=None).public_key().public_bytes(*form)
