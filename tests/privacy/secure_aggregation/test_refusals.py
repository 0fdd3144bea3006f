"""What is wrong gets one clear error that names who sent it; and nothing is released by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from secagg_world import BEFORE_SIGNATURE, BEFORE_UPLOAD, JOB, Disk, World, chains, identity, unmasked

from archipel.privacy.secure_aggregation.aggregator import Aggregator
from archipel.privacy.secure_aggregation.attempts import Attempt, Stage
from archipel.privacy.secure_aggregation.journal import Head
from archipel.privacy.secure_aggregation.messages import (
    SetSignature,
    ShareAnswer,
    ShareRequest,
    Upload,
    set_statement,
)
from archipel.privacy.secure_aggregation.packing import packed
from archipel.privacy.secure_aggregation.site import Site
from archipel.vocabulary import ArchipelError, BadInput, Conflict, Refused

ONE, TWO = "site-01", "site-02"


def opened(n: int = 5, missing: int = 0) -> tuple[World, Attempt, Aggregator, dict[str, bytes]]:
    """An attempt whose set is closed and signed; the last ``missing`` sites never uploaded."""
    world = World(n)
    attempt = world.attempt()
    server, vectors = world.aggregator(attempt), {}
    for name in world.names[: n - missing]:
        vectors[name], upload = world.masked(name, attempt)
        server.receive(upload)
    if not server.close():
        for name in server.members or ():
            server.receive_signature(world.sites[name].sign(attempt.context, server.members or ()))
    return world, attempt, server, vectors


def signed_again(upload: Upload) -> Upload:
    return replace(upload, signature=identity(upload.site).sign(upload.statement()))


def flipped(body: bytes, place: int = 5) -> bytes:
    return body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: replace(one, vector="blake3:other"), "site site-01: its upload does not have its signature"),
        (lambda one: replace(one, signature=bytes(64)), "site site-01: its upload does not have its signature"),
        (lambda one: replace(one, share_hashes=flipped(one.share_hashes)), "does not have its signature"),
        (lambda one: replace(one, sealed=one.sealed[::-1]), "does not have its signature"),
        (
            lambda one: signed_again(replace(one, sealed=one.sealed[1:])),
            "site site-01: sent a vector, hashes or sealed",
        ),
        (lambda one: signed_again(replace(one, nbytes=7)), "site site-01: sent a vector, hashes or sealed"),
        (lambda one: signed_again(replace(one, seed_hashes=b"")), "site site-01: sent a vector, hashes or sealed"),
        (lambda one: replace(one, context=bytes(32)), "site site-01: sent a message of another attempt"),
        (lambda one: replace(one, site="site-02"), "site site-02: its upload does not have its signature"),
        (lambda one: replace(one, site="nobody"), "site nobody: sent a message of another attempt"),
        (
            lambda one: signed_again(replace(one, full_set=replace(one.full_set, signature=bytes(64)))),
            "site site-01: its signature on the set does not have",
        ),
    ],
)
def test_an_upload_that_is_not_as_its_site_made_it(change: Callable[[Upload], Upload], said: str) -> None:
    world = World(4)
    attempt = world.attempt()
    _, upload = world.masked(ONE, attempt)
    server = world.aggregator(attempt)
    with pytest.raises(ArchipelError, match=said):
        server.receive(change(upload))
    assert not server.uploads
    server.receive(upload)


def test_a_site_that_sends_twice() -> None:
    world, _, server, _ = opened()
    upload = server.uploads[ONE]
    server.receive(upload)
    with pytest.raises(Conflict, match="site site-01: sent two different uploads"):
        server.receive(signed_again(replace(upload, vector="blake3:other")))
    answer = world.sites[ONE].answer(server.requests()[ONE])
    server.receive_answer(answer)
    server.receive_answer(answer)
    with pytest.raises(Conflict, match="site site-01: sent two different share answers"):
        server.receive_answer(replace(answer, shares=answer.shares[::-1]))


def test_a_late_upload_is_not_counted() -> None:
    world = World(5)
    attempt = world.attempt()
    server = world.aggregator(attempt)
    uploads = {name: world.masked(name, attempt)[1] for name in world.names}
    for name in world.names[1:]:
        server.receive(uploads[name])
    server.close()
    with pytest.raises(Refused, match="site site-00: sent its upload after the set was closed") as error:
        server.receive(uploads["site-00"])
    assert error.value.code == "round-closed"


@pytest.mark.parametrize("body", [b"", b"\x00", b"\xff" * 50, bytes(100)])
@pytest.mark.parametrize("kind", [Upload, SetSignature, ShareRequest, ShareAnswer])
def test_bytes_that_are_not_a_message(kind: type[Upload], body: bytes) -> None:
    with pytest.raises(BadInput, match="send it again"):
        kind.decoded(body)


def test_numbers_and_hashes_of_a_wrong_length() -> None:
    """Numbers that are longer than the protocol's would not fit what is signed."""
    for length, digest in ((bytes([255] * 12), bytes(32)), (bytes(7), bytes(32)), (bytes(8), bytes(31))):
        with pytest.raises(BadInput, match="a signature of a set: has a number or a hash of a wrong length"):
            SetSignature.decoded(packed(ONE, length, digest, bytes(64)))
    full_set = packed(ONE, 1, bytes(32), bytes(64))
    with pytest.raises(BadInput, match="an upload: has a number or a hash of a wrong length"):
        Upload.decoded(packed(ONE, bytes(32), "blake3:", bytes([1] * 9), b"", b"", b"", full_set, b""))


