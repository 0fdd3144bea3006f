"""The life of a site in a round, and of an experiment, as tables that a reader can check by eye.

A round has no state machine of its own: it is open while any of its sites may still deliver, and what it comes to
follows from the states its sites ended in (``verdict``). A deadline is an event that reaches every site.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from archipel.vocabulary import Conflict
from archipel.vocabulary.states import ExperimentState, SiteState


class SiteEvent(StrEnum):
    """What can happen to one site in one round."""

    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    FAILED = "failed"
    LOST = "lost"
    RETURNED = "returned"
    GRACE_OVER = "grace-over"
    DEADLINE = "deadline"


_S, _E = SiteState, SiteEvent
ENDED = frozenset({_S.DELIVERED, _S.FAILED, _S.LATE, _S.MISSING})
"""States that a site does not leave again in this round."""

# fmt: off
SITE_TABLE: dict[SiteState, dict[SiteEvent, SiteState]] = {
    # columns: accepted, delivered, failed, lost, returned, grace over, deadline
    _S.INVITED:   {_E.ACCEPTED: _S.WORKING,   _E.DELIVERED: _S.DELIVERED, _E.FAILED: _S.FAILED,    _E.LOST: _S.LOST,      _E.RETURNED: _S.INVITED,   _E.GRACE_OVER: _S.INVITED,   _E.DEADLINE: _S.LATE},  # noqa: E501
    _S.WORKING:   {_E.ACCEPTED: _S.WORKING,   _E.DELIVERED: _S.DELIVERED, _E.FAILED: _S.FAILED,    _E.LOST: _S.LOST,      _E.RETURNED: _S.WORKING,   _E.GRACE_OVER: _S.WORKING,   _E.DEADLINE: _S.LATE},  # noqa: E501
    _S.LOST:      {_E.ACCEPTED: _S.WORKING,   _E.DELIVERED: _S.DELIVERED, _E.FAILED: _S.FAILED,    _E.LOST: _S.LOST,      _E.RETURNED: _S.INVITED,   _E.GRACE_OVER: _S.MISSING,   _E.DEADLINE: _S.LATE},  # noqa: E501
    _S.DELIVERED: {_E.ACCEPTED: _S.DELIVERED, _E.DELIVERED: _S.DELIVERED, _E.FAILED: _S.DELIVERED, _E.LOST: _S.DELIVERED, _E.RETURNED: _S.DELIVERED, _E.GRACE_OVER: _S.DELIVERED, _E.DEADLINE: _S.DELIVERED},  # noqa: E501
    _S.FAILED:    {_E.ACCEPTED: _S.FAILED,    _E.DELIVERED: _S.FAILED,    _E.FAILED: _S.FAILED,    _E.LOST: _S.FAILED,    _E.RETURNED: _S.FAILED,    _E.GRACE_OVER: _S.FAILED,    _E.DEADLINE: _S.FAILED},  # noqa: E501
    _S.LATE:      {_E.ACCEPTED: _S.LATE,      _E.DELIVERED: _S.LATE,      _E.FAILED: _S.LATE,      _E.LOST: _S.LATE,      _E.RETURNED: _S.LATE,      _E.GRACE_OVER: _S.LATE,      _E.DEADLINE: _S.LATE},  # noqa: E501
    _S.MISSING:   {_E.ACCEPTED: _S.MISSING,   _E.DELIVERED: _S.MISSING,   _E.FAILED: _S.MISSING,   _E.LOST: _S.MISSING,   _E.RETURNED: _S.MISSING,   _E.GRACE_OVER: _S.MISSING,   _E.DEADLINE: _S.MISSING},  # noqa: E501
}
# fmt: on


class Verdict(StrEnum):
    """What a round has come to."""

    OPEN = "open"
    QUORUM = "quorum"
    NO_QUORUM = "no-quorum"


def verdict(states: Iterable[SiteState], quorum: int) -> Verdict:
    """Open while a site may still deliver; then whether at least ``quorum`` of them did."""
    known = list(states)
    if any(state not in ENDED for state in known):
        return Verdict.OPEN
    return Verdict.QUORUM if known.count(SiteState.DELIVERED) >= quorum else Verdict.NO_QUORUM


class ExperimentVerb(StrEnum):
    """What a person or the loop does to an experiment."""

    START = "start"
    STEP = "step"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    STALL = "stall"
    FINISH = "finish"


_X, _V = ExperimentState, ExperimentVerb
EXPERIMENT_TABLE: dict[tuple[ExperimentState, ExperimentVerb], ExperimentState] = {
    (_X.WAITING, _V.START): _X.RUNNING,
    (_X.WAITING, _V.STEP): _X.RUNNING,
    (_X.WAITING, _V.CANCEL): _X.CANCELLED,
    (_X.RUNNING, _V.PAUSE): _X.PAUSED,
    (_X.RUNNING, _V.CANCEL): _X.CANCELLED,
    (_X.RUNNING, _V.STALL): _X.PAUSED,
    (_X.RUNNING, _V.FINISH): _X.FINISHED,
    (_X.PAUSED, _V.STEP): _X.RUNNING,
    (_X.PAUSED, _V.RESUME): _X.RUNNING,
    (_X.PAUSED, _V.START): _X.RUNNING,
    (_X.PAUSED, _V.CANCEL): _X.CANCELLED,
    (_X.PAUSED, _V.FINISH): _X.FINISHED,
    (_X.PAUSED, _V.STALL): _X.PAUSED,
}
"""Every step an experiment may take; a pair that is not here is refused."""


def next_state(experiment: str, state: ExperimentState, verb: ExperimentVerb) -> ExperimentState:
    """The state after the verb. Raises Conflict that lists what is possible now."""
    if (state, verb) in EXPERIMENT_TABLE:
        return EXPERIMENT_TABLE[state, verb]
    inner = (_V.STALL, _V.FINISH)
    possible = [known for at, known in EXPERIMENT_TABLE if at is state and known not in inner]
    remedy = f"possible now: {', '.join(possible)}" if possible else "create a new experiment"
    raise Conflict(f"experiment {experiment}", f"is {state} and cannot {verb}", remedy)
