"""Every cell of both tables, spelled out once more by rule instead of by column."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.rounds import (
    EXPERIMENT_TABLE,
    ExperimentState,
    ExperimentVerb,
    ParticipantEvent,
    ParticipantStatus,
    UpdateVerdict,
    verdict,
)
from archipel.rounds.tables import ENDED, next_site_state, next_state
from archipel.vocabulary import Conflict

S, E = ParticipantStatus, ParticipantEvent
AFTER = {
    E.ACCEPTED: S.WORKING,
    E.DELIVERED: S.DELIVERED,
    E.FAILED: S.FAILED,
    E.LOST: S.LOST,
    E.DEADLINE: S.LATE,
}


def expected(state: ParticipantStatus, event: ParticipantEvent) -> ParticipantStatus:
    if state in ENDED:
        return state
    if event is E.RETURNED:
        return {S.LOST: S.INVITED, S.AWAY: S.RETURNED}.get(state, state)
    if event is E.GRACE_OVER:
        return S.AWAY if state is S.LOST else state
    if state in (S.AWAY, S.RETURNED):
        unawaited = {E.ACCEPTED: S.RETURNED, E.LOST: S.AWAY}
        ends = S.MISSING if state is S.AWAY else S.LATE
        return unawaited.get(event) or (ends if event in (E.DEADLINE, E.CLOSED) else AFTER[event])
    return state if event is E.CLOSED else AFTER[event]


@pytest.mark.parametrize(("state", "event"), list(itertools.product(ParticipantStatus, ParticipantEvent)))
def test_a_site_goes_where_the_table_says(state: ParticipantStatus, event: ParticipantEvent) -> None:
    assert next_site_state(state, event) is expected(state, event)


X, V = ExperimentState, ExperimentVerb
ALLOWED = {
    X.WAITING: {V.START: X.RUNNING, V.STEP: X.RUNNING, V.CANCEL: X.CANCELLED},
    X.RUNNING: {
        V.PAUSE: X.PAUSED,
        V.FINISH: X.RUNNING,
        V.CANCEL: X.CANCELLED,
        V.STALL: X.PAUSED,
        V.COMPLETE: X.FINISHED,
    },
    X.PAUSED: {
        V.START: X.RUNNING,
        V.STEP: X.RUNNING,
        V.RESUME: X.RUNNING,
        V.CANCEL: X.CANCELLED,
        V.FINISH: X.RUNNING,
        V.COMPLETE: X.FINISHED,
        V.STALL: X.PAUSED,
    },
    X.FINISHED: {},
    X.CANCELLED: {},
}


@pytest.mark.parametrize(("state", "verb"), list(itertools.product(ExperimentState, ExperimentVerb)))
def test_an_experiment_goes_where_the_table_says(state: ExperimentState, verb: ExperimentVerb) -> None:
    wanted = ALLOWED[state].get(verb)
    assert EXPERIMENT_TABLE.get((state, verb)) is wanted
    if wanted is not None:
        assert next_state("e", state, verb) is wanted
        return
    with pytest.raises(Conflict, match=f"experiment e: is {state} and cannot {verb}; .*") as caught:
        next_state("e", state, verb)
    assert "stall" not in caught.value.remedy and "complete" not in caught.value.remedy


states = st.lists(st.sampled_from(ParticipantStatus), min_size=1, max_size=8)


@given(states, st.integers(1, 8))
def test_a_round_is_open_exactly_while_it_waits_or_its_quorum_can_still_come(
    found: list[ParticipantStatus], quorum: int
) -> None:
    unawaited = sum(state in (S.AWAY, S.RETURNED) for state in found)
    open_ = any(state in (S.INVITED, S.WORKING, S.LOST) for state in found)
    open_ = open_ or quorum - unawaited <= found.count(S.DELIVERED) < quorum
    assert (verdict(found, quorum) is UpdateVerdict.OPEN) == open_


@given(states, st.integers(1, 8), st.randoms())
def test_a_verdict_depends_on_neither_order_nor_who(found: list[ParticipantStatus], quorum: int, random) -> None:  # type: ignore[no-untyped-def]
    mixed = list(found)
    random.shuffle(mixed)
    assert verdict(mixed, quorum) is verdict(found, quorum)


@given(st.lists(st.sampled_from(sorted(ENDED)), min_size=1, max_size=8), st.integers(1, 8))
def test_a_round_of_ended_sites_counts_only_what_was_delivered(found: list[ParticipantStatus], quorum: int) -> None:
    enough = sum(state is S.DELIVERED for state in found) >= quorum
    assert verdict(found, quorum) is (UpdateVerdict.QUORUM if enough else UpdateVerdict.NO_QUORUM)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(ParticipantEvent)), max_size=40))
def test_the_deadline_ends_every_round(events: list[tuple[int, ParticipantEvent]]) -> None:
    found = [S.INVITED] * 4
    for site, event in events:
        found[site] = next_site_state(found[site], event)
    assert verdict([next_site_state(state, E.DEADLINE) for state in found], 1) is not UpdateVerdict.OPEN
