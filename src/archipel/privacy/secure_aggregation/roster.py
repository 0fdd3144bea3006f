"""Who takes part: names with their identity keys in one order, one hash, and the code that people compare."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from archipel.privacy.secure_aggregation.packing import packed, statement
from archipel.vocabulary import BadInput, Refused
from archipel.vocabulary.things import Thing

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Base 32 of Crockford: no I, L, O and U, which are read as other characters."""
_MISREAD = str.maketrans("ILO", "110")
_GROUP = 4


@dataclass(frozen=True)
class Roster:
    """The sites of a job, by name in the order of UTF-8 bytes, each with its Ed25519 identity key of 32 bytes."""

    keys: Mapping[str, bytes]

    @classmethod
    def of(cls, sites: Iterable[tuple[str, bytes]]) -> Roster:
        """Raises BadInput where a name or a key is there twice, and where a key cannot be one."""
        keys: dict[str, bytes] = {}
        named: dict[bytes, str] = {}
        for name, key in sorted(sites, key=lambda site: site[0].encode()):
            if name in keys:
                raise BadInput(Thing("site", name), "is in the roster twice", "give each site one entry")
            if key in named:
                raise BadInput(
                    Thing("site", name),
                    f"has the same identity key as site {named[key]}",
                    "have one of them make a new identity key: two sites with one key are one site",
                )
            try:
                Ed25519PublicKey.from_public_bytes(key)
            except ValueError as error:
                raise BadInput(
                    Thing("site", name), f"has an identity key that is not Ed25519 ({error})", "send its key again"
                ) from error
            keys[name], named[key] = key, name
        return cls(keys)

    @property
    def names(self) -> tuple[str, ...]:
        """All names in order; a site's index among them is its position."""
        return tuple(self.keys)

    def position(self, name: str) -> int:
        """A site's index in the roster. Raises BadInput for a site that is not in it."""
        if name not in self.keys:
            raise BadInput(Thing("site", name), "is not in the roster of this job", "make a job that names it")
        return self.names.index(name)

    def digest(self) -> bytes:
        """The roster's hash, 32 bytes: any other name or key gives another one."""
        return hashlib.sha256(statement("roster", *(packed(name, key) for name, key in self.keys.items()))).digest()

    def code(self) -> str:
        """The hash as 13 groups of 4 characters, for people to compare out of band.

        >>> key = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
        >>> Roster.of([("north", key)]).code()[:14]
        '6X89-160F-AH46'
        """
        bits = int.from_bytes(self.digest(), "big") << 4
        text = "".join(_ALPHABET[bits >> shift & 31] for shift in range(255, -1, -5))
        return "-".join(text[start : start + _GROUP] for start in range(0, len(text), _GROUP))

    def has_code(self, typed: str) -> bool:
        """Whether a person typed this roster's code: case, spaces and dashes do not matter, nor O for 0 or I for 1."""
        return "".join(typed.upper().replace("-", " ").split()).translate(_MISREAD) == self.code().replace("-", "")

    def signed(self, name: str, signature: bytes, body: bytes) -> bool:
        """Whether a site of the roster signed these bytes."""
        if name not in self.keys:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.keys[name]).verify(signature, body)
        except InvalidSignature:
            return False
        return True

    def check_signed(self, what: str, name: str, signature: bytes, body: bytes) -> None:
        """Raises Refused, naming the site, where it did not sign these bytes."""
        if not self.signed(name, signature, body):
            raise Refused(
                Thing("site", name),
                f"its {what} does not have its signature",
                "send it again; if it stays so, compare the roster code: another key signed, or bytes were changed",
            )
