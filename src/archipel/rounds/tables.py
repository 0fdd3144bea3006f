"""The life of a site in a round, and of an experiment, as tables that a reader can check by eye.

A round has no state machine of its own: it is open while it waits for any of its sites, and its result follows from
the final states of its sites (``verdict``). A deadline is an event that reaches every site, and so is the round's end.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from archipel.vocabulary import Conflict, Thing
from archipel.vocabulary.states import ExperimentState, ParticipantStatus


class ParticipantEvent(StrEnum):
    """What can happen to one site in one round."""

    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    FAILED = "failed"
    LOST = "lost"
    RETURNED = "returned"
    GRACE_OVER = "grace-over"
    DEADLINE = "deadline"
    CLOSED = "closed"


_S, _E = ParticipantStatus, ParticipantEvent
ENDED = frozenset({_S.DELIVERED, _S.FAILED, _S.LATE, _S.MISSING})
"""States that a site does not leave again in this round."""
AWAITED = frozenset({_S.INVITED, _S.WORKING, _S.LOST})
"""States of a site that the round waits for."""

SITE_TABLE: dict[tuple[ParticipantStatus, ParticipantEvent], ParticipantStatus] = {
    (_S.INVITED, _E.ACCEPTED): _S.WORKING,
    (_S.INVITED, _E.DELIVERED): _S.DELIVERED,
    (_S.INVITED, _E.FAILED): _S.FAILED,
    (_S.INVITED, _E.LOST): _S.LOST,
    (_S.INVITED, _E.DEADLINE): _S.LATE,
    (_S.WORKING, _E.DELIVERED): _S.DELIVERED,
    (_S.WORKING, _E.FAILED): _S.FAILED,
    (_S.WORKING, _E.LOST): _S.LOST,
    (_S.WORKING, _E.DEADLINE): _S.LATE,
    (_S.LOST, _E.ACCEPTED): _S.WORKING,
    (_S.LOST, _E.DELIVERED): _S.DELIVERED,
    (_S.LOST, _E.FAILED): _S.FAILED,
    (_S.LOST, _E.RETURNED): _S.INVITED,
    (_S.LOST, _E.GRACE_OVER): _S.AWAY,
    (_S.LOST, _E.DEADLINE): _S.LATE,
    (_S.AWAY, _E.ACCEPTED): _S.RETURNED,
    (_S.AWAY, _E.DELIVERED): _S.DELIVERED,
    (_S.AWAY, _E.FAILED): _S.FAILED,
    (_S.AWAY, _E.RETURNED): _S.RETURNED,
    (_S.AWAY, _E.DEADLINE): _S.MISSING,
    (_S.AWAY, _E.CLOSED): _S.MISSING,
    (_S.RETURNED, _E.DELIVERED): _S.DELIVERED,
    (_S.RETURNED, _E.FAILED): _S.FAILED,
    (_S.RETURNED, _E.LOST): _S.AWAY,
    (_S.RETURNED, _E.DEADLINE): _S.LATE,
    (_S.RETURNED, _E.CLOSED): _S.LATE,
}
"""Every step a site may take in a round; at an event that is not here it stays as it is."""


def next_site_state(state: ParticipantStatus, event: ParticipantEvent) -> ParticipantStatus:
    """The site's state after the event."""
    return SITE_TABLE.get((state, event), state)


class UpdateVerdict(StrEnum):
    """The result of a round."""

    OPEN = "open"
    QUORUM = "quorum"
    NO_QUORUM = "no-quorum"


def verdict(states: Iterable[ParticipantStatus], quorum: int) -> UpdateVerdict:
    """Open while a site is awaited, or one that is not could make up the quorum; then whether ``quorum`` delivered."""
    known = list(states)
    # Asked after every event, of every site: most often one of these is there.
    if any(state in known for state in AWAITED):
        return UpdateVerdict.OPEN
    delivered = known.count(ParticipantStatus.DELIVERED)
    possible = sum(state not in ENDED for state in known)
    if delivered < quorum <= delivered + possible:
        return UpdateVerdict.OPEN
    return UpdateVerdict.QUORUM if delivered >= quorum else UpdateVerdict.NO_QUORUM


class ExperimentVerb(StrEnum):
    """What a person or the loop does to an experiment."""

    START = "start"
    STEP = "step"
    PAUSE = "pause"
    RESUME = "resume"
    FINISH = "finish"
    CANCEL = "cancel"
    STALL = "stall"
    COMPLETE = "complete"


_X, _V = ExperimentState, ExperimentVerb
EXPERIMENT_TABLE: dict[tuple[ExperimentState, ExperimentVerb], ExperimentState] = {
    (_X.WAITING, _V.START): _X.RUNNING,
    (_X.WAITING, _V.STEP): _X.RUNNING,
    (_X.WAITING, _V.CANCEL): _X.CANCELLED,
    (_X.RUNNING, _V.PAUSE): _X.PAUSED,
    (_X.RUNNING, _V.FINISH): _X.RUNNING,
    (_X.RUNNING, _V.CANCEL): _X.CANCELLED,
    (_X.RUNNING, _V.STALL): _X.PAUSED,
    (_X.RUNNING, _V.COMPLETE): _X.FINISHED,
    (_X.PAUSED, _V.STEP): _X.RUNNING,
    (_X.PAUSED, _V.RESUME): _X.RUNNING,
    (_X.PAUSED, _V.START): _X.RUNNING,
    (_X.PAUSED, _V.FINISH): _X.RUNNING,
    (_X.PAUSED, _V.CANCEL): _X.CANCELLED,
    (_X.PAUSED, _V.COMPLETE): _X.FINISHED,
    (_X.PAUSED, _V.STALL): _X.PAUSED,
}
"""Every step an experiment may take; a pair that is not here is refused."""


def next_state(experiment: str, state: ExperimentState, verb: ExperimentVerb) -> ExperimentState:
    """The state after the verb. Raises Conflict that lists what is possible now."""
    if (state, verb) in EXPERIMENT_TABLE:
        return EXPERIMENT_TABLE[state, verb]
    inner = (_V.STALL, _V.COMPLETE)
    possible = [known for at, known in EXPERIMENT_TABLE if at is state and known not in inner]
    remedy = f"possible now: {', '.join(possible)}" if possible else "create a new experiment"
    raise Conflict(
        Thing("experiment", experiment), f"is {state} and cannot {verb}", remedy, values={"state": state, "verb": verb}
    )