def test_a_message_that_is_cut_off_anywhere() -> None:
    world, _, server, _ = opened(3)
    bodies = {Upload: server.uploads[ONE].encoded(), ShareRequest: server.requests()[ONE].encoded()}
    bodies[ShareAnswer] = world.sites[ONE].answer(server.requests()[ONE]).encoded()
    for kind, body in bodies.items():
        assert kind.decoded(body).encoded() == body
        for end in range(0, len(body), 7):
            with pytest.raises(BadInput, match="send it again"):
                kind.decoded(body[:end])


@pytest.mark.parametrize("missing", [0, 1])
def test_a_wrong_share_names_the_site_that_sent_it_and_the_others_suffice(missing: int) -> None:
    world, _, server, vectors = opened(5, missing)
    for name, request in server.requests().items():
        answer = world.sites[name].answer(request)
        if name == ONE:
            for shares in (
                (flipped(answer.shares[0]), *answer.shares[1:]),
                answer.shares[::-1],
                (answer.shares[0][:-4], *answer.shares[1:]),
            ):
                wrong = replace(answer, shares=shares)
                wrong = replace(wrong, signature=identity(ONE).sign(wrong.statement()))
                with pytest.raises(ArchipelError, match="site site-01: sent a share that is not") as error:
                    server.receive_answer(wrong)
                assert error.value.code == "bad-update"
            with pytest.raises(Refused, match="site site-01: its share answer does not have its signature"):
                server.receive_answer(replace(answer, shares=answer.shares[::-1]))
            continue
        server.receive_answer(answer)
    # Four of five, all others that are there: the threshold is 4.
    assert server.enough == (missing == 0)
    if missing:
        with pytest.raises(Refused, match="has shares of 3 sites for site site-00, and 4 are needed"):
            server.unmasking()
    else:
        assert unmasked(server, vectors) == world.plain_sum(world.names)


def test_a_dealer_whose_sealed_shares_do_not_open_is_named() -> None:
    world, attempt, server, _ = opened(5)
    upload = server.uploads[TWO]
    server.uploads[TWO] = replace(upload, sealed=tuple(flipped(one) for one in upload.sealed))
    for name, request in server.requests().items():
        answer = world.sites[name].answer(request)
        assert [bool(one) for one in answer.shares] == [dealer != TWO or name == TWO for dealer in attempt.members]
        server.receive_answer(answer)
    assert not server.enough
    with pytest.raises(Refused, match=r"site site-02, and 4 are needed; .* leave that site out"):
        server.unmasking()


def test_a_dealer_whose_shares_open_another_seed_is_named() -> None:
    world, _, server, _ = opened(5)
    upload = server.uploads[TWO]
    server.uploads[TWO] = replace(upload, seed_hashes=bytes(len(upload.seed_hashes)))
    for name, request in server.requests().items():
        server.receive_answer(world.sites[name].answer(request))
    with pytest.raises(ArchipelError, match="site site-02: dealt shares that do not open the seed"):
        server.unmasking()


