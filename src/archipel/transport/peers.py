"""Who is calling, by the certificate that TLS checked, and how many calls of one site are under way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.x509.oid import NameOID

from archipel.vocabulary import ArchipelError, ErrorCode, Thing
from archipel.vocabulary.remedies import Nothing


@dataclass(frozen=True)
class Peer:
    """A site and the serial number of the certificate with which it calls."""

    site: str
    serial: str


@lru_cache(maxsize=4096)
def peer_of_pem(pem: bytes) -> Peer:
    """Whose certificate this is; the registry says whether it is valid now."""
    return _peer(x509.load_pem_x509_certificate(pem))


@lru_cache(maxsize=4096)
def peer_of_der(der: bytes) -> Peer:
    """The same for a certificate in its binary form."""
    return _peer(x509.load_der_x509_certificate(der))


def _peer(certificate: x509.Certificate) -> Peer:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Peer(str(names[0].value), format(certificate.serial_number, "x"))


class UnderWay:
    """The calls of one kind that are under way, by site: at most ``most`` of each."""

    def __init__(self, what: str, most: int) -> None:
        self._what, self._most = what, most
        self._calls: Counter[str] = Counter()

    def count(self, site: str) -> int:
        """How many of a site are under way."""
        return self._calls[site]

    @contextmanager
    def one(self, peer: Peer) -> Iterator[None]:
        """Count a call within the context. Raises ArchipelError (code lost) when the site has too many."""
        if self._calls[peer.site] >= self._most:
            raise ArchipelError(
                Thing("site", peer.site),
                f"has {self._most} {self._what} under way",
                "it is tried again",
                code=ErrorCode.LOST,
                values={"calls": self._most, "what": self._what},
                command=Nothing(),
            )
        self._calls[peer.site] += 1
        try:
            yield
        finally:
            self._calls[peer.site] -= 1
            if not self._calls[peer.site]:
                del self._calls[peer.site]
