"""Secrets that are shown once and kept as hashes, so that a stolen database gives no access.

They are 256 random bits, so one SHA-256 is enough: slow password hashes protect what people choose, and cost every
request.
"""

from __future__ import annotations

import hmac
import secrets

from archipel.tensors import document_hash


def new_secret() -> str:
    """256 random bits as hexadecimal text."""
    return secrets.token_hex(32)


def new_id() -> str:
    """A public, unguessable name for a token: 64 random bits as hexadecimal text."""
    return secrets.token_hex(8)


def hashed(secret: str) -> str:
    """What is kept of a secret."""
    return document_hash(secret.encode())


def matches(secret: str, kept: str) -> bool:
    """Whether this is the secret, in time that does not depend on where it differs."""
    return hmac.compare_digest(hashed(secret), kept)