def test_a_site_answers_only_for_a_set_that_enough_sites_signed() -> None:
    world, attempt, server, _ = opened(5, missing=1)
    request = server.requests()[ONE]
    site = world.sites[ONE]
    assert len(request.signatures) == 4
    forged = replace(request.signatures[0], signature=bytes(64))
    other_head = replace(request.signatures[0], head=Head(9, bytes(32)))
    for signatures in (
        request.signatures[1:],
        (forged, *request.signatures[1:]),
        (other_head, *request.signatures[1:]),
        (request.signatures[1], *request.signatures[1:]),
        tuple(one.full_set for one in server.uploads.values()),
    ):
        with pytest.raises(Refused, match=r"right signatures for its set.* 4 are needed"):
            site.answer(replace(request, signatures=signatures))
    with pytest.raises(Refused, match="a set of 3 sites, and a sum is over 4 or more"):
        site.answer(replace(request, members=request.members[1:]))
    with pytest.raises(Refused, match="not of its members, in order"):
        site.answer(replace(request, members=request.members[::-1]))
    with pytest.raises(Refused, match="was not completed at this site"):
        site.answer(replace(request, context=bytes(32)))
    with pytest.raises(Refused, match="has a set without site site-04"):
        world.masked("site-04", attempt)
        world.sites["site-04"].answer(request)
    assert world.sites[ONE].answer(request)


def test_a_site_signs_one_smaller_set_and_answers_for_one_set_in_an_attempt() -> None:
    """The attack on one site: shares for the set with it and for a set without it."""
    world = World(6)
    attempt = world.attempt()
    server = world.aggregator(attempt)
    uploads = {name: world.masked(name, attempt)[1] for name in world.names}
    for upload in uploads.values():
        server.receive(upload)
    site, without = world.sites[ONE], world.names[:-1]
    signature = site.sign(attempt.context, without)
    assert site.sign(attempt.context, without) == signature
    with pytest.raises(Refused, match="has a signature on another smaller set"):
        site.sign(attempt.context, world.names[1:])
    with pytest.raises(Refused, match="signature on the full set in the upload"):
        site.sign(attempt.context, world.names)
    server.close()
    answer = site.answer(server.requests()[ONE])
    assert world.restart(ONE).answer(server.requests()[ONE]) == answer
    smaller = world.aggregator(attempt)
    for name in without:
        smaller.receive(uploads[name])
    smaller.close()
    for name in without:
        smaller.receive_signature(world.sites[name].sign(attempt.context, without))
    with pytest.raises(Refused, match="was answered for another set"):
        site.answer(smaller.requests()[ONE])
    with pytest.raises(Refused, match="was answered for another set"):
        world.sites[TWO].answer(server.requests()[TWO])
        world.sites[TWO].sign(attempt.context, without)
        world.sites[TWO].answer(smaller.requests()[TWO])


def test_one_model_gives_one_sum() -> None:
    world = World(5)
    members, _ = world.play(world.attempt(), {"site-04": BEFORE_UPLOAD})
    with pytest.raises(Refused, match=r"over another set than the sum given from the same model \(differ: site-04\)"):
        world.sites[ONE].begin(world.attempt(1))
    with pytest.raises(Refused, match="another set"):
        world.sites[ONE].begin(world.attempt(1, round=2))
    again = world.attempt(1, members=members)
    assert world.play(again) == (members, world.plain_sum(members))
    changed = world.sites[ONE].begin(world.attempt(2, members=members))
    changed.apply(np.zeros(4, "<u4"))
    changed.apply(np.zeros(4, "<u8"))
    with pytest.raises(Refused, match="has another vector than the one whose sum was given"):
        world.sites[ONE].complete(changed)
    world.play(world.attempt(3, stage=Stage.METRICS))


def test_two_attempts_that_were_open_at_once_give_one_sum() -> None:
    """Both were completed before any share was released, with different vectors from one model."""
    world = World(4)
    servers = []
    for attempt in (world.attempt(), world.attempt(1, arguments="sha256:other")):
        server = world.aggregator(attempt)
        for name in world.names:
            masking = world.sites[name].begin(attempt)
            masking.apply(np.zeros(4, "<u4") + np.uint32(attempt.attempt))
            masking.apply(np.zeros(4, "<u8"))
            server.receive(world.sites[name].complete(masking))
        server.close()
        servers.append(server)
    with pytest.raises(Refused, match=r"attempt 0 of round 1 .updates.: ended at this site"):
        world.sites[ONE].answer(servers[0].requests()[ONE])
    assert world.sites[ONE].answer(servers[1].requests()[ONE])
    assert world.sites[TWO].answer(servers[1].requests()[TWO])


