"""The key schedule, the masks and the agreement of pairs: known answers, and what must differ does."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from archipel.privacy.secure_aggregation.attempts import Attempt, Stage
from archipel.privacy.secure_aggregation.masks import Mask, Masks
from archipel.privacy.secure_aggregation.packing import derive, packed, statement, unpacked
from archipel.privacy.secure_aggregation.pairing import Pairing, all_paired
from archipel.privacy.secure_aggregation.ratchet import Chains
from archipel.privacy.secure_aggregation.roster import Roster
from archipel.vocabulary import BadInput, Conflict, Refused

NAMES = ("east", "north", "west")
IDENTITIES = {name: Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest()) for name in NAMES}


def public(name: str) -> bytes:
    return IDENTITIES[name].public_key().public_bytes_raw()


ROSTER = Roster.of([(name, public(name)) for name in NAMES])
ATTEMPT = Attempt.over(
    ROSTER, frozenset(NAMES), job="sha256:1", round=3, attempt=0, model="blake3:2", arguments="sha256:3"
)


def hkdf(key: bytes, info: bytes) -> bytes:
    """RFC 5869 by hand, one block of output."""
    extracted = hmac.digest(bytes(32), key, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def test_derivations_are_hkdf_over_all_fields() -> None:
    info = b"".join(len(one).to_bytes(4, "big") + one for one in (b"archipel-secagg/1", b"mask", b"context"))
    assert derive(bytes(32), "mask", b"context") == hkdf(bytes(32), info)
    assert unpacked(packed("a", 7, b"")) == [b"a", (7).to_bytes(8, "big"), b""]


def test_known_answers() -> None:
    """Fixed values: whoever changes one makes another version of the protocol."""
    chains = Chains(3, {"east": bytearray(range(32))})
    key = chains.round_key("east")
    seed = derive(key, "pair seed", ATTEMPT.context, "east", "north")
    vector = np.zeros(4, "<u4")
    masks = Masks([Mask(seed, 1)], ATTEMPT.context)
    masks.apply(vector)
    chains.advance(4)
    assert {
        "roster": ROSTER.digest().hex(),
        "context": ATTEMPT.context.hex(),
        "round": key.hex(),
        "pair": seed.hex(),
        "mask": vector.tobytes().hex(),
        "next": bytes(chains.encoded()[-32:]).hex(),
        "code": ROSTER.code(),
    } == {
        "roster": "4dcf1edf7c8b7232f37545883739486dadb2975ddd587a068443fb9604cd2052",
        "context": "4881e5b98bc4404bc1788782f46035351b2660e06feac09081cfb877f1f863e0",
        "round": "73a629ab55acc9e745a82122bdc8327f2a41f836bb810d670f7d68d6a8c21520",
        "pair": "a4a3957bbfc23a720fc6b51b9752ae6b2350765c2c28695ffb105b34734148e1",
        "mask": "7eac7e682b2ce1c7a1646911091b2a3e",
        "next": "532db55854693fb02f7b42f529a63b74da2b703692b8da21ca0ad2dc9c78fb7c",
        "code": "9Q7H-XQVW-HDS3-5WVN-8P43-EEA8-DPPV-55TX-VNC7-M1M4-8FXS-C16D-4190",
    }


def test_a_mask_is_the_keystream_of_aes_256_in_words_of_both_sizes() -> None:
    seed = bytes(range(32))
    key = derive(seed, "mask", b"c")
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(4 * 100_002 + 8 * 50_001))
    short, long = np.arange(100_002, dtype="<u4"), np.arange(50_001, dtype="<u8")
    masks = Masks([Mask(seed, 1)], b"c")
    for start, end in ((0, 3), (3, 90_000), (90_000, 100_002)):
        masks.apply(short[start:end])
    masks.apply(long)
    assert (short == np.arange(100_002, dtype="<u4") + np.frombuffer(stream, "<u4", 100_002)).all()
    assert (long == np.arange(50_001, dtype="<u8") + np.frombuffer(stream, "<u8", offset=400_008)).all()
    again = Masks([Mask(seed, -1)], b"c")
    again.apply(short)
    again.apply(long)
    assert (short == np.arange(100_002)).all() and (long == np.arange(50_001)).all()


def test_a_mask_does_not_repeat_within_a_vector_or_with_a_vector() -> None:
    """The weaknesses of the field: one number for a whole tensor, a 32-bit seed, one mask for two vectors."""
    seeds = [derive(bytes(32), "pair seed", replace(ATTEMPT, **other).context) for other in (  # type: ignore[arg-type]
        {}, {"round": 4}, {"attempt": 1}, {"model": "blake3:other"}, {"arguments": "sha256:other"}, {"job": "other"},
        {"stage": Stage.METRICS}, {"members": NAMES[:2]}, {"roster": bytes(32)},
    )]  # fmt: skip
    found = []
    for seed in seeds:
        vector = np.zeros(1000, "<u4")
        Masks([Mask(seed, 1)], ATTEMPT.context).apply(vector)
        assert len(set(vector.tolist())) == 1000
        found.append(vector.tobytes())
    assert len(set(found)) == len(seeds)


def test_a_closed_round_cannot_be_derived_again() -> None:
    chains = Chains(0, {"east": bytearray(32)})
    old = chains.round_key("east")
    chains.advance(2)
    assert chains.round_key("east") != old and chains.round == 2
    with pytest.raises(Refused, match="round 1: is closed here"):
        chains.advance(1)
    with pytest.raises(BadInput, match="far behind"):
        chains.advance(10**9)
    with pytest.raises(Refused, match="site west: has agreed no secret"):
        chains.round_key("west")
    assert Chains.decoded(chains.encoded()).encoded() == chains.encoded()


def pairings() -> dict[str, Pairing]:
    return {name: Pairing(name, IDENTITIES[name], "sha256:1", ROSTER) for name in NAMES}


def test_each_pair_agrees_one_secret_and_private_keys_are_destroyed() -> None:
    sites = pairings()
    chains = all_paired(sites)
    keys = {(one, other): bytes(chains[one].round_key(other)) for one in NAMES for other in NAMES if one != other}
    assert len(set(keys.values())) == 3
    assert all(keys[one, other] == keys[other, one] for one, other in keys)
    assert all(not any(site.secret) for site in sites.values())


def test_a_key_that_its_site_did_not_sign_is_refused() -> None:
    east, north, west = pairings().values()
    forged = replace(east.key(), site="north")
    with pytest.raises(Refused, match="site north: its experiment key does not have its signature"):
        west.receive_key(forged)
    other_job = Pairing("east", IDENTITIES["east"], "sha256:other", ROSTER).key()
    with pytest.raises(Refused, match="site east"):
        north.receive_key(other_job)


def test_a_second_key_and_a_second_secret_are_refused() -> None:
    east, north, _ = pairings().values()
    message = east.receive_key(north.key())
    assert message is not None and east.receive_key(north.key()) == message
    north.receive_key(east.key())
    north.receive(message)
    north.receive(message)
    with pytest.raises(Conflict, match="site north: sent two experiment keys"):
        east.receive_key(Pairing("north", IDENTITIES["north"], "sha256:1", ROSTER).key())
    again = Pairing("east", IDENTITIES["east"], "sha256:1", ROSTER, secret=east.secret)
    second = again.receive_key(north.key())
    assert second is not None and second != message
    with pytest.raises(Conflict, match="site east: sent two secrets"):
        north.receive(second)


@pytest.mark.parametrize("body", [b"", bytes(1216), bytes(1215), b"\xff" * 1216])
def test_an_experiment_key_that_is_not_one(body: bytes) -> None:
    """Signed by its site all the same; zeros are a point of X25519 with which everybody would know the secret."""
    east, north, _ = pairings().values()
    key = replace(north.key(), public=body)
    signed = statement("experiment key", "sha256:1", ROSTER.digest(), 0, "north", body)
    key = replace(key, signature=IDENTITIES["north"].sign(signed))
    with pytest.raises(Refused, match="site north: its experiment key is malformed"):
        east.receive_key(key)
    assert east.receive_key(north.key())


def test_a_sealed_secret_opens_for_its_receiver_only_and_is_refused_when_changed() -> None:
    east, north, west = pairings().values()
    message = east.receive_key(north.key())
    assert message is not None
    west.receive_key(east.key())
    with pytest.raises(Refused, match="site east: sent a secret for another site"):
        west.receive(message)
    north.receive_key(east.key())
    with pytest.raises(Refused, match="sealed secret does not have its signature"):
        north.receive(replace(message, sealed=message.sealed[:-1]))
    with pytest.raises(Refused, match="east, west: have agreed no secret"):
        north.chains()


def test_a_site_that_was_stopped_opens_with_its_kept_private_key() -> None:
    east, north, _ = pairings().values()
    again = Pairing("north", IDENTITIES["north"], "sha256:1", ROSTER, secret=bytearray(north.secret))
    assert again.key() == north.key()
    message = east.receive_key(again.key())
    again.receive_key(east.key())
    assert message is not None
    again.receive(message)
    assert again.missing == ("west",)


def test_rosters_refuse_a_site_twice_and_one_key_for_two() -> None:
    with pytest.raises(BadInput, match="site east: is in the roster twice"):
        Roster.of([("east", public("east")), ("east", public("west"))])
    with pytest.raises(BadInput, match="site west: has the same identity key as site east"):
        Roster.of([("east", public("east")), ("west", public("east"))])
    with pytest.raises(BadInput, match="not Ed25519"):
        Roster.of([("east", b"short")])


def test_the_code_of_a_roster_changes_with_any_key_and_is_read_as_people_type_it() -> None:
    other = Roster.of([(name, public(name if name != "west" else "east")) for name in ("west", "north")])
    assert ROSTER.code() != other.code() and len(ROSTER.code()) == 52 + 12
    typed = ROSTER.code().lower().replace("-", " ").replace("0", "o").replace("1", "i")
    assert ROSTER.has_code(typed) and not other.has_code(typed)
    spoiled = ROSTER.code()[:-1] + ("2" if ROSTER.code()[-1] != "2" else "3")
    assert not ROSTER.has_code(spoiled)


def test_statements_of_different_purposes_never_have_the_same_bytes() -> None:
    assert statement("set", b"ab", b"c") != statement("set", b"a", b"bc") != statement("upload", b"a", b"bc")
