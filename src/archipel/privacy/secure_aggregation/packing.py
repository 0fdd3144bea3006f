"""How the protocol turns fields into bytes, and one key into another: nothing is ambiguous, everything is bound."""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PROTOCOL = "archipel-secagg/1"
"""Covered by every derivation and every signature; another version of the protocol is another name."""
KEY_BYTES = 32
_LENGTH_BYTES = 4

Field = bytes | str | int


def packed(*fields: Field) -> bytes:
    """All fields, each after its length: two different lists of fields never give the same bytes.

    A text is UTF-8 and an integer 8 bytes, big-endian. A list is packed by itself, and is one of the outer fields.

    >>> packed("a", 1).hex()
    '0000000161000000080000000000000001'
    """
    parts = []
    for field in fields:
        value = field.encode() if isinstance(field, str) else number(field) if isinstance(field, int) else field
        parts += [len(value).to_bytes(_LENGTH_BYTES, "big"), value]
    return b"".join(parts)


def number(value: int) -> bytes:
    """An integer from 0 to 2^64 - 1 as 8 bytes."""
    return value.to_bytes(8, "big")


def unpacked(body: bytes) -> list[bytes]:
    """The fields of packed bytes. Raises ValueError where its lengths do not add up.

    >>> unpacked(packed("a", b""))
    [b'a', b'']
    """
    fields, place = [], 0
    while place < len(body):
        start = place + _LENGTH_BYTES
        end = start + int.from_bytes(body[place:start], "big")
        if end > len(body) or start > len(body):
            raise ValueError("is cut off, or has a wrong length in it")
        fields.append(body[start:end])
        place = end
    return fields


def statement(purpose: str, *fields: Field) -> bytes:
    """What is signed, hashed or given to a derivation: the protocol's version, the purpose, the fields."""
    return packed(PROTOCOL, purpose, *fields)


def derive(key: bytes | bytearray, purpose: str, *fields: Field) -> bytearray:
    """A key of 32 bytes for one purpose: HKDF-SHA256 (RFC 5869) without salt, in a buffer that can be overwritten."""
    out = bytearray(KEY_BYTES)
    HKDF(SHA256(), KEY_BYTES, None, statement(purpose, *fields)).derive_into(key, out)
    return out


def destroy(*secrets: bytearray) -> None:
    """Overwrite secrets. Copies that Python or a library made in between are out of reach."""
    for secret in secrets:
        secret[:] = bytes(len(secret))
