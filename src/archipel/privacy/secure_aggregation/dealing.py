"""What a dealer deals in one attempt: shares of its seeds, their hashes, and a sealed bundle for each holder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from archipel.privacy.secure_aggregation.attempts import Attempt
from archipel.privacy.secure_aggregation.messages import SHARE_HASH_BYTES
from archipel.privacy.secure_aggregation.packing import packed, statement
from archipel.privacy.secure_aggregation.roster import Roster
from archipel.privacy.secure_aggregation.sharing import SHARE_BYTES, deal

_NONCE = bytes(12)
"""Each key seals one message: it is derived with the hash of the shares in it."""


@dataclass(frozen=True)
class Deal:
    """Hashes of the seeds, of all shares, holder by holder, and the open bundle of each member, in their order."""

    seed_hashes: bytes
    share_hashes: bytes
    bundles: tuple[bytearray, ...]


def points(roster: Roster, names: Sequence[str]) -> list[int]:
    """Where each holder's shares are: one more than its position."""
    return [roster.position(name) + 1 for name in names]


def dealt(attempt: Attempt, dealer: str, seeds: Sequence[bytearray], roster: Roster, threshold: int) -> Deal:
    """Deal the seeds, which are in the order of the members; the dealer's self seed is at its own place."""
    array = np.frombuffer(b"".join(seeds), np.uint8).reshape(len(seeds), -1)
    shares = deal(array, points(roster, attempt.members), threshold)
    bundles = tuple(bytearray(one.tobytes()) for one in shares)
    shares.fill(0)
    hashes = [
        share_hashes(attempt.context, dealer, holder, range(len(seeds)), bundle)
        for holder, bundle in zip(attempt.members, bundles, strict=True)
    ]
    seed_hashes = [seed_hash(attempt.context, dealer, index, bytes(seed)) for index, seed in enumerate(seeds)]
    return Deal(b"".join(seed_hashes), b"".join(hashes), bundles)


def seed_hash(context: bytes, dealer: str, index: int, seed: bytes) -> bytes:
    """The hash of the seed at a place."""
    return hashlib.sha256(statement("seed", context, dealer, index) + seed).digest()


def share_hashes(
    context: bytes, dealer: str, holder: str, indexes: Sequence[int], shares: bytes | bytearray | memoryview
) -> bytes:
    """The hashes of a holder's shares, one after another, of the seeds at these places."""
    begun = hashlib.sha256(statement("share", context, dealer, holder))
    found = []
    for place, index in enumerate(indexes):
        one = begun.copy()
        one.update(index.to_bytes(4, "big") + shares[place * SHARE_BYTES : (place + 1) * SHARE_BYTES])
        found.append(one.digest()[:SHARE_HASH_BYTES])
    return b"".join(found)


def sealed(key: bytearray, context: bytes, column: bytes, bundle: bytearray) -> bytes:
    """A bundle that only the holder opens; it names the hash of the share hashes that belong to it."""
    return AESGCM(key).encrypt(_NONCE, bundle, packed(context, column))


def opened(key: bytearray, context: bytes, column: bytes, body: bytes) -> bytearray | None:
    """The bundle, or None where it was not sealed with this key for this attempt and these hashes."""
    try:
        return bytearray(AESGCM(key).decrypt(_NONCE, body, packed(context, column)))
    except InvalidTag:
        return None
