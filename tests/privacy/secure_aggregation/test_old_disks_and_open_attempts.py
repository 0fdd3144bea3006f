"""A malicious server with what is easiest to get: two open attempts, an old disk, and messages of other times."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from secagg_world import JOB, Disk, World, chains, identity, roster

from archipel.privacy.secure_aggregation.aggregator import Aggregator
from archipel.privacy.secure_aggregation.attempts import Attempt
from archipel.privacy.secure_aggregation.dealing import share_hashes
from archipel.privacy.secure_aggregation.masks import Mask, Masks
from archipel.privacy.secure_aggregation.messages import SHARE_HASH_BYTES, Upload, set_statement
from archipel.privacy.secure_aggregation.pairing import Pairing
from archipel.privacy.secure_aggregation.sharing import SHARE_BYTES
from archipel.privacy.secure_aggregation.site import Site
from archipel.vocabulary import Refused

ZERO, ONE = "site-00", "site-01"


def uploaded(world: World, attempt: Attempt) -> Aggregator:
    server = world.aggregator(attempt)
    for name in attempt.members:
        server.receive(world.masked(name, attempt)[1])
    assert server.close()
    return server


def two_completions(world: World, attempt: Attempt) -> tuple[Upload, Upload]:
    """The uploads of site 1, and of the same site from the disk that it had before."""
    old = Disk()
    old.journal, old.files = list(world.disks[ONE].journal), dict(world.disks[ONE].files)
    first = world.masked(ONE, attempt)[1]
    world.disks[ONE] = old
    world.restart(ONE)
    return first, world.masked(ONE, attempt)[1]


def test_two_groups_of_sites_do_not_open_one_attempt_each() -> None:
    """Site 4 colludes. Sites 0 and 1 would open 0 + 1 + 2, sites 2 and 3 then 1 + 2 + 3: 3 minus 0 is left."""
    world = World(5)
    names = world.names
    servers = [
        uploaded(world, world.attempt(0, members=(*names[:3], names[4]))),
        uploaded(world, world.attempt(1, members=names[1:])),
    ]
    for name in names[1:3]:
        with pytest.raises(Refused, match=r"attempt 0 of round 1 .updates.: ended at this site when it completed a"):
            world.sites[name].answer(servers[0].requests()[name])
        with pytest.raises(Refused, match="ended at this site"):
            world.sites[name].sign(servers[0].attempt.context, servers[0].attempt.members[1:])
    assert world.sites[names[2]].answer(servers[1].requests()[names[2]])


def test_shares_that_an_old_disk_deals_again_have_another_key() -> None:
    """With one key and one nonce, the two messages and an answer for the first open the second self seed."""
    world = World(4)
    attempt = world.attempt()
    first, second = two_completions(world, attempt)
    server = world.aggregator(attempt)
    server.receive(first)
    for name in world.names:
        if name != ONE:
            server.receive(world.masked(name, attempt)[1])
    server.close()
    known = world.sites[ZERO].answer(server.requests()[ZERO]).shares[1]
    both = bytes(a ^ b for a, b in zip(first.sealed[0], second.sealed[0], strict=True))[SHARE_BYTES : 2 * SHARE_BYTES]
    guess = bytes(a ^ b for a, b in zip(known, both, strict=True))
    promised = second.share_hashes[SHARE_HASH_BYTES : 2 * SHARE_HASH_BYTES]
    assert share_hashes(attempt.context, ONE, ZERO, [1], guess) != promised


def test_an_old_disk_that_repeats_the_same_steps_is_seen() -> None:
    world = World(4)
    attempt = world.attempt()
    first, second = two_completions(world, attempt)
    assert first.full_set.head.length == second.full_set.head.length
    with pytest.raises(Refused, match="an old disk or backup was put back"):
        world.sites[ONE].compare(first.full_set, attempt, attempt.members)


def test_a_share_request_shows_a_site_that_its_disk_is_old() -> None:
    world = World(4)
    attempt = world.attempt()
    first, second = two_completions(world, attempt)
    server = world.aggregator(attempt)
    server.receive(second)
    for name in world.names:
        if name != ONE:
            server.receive(world.masked(name, attempt)[1])
    server.close()
    request = server.requests()[ONE]
    shown = tuple(first.full_set if one.site == ONE else one for one in request.signatures)
    with pytest.raises(Refused, match="an old disk or backup was put back"):
        world.sites[ONE].answer(replace(request, signatures=shown))
    with pytest.raises(Refused, match="an old disk or backup was put back"):
        world.sites[ONE].answer(request)


def test_a_signature_from_another_job_does_not_make_a_disk_old() -> None:
    """The same people and keys have another experiment, whose journal is longer."""
    world = World(3)
    site = Site(ONE, identity(ONE), "sha256:other", roster(3), world.terms, Disk(), dict(roster(3).keys))
    site.install(chains(ONE, roster(3)))
    other = replace(world.attempt(), job="sha256:other")
    masking = site.begin(other)
    masking.apply(np.zeros(4, "<u4"))
    shown = site.complete(masking).full_set
    assert roster(3).signed(ONE, shown.signature, set_statement(other.context, other.members, shown.head))
    with pytest.raises(Refused, match="is of another job or roster"):
        world.sites[ONE].compare(shown, other, other.members)
    assert world.masked(ONE, world.attempt())


def test_an_experiment_key_that_was_given_up_is_not_taken_again() -> None:
    """The thief of an old disk has its private key; the server shows the public one when all agree anew."""
    given_up = Pairing(ONE, identity(ONE), JOB, roster(3)).key()
    peer = Pairing(ZERO, identity(ZERO), JOB, roster(3), first_round=7)
    with pytest.raises(Refused, match="its experiment key does not have its signature"):
        peer.receive_key(given_up)


def test_destroyed_masks_leave_no_vector_unmasked() -> None:
    masks = Masks([Mask(bytes(32), 1)], bytes(32))
    masks.finish()
    with pytest.raises(RuntimeError, match="were destroyed"):
        masks.apply(np.zeros(4, "<u4"))
