"""How each pair of sites agrees a secret, once for an experiment: HPKE with X25519 and ML-KEM-768, signed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from archipel.privacy.secure_aggregation.packing import KEY_BYTES, Field, derive, destroy, statement
from archipel.privacy.secure_aggregation.ratchet import Chains
from archipel.privacy.secure_aggregation.roster import Roster
from archipel.vocabulary import Conflict, Refused
from archipel.vocabulary.things import Thing

_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_MLKEM_BYTES, _SEED_BYTES = 1184, 64


@dataclass(frozen=True)
class ExperimentKey:
    """A site's public key for one experiment, signed by its identity key."""

    site: str
    public: bytes
    signature: bytes


@dataclass(frozen=True)
class PairMessage:
    """A pair's secret, sealed by ``sender`` for ``receiver`` and signed by the sender."""

    sender: str
    receiver: str
    first_round: int
    sealed: bytes
    signature: bytes


class Pairing:
    """A site's side of the agreement. Its private key, ``secret``, is kept until ``chains`` were made."""

    def __init__(
        self, name: str, identity: Ed25519PrivateKey, job: str, roster: Roster, first_round: int = 0,
        secret: bytearray | None = None,
    ) -> None:  # fmt: skip
        self._name, self._identity, self._job, self._roster, self._first = name, identity, job, roster, first_round
        roster.position(name)
        self.secret = secret if secret is not None else _new_secret()
        self._public: dict[str, bytes] = {name: _public(self.secret)}
        self._agreed: dict[str, bytearray] = {}
        self._sent: dict[str, PairMessage] = {}
        self._received: dict[str, PairMessage] = {}

    def key(self) -> ExperimentKey:
        """What this site sends to all others."""
        public = self._public[self._name]
        return ExperimentKey(self._name, public, self._identity.sign(self._key_statement(self._name, public)))

    def receive_key(self, key: ExperimentKey) -> PairMessage | None:
        """A peer's key; the message for it where this site comes first in the roster.

        Raises Refused for a key that the peer did not sign, and Conflict for a second, other key.
        """
        self._roster.check_signed("experiment key", key.site, key.signature, self._key_statement(key.site, key.public))
        if self._public.get(key.site, key.public) != key.public:
            raise Conflict(
                Thing("site", key.site), "sent two experiment keys", "agree again with all sites, from new keys"
            )
        if key.site == self._name or self._roster.position(self._name) > self._roster.position(key.site):
            self._public[key.site] = key.public
            return None
        if key.site not in self._sent:
            self._sent[key.site] = self._sealed(key)
        return self._sent[key.site]

    def receive(self, message: PairMessage) -> None:
        """The secret that a peer chose. Raises Refused where it is not signed, not for this site or does not open."""
        sender = Thing("site", message.sender)
        if message.sender not in self._public or message.receiver != self._name or message.first_round != self._first:
            raise Refused(sender, "sent a secret for another site or round, or before its key", "send it again")
        if self._roster.position(message.sender) >= self._roster.position(self._name):
            raise Refused(sender, "chose a secret that the other site of the pair chooses", "wait for its message")
        fields = self._fields(message.sender, self._name, message.first_round, self._public)
        body = _pair_statement(fields, message.sealed)
        self._roster.check_signed("sealed secret", message.sender, message.signature, body)
        if self._received.setdefault(message.sender, message) != message:
            raise Conflict(sender, "sent two secrets for one pair", "agree again with all sites, from new keys")
        if message.sender in self._agreed:
            return
        try:
            secret = bytearray(_SUITE.decrypt(message.sealed, _private(self.secret), statement("pair", *fields)))
        except (InvalidTag, ValueError) as error:
            raise Refused(sender, "sent a secret that does not open", "let it seal one for this site's key") from error
        self._agreed[message.sender] = self._chain(secret, fields)
        destroy(secret)

    @property
    def missing(self) -> tuple[str, ...]:
        """The peers with whom nothing is agreed yet."""
        return tuple(name for name in self._roster.names if name not in self._agreed and name != self._name)

    def chains(self) -> Chains:
        """The agreed chain values, after which the private key is destroyed. Raises Refused while a peer is missing."""
        if self.missing:
            raise Refused(
                ", ".join(self.missing), "have agreed no secret with this site yet", "wait for their messages"
            )
        destroy(self.secret)
        return Chains(self._first, self._agreed)

    def _sealed(self, key: ExperimentKey) -> PairMessage:
        """A new secret for a peer. A key with which nothing can be sealed is not remembered."""
        secret = bytearray(os.urandom(KEY_BYTES))
        fields = self._fields(self._name, key.site, self._first, {**self._public, key.site: key.public})
        try:
            sealed = _SUITE.encrypt(secret, _opened(key.public), statement("pair", *fields))
        except ValueError as error:
            raise Refused(
                Thing("site", key.site), f"its experiment key is malformed ({error})", "let it make a new one"
            ) from error
        self._public[key.site] = key.public
        signature = self._identity.sign(_pair_statement(fields, sealed))
        self._agreed[key.site] = self._chain(secret, fields)
        destroy(secret)
        return PairMessage(self._name, key.site, self._first, sealed, signature)

    def _key_statement(self, name: str, public: bytes) -> bytes:
        # With the first round: a key that a site gave up cannot be shown again when all agree anew.
        return statement("experiment key", self._job, self._roster.digest(), self._first, name, public)

    def _fields(self, first: str, second: str, round: int, public: Mapping[str, bytes]) -> list[Field]:  # noqa: A002
        hashes = [hashlib.sha256(public[name]).digest() for name in (first, second)]
        return [self._job, self._roster.digest(), first, second, *hashes, round]

    def _chain(self, secret: bytearray, fields: list[Field]) -> bytearray:
        return derive(secret, "chain", *fields[:-1])


def all_paired(pairings: Mapping[str, Pairing]) -> dict[str, Chains]:
    """The agreement of sites that are all in this process, as a simulation has them."""
    for receiver in pairings.values():
        for sender in pairings.values():
            message = receiver.receive_key(sender.key())
            if message is not None and sender is not receiver:
                sender.receive_key(receiver.key())
                sender.receive(message)
    return {name: one.chains() for name, one in pairings.items()}


def _pair_statement(fields: list[Field], sealed: bytes) -> bytes:
    return statement("pair", *fields, hashlib.sha256(sealed).digest())


def _new_secret() -> bytearray:
    return bytearray(
        MLKEM768PrivateKey.generate().private_bytes_raw() + X25519PrivateKey.generate().private_bytes_raw()
    )


def _halves(secret: bytearray) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    first, second = secret[:_SEED_BYTES], secret[_SEED_BYTES:]
    return MLKEM768PrivateKey.from_seed_bytes(first), X25519PrivateKey.from_private_bytes(second)


def _private(secret: bytearray) -> MLKEM768X25519PrivateKey:
    return MLKEM768X25519PrivateKey(*_halves(secret))


def _public(secret: bytearray) -> bytes:
    first, second = _halves(secret)
    return first.public_key().public_bytes_raw() + second.public_key().public_bytes_raw()


def _opened(public: bytes) -> MLKEM768X25519PublicKey:
    first, second = public[:_MLKEM_BYTES], public[_MLKEM_BYTES:]
    return MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(first), X25519PublicKey.from_public_bytes(second)
    )
