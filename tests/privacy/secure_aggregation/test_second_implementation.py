"""The implementation agrees, byte for byte, with one that was written from the README and shares no code with it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite
from secagg_second import Attempt, add, derive, h, said
from secagg_world import JOB, World, added, identity

from archipel.privacy.secure_aggregation.encoding import CONSTANT
from archipel.privacy.secure_aggregation.pairing import Pairing


def chain(one: str, other: str) -> bytes:
    """As the federation of the tests has it for round 0."""
    return hashlib.sha256("|".join(sorted((one, other))).encode()).digest()


@pytest.mark.parametrize("missing", [0, 1])
def test_it_opens_the_sum_of_the_first_one(missing: int) -> None:
    world = World(5)
    attempt = world.attempt()
    second = Attempt(dict(world.roster.keys), JOB, (1, 0), ("blake3:m", "sha256:a"), "updates", list(world.names))
    assert second.roster == world.roster.digest() and second.context == attempt.context

    there = world.names[missing:]
    sent = {name: world.masked(name, attempt) for name in there}
    uploads = {name: upload.encoded() for name, (_, upload) in sent.items()}
    total = added([body for body, _ in sent.values()])
    threshold = world.terms.threshold(5)
    for dealer in there:
        holders = [name for name in there if name != dealer][:threshold]
        if len(holders) < threshold:
            holders = holders[: threshold - 1]
        shares = {holder: second.opened(uploads[dealer], holder, chain(dealer, holder)) for holder in holders}
        if len(shares) < threshold:
            own = world.disks[dealer].files[f"own-{attempt.context.hex()}"]
            numbers = np.frombuffer(bytes(own), "<u4").reshape(5, 9).tolist()
            shares[dealer] = numbers
        place = second.members.index(dealer)
        total = add(total, second.mask(second.seed(uploads[dealer], place, shares), len(total)), -1, 16)
        for gone in world.names[:missing]:
            index = second.members.index(gone)
            seed = second.seed(uploads[dealer], index, shares)
            assert seed == second.pair_seed(chain(dealer, gone), dealer, gone)
            total = add(total, second.mask(seed, len(total)), -1 if index > place else 1, 16)
    assert total == world.plain_sum(there)


def test_it_makes_the_same_masked_vector() -> None:
    world = World(4)
    attempt = world.attempt()
    name = world.names[1]
    masking = world.sites[name].begin(attempt)
    self_seed = bytes(masking.seeds[1])
    short, long = world.vector(name)
    plain = short.tobytes() + long.tobytes()
    masking.apply(short)
    masking.apply(long)
    second = Attempt(dict(world.roster.keys), JOB, (1, 0), ("blake3:m", "sha256:a"), "updates", list(world.names))
    expected = add(plain, second.mask(self_seed, len(plain)), 1, 16)
    for index, peer in enumerate(world.names):
        if peer != name:
            seed = second.pair_seed(chain(name, peer), name, peer)
            expected = add(expected, second.mask(seed, len(plain)), 1 if index > 1 else -1, 16)
    assert short.tobytes() + long.tobytes() == expected


def test_the_agreement_of_a_pair_is_that_of_the_readme() -> None:
    """The message of one pair, opened by hand with the library's HPKE and with infos put together here."""
    world = World(3)
    one, two, _ = world.names
    sender, receiver = (Pairing(name, identity(name), JOB, world.roster, 4) for name in (one, two))
    message = sender.receive_key(receiver.key())
    receiver.receive_key(sender.key())
    assert message is not None
    publics = [h(site.key().public) for site in (sender, receiver)]
    private = MLKEM768X25519PrivateKey(
        MLKEM768PrivateKey.from_seed_bytes(receiver.secret[:64]),
        X25519PrivateKey.from_private_bytes(receiver.secret[64:]),
    )
    fields = (JOB, world.roster.digest(), one, two, *publics)
    suite = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    secret = suite.decrypt(message.sealed, private, said("pair", *fields, 4))
    identity(one).public_key().verify(message.signature, said("pair", *fields, 4, h(message.sealed)))
    third = Pairing(world.names[2], identity(world.names[2]), JOB, world.roster, 4)
    for first, second in ((sender, receiver), (sender, third), (receiver, third)):
        sealed = first.receive_key(second.key())
        second.receive_key(first.key())
        assert sealed is not None
        second.receive(sealed)
    key = receiver.chains().round_key(one)
    assert bytes(key) == derive(derive(secret, "chain", *fields), "round", 4)


def test_the_constant_is_that_of_the_readme() -> None:
    fields = [b"archipel-secagg/1", b"constant"]
    packed = b"".join(len(one).to_bytes(4, "big") + one for one in fields)
    assert CONSTANT.tobytes() == hashlib.sha256(packed).digest()[:16]