def test_an_attempt_after_a_sum_closes_over_no_smaller_set() -> None:
    world = World(5)
    world.play(world.attempt())
    again = world.attempt(1)
    for name in world.names:
        world.masked(name, again)
    with pytest.raises(Refused, match="must be over the set of the sum given before"):
        world.sites[ONE].sign(again.context, world.names[:-1])


@pytest.mark.parametrize(
    "other",
    [{"model": "blake3:x"}, {"arguments": "sha256:x"}, {"members": tuple(f"site-{n:02}" for n in range(4))}],
)
def test_a_site_that_was_given_another_story_masks_what_never_cancels(other: dict[str, object]) -> None:
    world = World(5)
    attempt, story = world.attempt(), world.attempt(**other)
    server, vectors = world.aggregator(attempt), {}
    for name in world.names[1:]:
        vectors[name], upload = world.masked(name, attempt)
        server.receive(upload)
    vectors["site-00"], upload = world.masked("site-00", story)
    with pytest.raises(Refused, match="site site-00: sent a message of another attempt"):
        server.receive(upload)
    assert server.close() is False
    with pytest.raises(Refused, match="was not completed at this site"):
        world.sites["site-00"].sign(attempt.context, server.members or ())


def test_a_number_of_an_attempt_is_used_once() -> None:
    world = World(4)
    world.masked(ONE, world.attempt())
    with pytest.raises(Conflict, match="was begun here with other content"):
        world.sites[ONE].begin(world.attempt(model="blake3:other"))
    with pytest.raises(Refused, match="was begun here already") as error:
        world.sites[ONE].begin(world.attempt())
    assert error.value.code == "replayed"
    assert world.sites[ONE].resume(world.attempt()) == world.restart(ONE).resume(world.attempt())
    world.sites[ONE].begin(world.attempt(round=5, model="blake3:other"))
    with pytest.raises(Refused, match="is closed here") as error:
        world.sites[ONE].begin(world.attempt(1, round=4))
    assert error.value.code == "round-closed"
    with pytest.raises(BadInput, match="far behind"):
        world.sites[ONE].begin(world.attempt(1, round=10**9))
    assert world.restart(ONE).begin(world.attempt(1, round=5, model="blake3:other"))


def site_of(world: World, **other: object) -> Site:
    given: dict[str, object] = {
        "name": ONE, "identity": identity(ONE), "job": JOB, "roster": world.roster, "terms": world.terms,
        "records": Disk(), "confirmed": dict(world.roster.keys),
    }  # fmt: skip
    return Site(**{**given, **other})  # type: ignore[arg-type]


def test_a_key_that_no_person_confirmed() -> None:
    world = World(4)
    confirmed = dict(world.roster.keys)
    changed = {**confirmed, TWO: bytes(32)}
    del confirmed[TWO]
    for keys in (confirmed, changed):
        site = site_of(world, confirmed=keys)
        site.install(chains(ONE, world.roster))
        with pytest.raises(Refused, match="site site-02: has an identity key that no person here confirmed") as error:
            site.begin(world.attempt())
        assert error.value.code == "trust" and len(site.journal.head.digest) == 32
        without = tuple(name for name in world.names if name != TWO)
        site.begin(world.attempt(members=without))


def test_a_site_refuses_what_is_not_its_job() -> None:
    world = World(4)
    with pytest.raises(Refused, match="has another identity key than the roster"):
        site_of(world, identity=Ed25519PrivateKey.generate())
    with pytest.raises(Refused, match="are not for this roster"):
        site_of(world, terms=World(5).terms)
    with pytest.raises(BadInput, match="is not in the roster"):
        site_of(world, name="nobody")
    site = site_of(world)
    with pytest.raises(Refused, match="has agreed no secrets"):
        site.begin(world.attempt())
    site.install(chains(ONE, world.roster))
    with pytest.raises(Refused, match="of another job or roster"):
        site.begin(replace(world.attempt(), job="sha256:other"))
    with pytest.raises(Refused, match="does not have this site in its set"):
        site.begin(world.attempt(members=tuple(name for name in world.names if name != ONE)))
    with pytest.raises(Refused, match="an attempt over 2 sites: needs 3 sites"):
        site.begin(world.attempt(members=world.names[:2]))


