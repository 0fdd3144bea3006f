"""How a site joins a federation over HTTPS: the token that a person passes on, and the request and reply of the
enrolment.

The token names the server's CA by fingerprint, so that the site trusts only what a person gave it: it
fetches the CA certificate without trust, compares the fingerprint, and connects again with that CA pinned. Server
and site import these records; the documents they sign are made canonical by the callers.
"""

from __future__ import annotations

import base64
import ssl
from typing import Annotated

from pydantic import Field

from archipel.tensors import document_hash
from archipel.transport.messages import Beat
from archipel.vocabulary import ArchipelError, ErrorCode, Hash, Record, SiteName
from archipel.vocabulary.jobs import PublicKey
from archipel.vocabulary.remedies import JoinFederation

ENROLMENT_HEADER = "Archipel-Join-Token"
"""The header of an enrolment that names the join token's id, so that the server refuses strangers before their body."""
_PREFIX = "archipel1."
_Pem = Annotated[str, Field(max_length=20_000)]
_Secret = Annotated[str, Field(min_length=1, max_length=200)]


class JoinToken(Record):
    """Everything a site needs to join, in one string: the address, the CA, the site's name, and a single-use secret.

    ``url`` is the REST address (``https://host:port``), ``grpc`` the address of the control stream (``host:port``),
    ``ca`` the SHA-256 of the federation CA's DER bytes.
    """

    url: str
    ca: Hash
    id: str
    secret: _Secret
    site: SiteName
    grpc: str

    def encode(self) -> str:
        """The token as a person copies it: ``archipel1.<base64url of JSON>``."""
        return _PREFIX + base64.urlsafe_b64encode(self.model_dump_json().encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> JoinToken:
        """The token in a string. Raises ArchipelError (code token) when it is damaged or not a join token."""
        body = text.strip().removeprefix(_PREFIX)
        try:
            if not text.strip().startswith(_PREFIX):
                raise ValueError("no prefix")
            return cls.model_validate_json(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        except ValueError as error:
            raise ArchipelError(
                "join token",
                "is damaged or not a join token",
                "copy the whole line that `archipel server join-token create` printed",
                code=ErrorCode.TOKEN,
                command=JoinFederation(),
            ) from error

    def check_authority(self, pem: str) -> None:
        """Raise ArchipelError (code trust) unless ``pem`` is the CA certificate this token names."""
        if authority_fingerprint(pem) != self.ca:
            raise ArchipelError(
                f"server {self.url}",
                "shows another CA than the join token names",
                "do not continue: ask the server's operator for a new token and check the address",
                code=ErrorCode.TRUST,
            )


class AuthorityReply(Record):
    """``GET /v1/enrolment/authority``: the federation's CA certificate (PEM) and the server's time (ISO, UTC)."""

    ca: str
    time: str


class EnrolmentStatement(Record):
    """What an enrolling site signs with its identity key; a field never gets a default, which would not be signed."""

    id: str
    site: str
    identity_key: str
    csr: str


class EnrolmentRequest(Record):
    """``POST /v1/enrolment``: the token's id and secret, the site's identity key and its certificate request.

    ``proof`` is the identity key's signature over ``proof_message(canonical(request.statement()))``: the site that
    enrols holds the key. ``time`` is the site's clock (ISO, UTC), so that a wrong clock is named here and not as a TLS
    error.
    """

    id: Annotated[str, Field(max_length=64)]
    secret: _Secret
    site: SiteName
    identity_key: PublicKey
    csr: _Pem
    proof: Annotated[str, Field(max_length=200)]
    time: Annotated[str, Field(max_length=40)]

    def statement(self) -> EnrolmentStatement:
        """What the identity key signs; the caller makes it canonical."""
        return EnrolmentStatement(id=self.id, site=self.site, identity_key=self.identity_key, csr=self.csr)


class EnrolmentReply(Record):
    """What a site keeps: its certificate, the CA, the server's identity key and where the control stream is."""

    certificate: str
    ca: str
    server_key: PublicKey
    federation: str
    grpc: str
    heartbeat_s: Beat


def proof_message(statement: bytes) -> bytes:
    """The bytes to sign for a canonical statement, in a domain of their own."""
    return b"archipel-enrolment/1\n" + statement


def authority_fingerprint(pem: str) -> str:
    """SHA-256 of a certificate's DER bytes, ``sha256:<hex>``; ArchipelError (code trust) when it is not a
    certificate.
    """
    try:
        return document_hash(ssl.PEM_cert_to_DER_cert(pem))
    except ValueError as error:
        raise ArchipelError(
            "CA certificate", "is not a PEM certificate", "check the server's address", code=ErrorCode.TRUST
        ) from error
