"""The unmasked sum is the plain sum of the vectors, bit for bit, whoever stops and whenever; or the reason is said."""

from __future__ import annotations

from itertools import combinations_with_replacement
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from secagg_world import BEFORE_ANSWER, BEFORE_SIGNATURE, BEFORE_UPLOAD, NEVER, World

from archipel.privacy.secure_aggregation.terms import MOST_SITES, Adversary, Terms
from archipel.vocabulary import BadInput, Refused


def check(n: int, stops: dict[str, int], terms: Terms | None = None) -> None:
    """The outcome of an attempt is the one that the numbers of sites at each step allow."""
    world = World(n, terms)
    threshold, quorum = world.terms.threshold(n), world.terms.quorum(n)
    uploaded = tuple(name for name in world.names if stops[name] > BEFORE_UPLOAD)
    signed = sum(stop > BEFORE_SIGNATURE for stop in stops.values()) if len(uploaded) < n else n
    answered = sum(stop > BEFORE_ANSWER for stop in stops.values())
    if len(uploaded) < quorum or signed < threshold or answered < threshold:
        with pytest.raises(Refused, match=r"uploads of|signatures on its set|shares of"):
            world.play(world.attempt(), stops)
        return
    members, total = world.play(world.attempt(), stops)
    assert members == uploaded and total == world.plain_sum(uploaded)


MALICIOUS, CURIOUS = Adversary.MALICIOUS, Adversary.CURIOUS


@pytest.mark.parametrize("case", [(3, MALICIOUS), (4, MALICIOUS), (5, MALICIOUS), (6, MALICIOUS), (4, CURIOUS)])
def test_every_way_to_stop_up_to_renaming(case: tuple[int, Adversary]) -> None:
    n, adversary = case
    for pattern in combinations_with_replacement(range(NEVER + 1), n):
        order = list(pattern)
        # Which site it is decides the signs of masks: each pattern is tried in one drawn order.
        Random(str(pattern)).shuffle(order)
        names = World(n).names
        check(n, dict(zip(names, order, strict=True)), Terms.of(n, adversary))


@settings(max_examples=6, deadline=None)
@given(st.integers(7, 40), st.data())
def test_random_stops_of_many_sites(n: int, data: st.DataObject) -> None:
    stopped = data.draw(st.lists(st.integers(0, n - 1), max_size=n // 3, unique=True))
    world = World(n)
    stops = {world.names[index]: data.draw(st.integers(0, NEVER - 1)) for index in stopped}
    check(n, dict.fromkeys(world.names, NEVER) | stops)


def test_two_sites_by_name_only() -> None:
    with pytest.raises(BadInput, match="2 sites are too few"):
        Terms.of(2)
    check(2, {"site-00": NEVER, "site-01": NEVER}, Terms.of(2, two_sites=True))
    check(2, {"site-00": NEVER, "site-01": BEFORE_UPLOAD}, Terms.of(2, two_sites=True))


def test_an_attempt_over_a_part_of_the_roster_and_rounds_that_follow() -> None:
    world = World(6)
    part = world.names[1:]
    assert world.play(world.attempt(members=part))[1] == world.plain_sum(part)
    later = world.attempt(round=4, model="blake3:next")
    assert world.play(later) == (world.names, world.plain_sum(world.names))


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"sites": MOST_SITES + 1}, "101 sites are more than 100"),
        ({"sites": 5, "minimum": 2}, "minimum of 2 leaves fewer than two honest"),
        ({"sites": 5, "minimum": 6}, "more than the 5 sites"),
        ({"sites": 5, "colluding": 0}, "at least one site must be expected"),
        ({"sites": 5, "colluding": 4}, "more than the 5 sites"),
        ({"sites": 3, "two_sites": True}, "exactly two sites"),
    ],
)
def test_terms_that_protect_nobody_are_refused(numbers: dict[str, int], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Terms.of(**numbers)  # type: ignore[arg-type]


def test_no_two_sets_can_both_be_opened() -> None:
    all_terms = [Terms.of(n) for n in range(3, MOST_SITES + 1)]
    for terms, m in [(one, m) for one in all_terms for m in range(one.minimum, one.sites + 1)]:
        t = (m + terms.colluding) // 2 + 1
        if t > m:
            with pytest.raises(Refused, match=r"when .* may collude"):
                terms.threshold(m)
        else:
            assert terms.threshold(m) == t <= m and 2 * t > m + terms.colluding and terms.quorum(m) >= t