def test_a_journal_that_was_altered() -> None:
    world = World(4)
    world.play(world.attempt())
    journal = world.disks[ONE].journal
    for changed in (
        [journal[0], *journal[2:]],
        [*journal[:2], journal[2].replace(b'"round":1', b'"round":2'), *journal[3:]],
        [b"{}", *journal[1:]],
        [b"\xff", *journal[1:]],
        journal[::-1],
    ):
        disk = Disk()
        disk.journal = changed
        with pytest.raises(Refused, match=r"entry [1-4] of the journal .* was altered, or one before it was") as error:
            site_of(world, records=disk)
        assert error.value.code == "trust"


def test_an_old_disk_that_came_back_joins_nothing_until_it_has_new_keys() -> None:
    world = World(5)
    old = Disk()
    old.journal, old.files = list(world.disks[ONE].journal), dict(world.disks[ONE].files)
    attempt = world.attempt()
    _, upload = world.masked(ONE, attempt)
    shown = (upload.full_set, attempt, attempt.members)
    world.sites[ONE].compare(*shown)

    site = site_of(world, records=old)
    for again in (site, site_of(world, records=old)):
        with pytest.raises(Refused, match="does not have entry 3, which it signed: an old disk or backup"):
            again.compare(*shown)
        with pytest.raises(Refused, match="old disk"):
            again.begin(attempt)
    changed = Disk()
    changed.journal, changed.files = list(world.disks[ONE].journal), dict(world.disks[ONE].files)
    changed.journal[2:] = [changed.journal[2].replace(b'"attempt":0', b'"attempt":7')]
    with pytest.raises(Refused, match="does not have entry 3"):
        site_of(world, records=changed).compare(*shown)
    forged = replace(upload.full_set, head=Head(99, bytes(32)))
    with pytest.raises(Refused, match="does not have its signature"):
        world.sites[ONE].compare(forged, attempt, attempt.members)
    again.install(chains(ONE, world.roster))
    assert again.begin(world.attempt(1))


def test_a_masked_vector_of_a_site_that_others_left_stays_masked() -> None:
    """The site uploaded late: its pair masks are opened, its own mask is not."""
    world, attempt, server, vectors = opened(5, missing=1)
    late, _ = world.masked("site-04", attempt)
    for name, request in server.requests().items():
        server.receive_answer(world.sites[name].answer(request))
    assert unmasked(server, vectors) == world.plain_sum(server.members or ())
    pairs = world.sites["site-04"]
    assert pairs.resume(attempt).site == "site-04"
    with pytest.raises(Refused, match="has a set without site"):
        pairs.sign(attempt.context, server.members or ())
    assert late != b"".join(part.tobytes() for part in world.vector("site-04"))


def test_masked_vectors_look_uniform_also_across_attempts() -> None:
    """The same numbers, masked in many attempts: every byte takes every value about as often."""
    world = World(3)
    bodies = []
    for number in range(400):
        masking = world.sites[ONE].begin(world.attempt(number))
        words = np.zeros(16, "<u4")
        masking.apply(words)
        masking.destroy()
        bodies.append(words.tobytes())
    counted = np.bincount(np.frombuffer(b"".join(bodies), np.uint8), minlength=256)
    expected = 400 * 64 / 256
    chi = float(((counted - expected) ** 2 / expected).sum())
    # 255 degrees of freedom: mean 255, standard deviation 22.6; six of them.
    assert chi < 255 + 6 * 22.6 and len(set(bodies)) == 400


def test_signatures_cover_the_journal_head_and_the_set() -> None:
    one = set_statement(b"c", ("a", "b"), Head(1, bytes(32)))
    others = (("a",), Head(1, bytes(32))), (("a", "b"), Head(2, bytes(32))), (("ab",), Head(1, bytes(32)))
    assert all(set_statement(b"c", members, head) != one for members, head in others)


def test_a_dropout_at_the_signature_is_within_the_set_all_the_same() -> None:
    world = World(5)
    stops = {"site-04": BEFORE_UPLOAD}
    assert world.play(world.attempt(), stops)[0] == world.names[:4]
    with pytest.raises(Refused, match=r"has 3 signatures on its set, and 4 are needed .missing: site-03"):
        world.play(world.attempt(1, members=world.names, model="blake3:x"), {**stops, "site-03": BEFORE_SIGNATURE})
