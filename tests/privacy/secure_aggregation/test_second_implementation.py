"""The implementation agrees, byte for byte, with one that was written from the README and shares no code with it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from secagg_second import Attempt as Second
from secagg_second import add, derive, h, hpke_open, pack, roster_code, roster_hash, said, terms, threshold, unpack
from secagg_second_encoding import exponents_after, first_exponent, long_names, vector
from secagg_world import JOB, World, added, identity, unmasked
from test_encoding import Pair

from archipel.privacy.secure_aggregation.encoding import CONSTANT, Own, encoded
from archipel.privacy.secure_aggregation.layout import Form, Layout, long_tensors
from archipel.privacy.secure_aggregation.messages import SetSignature, ShareAnswer, ShareRequest, Upload
from archipel.privacy.secure_aggregation.pairing import Pairing
from archipel.privacy.secure_aggregation.ranges import exponents, first_range, moved
from archipel.privacy.secure_aggregation.terms import Adversary, Terms
from archipel.vocabulary import TensorSchema, TensorSpec


def chain(one: str, other: str) -> bytes:
    """As the federation of the tests has it for round 0."""
    return hashlib.sha256("|".join(sorted((one, other))).encode()).digest()


@pytest.mark.parametrize("missing", [0, 1])
def test_it_opens_the_sum_of_the_first_one(missing: int) -> None:
    world = World(5)
    attempt = world.attempt()
    second = Second(dict(world.roster.keys), JOB, (1, 0), ("blake3:m", "sha256:a"), "updates", list(world.names))
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
    second = Second(dict(world.roster.keys), JOB, (1, 0), ("blake3:m", "sha256:a"), "updates", list(world.names))
    expected = add(plain, second.mask(self_seed, len(plain)), 1, 16)
    for index, peer in enumerate(world.names):
        if peer != name:
            seed = second.pair_seed(chain(name, peer), name, peer)
            expected = add(expected, second.mask(seed, len(plain)), 1 if index > 1 else -1, 16)
    assert short.tobytes() + long.tobytes() == expected


def test_the_agreement_of_a_pair_is_that_of_the_readme() -> None:
    """The message of one pair, opened by an HPKE that is put together by hand here."""
    world = World(3)
    one, two, _ = world.names
    sender, receiver = (Pairing(name, identity(name), JOB, world.roster, 4) for name in (one, two))
    message = sender.receive_key(receiver.key())
    receiver.receive_key(sender.key())
    assert message is not None
    publics = [h(site.key().public) for site in (sender, receiver)]
    for name, site in ((one, sender), (two, receiver)):
        statement = said("experiment key", JOB, world.roster.digest(), 4, name, site.key().public)
        identity(name).public_key().verify(site.key().signature, statement)
    fields = (JOB, world.roster.digest(), one, two, *publics)
    secret = hpke_open(message.sealed, bytes(receiver.secret), said("pair", *fields, 4))
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


@pytest.mark.parametrize("missing", [0, 1])
@pytest.mark.parametrize("c", [1, 2])
def test_both_implementations_share_one_attempt(missing: int, c: int) -> None:
    """Two sites are the first one, the others the second; each of both servers opens the sum."""
    world = World(6, Terms.of(6, colluding=c))
    attempt = world.attempt()
    second = Second(dict(world.roster.keys), JOB, (1, 0), ("blake3:m", "sha256:a"), "updates", list(world.names))
    t = threshold(6, c)
    assert t == world.terms.threshold(6)
    server = world.aggregator(attempt)
    there = world.names[:3] + world.names[3 + missing :]
    chains = {name: {peer: chain(name, peer) for peer in world.names} for name in there}
    vectors, uploads, own = {}, {}, {}
    for name in there:
        if name in world.names[:2]:
            vectors[name], upload = world.masked(name, attempt)
            uploads[name] = upload.encoded()
        else:
            plain = b"".join(part.tobytes() for part in world.vector(name))
            vectors[name], uploads[name], own[name] = second.upload(name, identity(name), chains[name], plain, 16, t)
        server.receive(Upload.decoded(uploads[name]))
    signed = [unpack(uploads[name])[7] for name in there]
    if not server.close():
        signed = [
            world.sites[name].sign(attempt.context, there).encoded()
            if name not in own
            else second.set_signature(name, identity(name), there)
            for name in there
        ]
        for one in signed:
            server.receive_signature(SetSignature.decoded(one))
    answers = []
    by_first, by_second = server.requests(), second.requests(uploads, there, signed)
    for name in there:
        if name in own:
            answer = second.answer(by_first[name].encoded(), name, identity(name), chains[name], own[name], t)
        else:
            kept = bytes(world.disks[name].files[f"own-{attempt.context.hex()}"])
            answer = world.sites[name].answer(ShareRequest.decoded(by_second[name])).encoded()
            assert answer == second.answer(by_second[name], name, identity(name), chains[name], kept, t)
        answers.append(answer)
        server.receive_answer(ShareAnswer.decoded(answer))
    plain = world.plain_sum(there)
    assert unmasked(server, vectors) == plain
    for some in (answers, answers[::-1]):
        assert second.unmask(added(list(vectors.values())), 16, t, there, uploads, some) == plain


def test_both_answer_nothing_for_a_bundle_that_does_not_open() -> None:
    world = World(4)
    attempt = world.attempt()
    second = Second(dict(world.roster.keys), JOB, (1, 0), ("blake3:m", "sha256:a"), "updates", list(world.names))
    uploads = {name: world.masked(name, attempt)[1].encoded() for name in world.names}
    signed = [unpack(uploads[name])[7] for name in world.names]
    one = world.names[1]
    context, names, signatures, sealed = unpack(second.requests(uploads, world.names, signed)[one])
    dealer, body, column_hash = unpack(unpack(sealed)[0])
    altered = pack(dealer, bytes([body[0] ^ 1]) + body[1:], column_hash)
    request = pack(context, names, signatures, pack(altered, *unpack(sealed)[1:]))
    kept = bytes(world.disks[one].files[f"own-{attempt.context.hex()}"])
    chains = {peer: chain(one, peer) for peer in world.names}
    answer = second.answer(request, one, identity(one), chains, kept, world.terms.threshold(4))
    assert [len(shares) for shares in unpack(unpack(answer)[3])] == [0, 36, 36, 36]
    assert world.sites[one].answer(ShareRequest.decoded(request)).encoded() == answer


def test_the_terms_are_those_of_the_readme() -> None:
    for n in range(2, 101):
        c, minimum = terms(n)
        first = Terms.of(n, two_sites=n == 2)
        assert (first.colluding, first.minimum) == (c, minimum)
        assert first.threshold(n) == threshold(n, c)
        if n > 2:
            assert Terms.of(n, Adversary.CURIOUS).threshold(n) == threshold(n, c, malicious=False)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 3000), st.sets(st.integers(0, 29)))
def test_long_tensors_are_those_of_the_readme(small: list[int], large: int, chosen: set[int]) -> None:
    """The tensors at these places are buffers, the one of ``large`` numbers is not; every fifth tensor has integers."""
    sizes = {f"t{place:02}": size for place, size in enumerate([*small, large])}
    integers = {name for place, name in enumerate(sizes) if place % 5 == 4}
    buffers = {name for place, name in enumerate(sizes) if place in chosen and place < len(small)}
    schema = TensorSchema.of(
        [
            TensorSpec(name=name, dtype="int64" if name in integers else "float32", shape=(size,))
            for name, size in sizes.items()
        ]
    )
    assert long_tensors(schema, buffers) == long_names(sizes, buffers, integers)


def test_the_code_of_a_roster_is_that_of_the_readme() -> None:
    for n in (3, 4, 5, 6):
        of = World(n).roster
        assert of.code() == roster_code(roster_hash(of.keys))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 100), st.integers(-8, 2), st.integers(0, 2**32), st.integers(1, 10))
def test_the_vector_is_that_of_the_readme(n: int, exponent: int, seed: int, weight: int) -> None:
    """Tensors of all four kinds, out of order, with values beyond, at and within their ranges and their halves."""
    generator = np.random.default_rng(seed)
    sizes = {"a": 3, "z": 2, "w2": 300, "seen": 2, "b1": 2, "mean": 5, "b0": 2, "w1": 101}
    kinds = {name: "int64" if name == "seen" else "float32" for name in sizes}
    schema = TensorSchema.of([TensorSpec(name=name, dtype=kinds[name], shape=(size,)) for name, size in sizes.items()])  # type: ignore[arg-type]
    received = {name: generator.normal(size=size).astype(kinds[name]) for name, size in sizes.items()}
    step = np.array([0, 0.25, 0.5, 1, -0.5, -1, 2, 1e-3, 3e-9, 1 + 2.0**-20])
    trained = {
        name: (one + (generator.choice(step, one.size) * 4.0**exponent).astype("float32")).astype(one.dtype)
        for name, one in received.items()
    }
    for name in ("z", "w1"):
        received[name][:] = 0
        trained[name][:] = (generator.choice(step, sizes[name]) * 2.0**exponent).astype("float32")
    exponents = {name: exponent for name in sizes if name != "seen"}
    order = [spec.name for spec in schema.tensors]
    where = Layout.of(
        schema, exponents, sites=n, buffers=["mean"], counts=["cases", "also"], metrics={"loss": 10, "dice": 3}
    )
    own = Own(weight, 10, {"cases": 7, "also": 5}, {"loss": 123.4567, "dice": 2.25})
    chunks = [words.tobytes() for words in encoded(where, Pair(received, trained), own, 50)]
    models = tuple({name: one[name].tolist() for name in order} for one in (received, trained))
    assert b"".join(chunks) == vector(
        n,
        exponents,
        models,  # type: ignore[arg-type]
        (weight, 10),
        frozenset(["mean"]),
        frozenset(["seen"]),
        [7, 5],
        [(123.4567, 10), (2.25, 3)],
    )


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0, 1e6, width=32),
    st.sampled_from([2.0**-10, 0.001, 1.0]),
    st.booleans(),
    st.lists(st.sampled_from([(0, 0), (0, 0), (0, 0), (0, 1), (1, 1)]), max_size=14),
)
def test_ranges_move_as_the_readme_says(
    magnitude: float, least: float, is_long: bool, rounds: list[tuple[int, int]]
) -> None:
    ranges = {"w": first_range(magnitude, least, Form.LONG if is_long else Form.SHORT)}
    first = first_exponent(magnitude, least, is_long)
    assert exponents(ranges) == {"w": first}
    found = []
    for limited, beyond in rounds:
        ranges = moved(ranges, {"w": limited}, {"w": beyond})
        found.append(exponents(ranges)["w"])
    assert found == exponents_after(first, rounds)
