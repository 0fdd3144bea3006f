"""What happens in an experiment, as researchers watch it: numbered events, each kind with a body of its own.

A new kind is a new body here: it names its kind, and ``Event`` reads it by that.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, TypedDict

from pydantic import ConfigDict, model_validator

from archipel.transport.rest.reply import Reply
from archipel.vocabulary import Failure, Hash, TaskKey, TaskKind, Value
from archipel.vocabulary.states import ApprovalState, ExperimentState, ParticipantStatus, RoundState


class EventKind(StrEnum):
    """The kinds of events."""

    SUBMITTED = "submitted"
    APPROVAL = "approval"
    STATE = "state"
    ENDING = "ending"
    ARGUMENTS = "arguments"
    INTERRUPTED = "interrupted"
    ROUND_OPENED = "round-opened"
    SITES_AWAITED = "sites-awaited"
    TASK_ACCEPTED = "task-accepted"
    UPDATE_RECEIVED = "update-received"
    SITE_FAILED = "site-failed"
    ROUND_COMMITTED = "round-committed"
    ROUND_FAILED = "round-failed"
    ERROR_RELEASED = "error-released"


class EventBody(Reply):
    """The body of an event; ``event`` is its kind."""

    event: ClassVar[EventKind]


class Submitted(EventBody):
    """A job was submitted."""

    event = EventKind.SUBMITTED
    job_hash: Hash


class AnswerReceived(EventBody):
    """A site approved, rejected or revoked its approval."""

    event = EventKind.APPROVAL
    experiment: str
    site: str
    state: ApprovalState
    job_hash: Hash


class StateChanged(EventBody):
    """The experiment has another state."""

    event = EventKind.STATE
    state: ExperimentState
    reason: str | None = None


class Ending(EventBody):
    """No further round begins, and why: what follows the last round comes next."""

    event = EventKind.ENDING
    reason: str


class ArgumentsChanged(EventBody):
    """Hyper-parameters have other values from the next round on."""

    event = EventKind.ARGUMENTS
    arguments: dict[str, Value]


class Interrupted(EventBody):
    """The server cannot continue now and tries again."""

    event = EventKind.INTERRUPTED
    reason: str


class SitesAwaited(EventBody):
    """Which sites are not connected: those that the experiment waits for, until when (ISO, UTC), and those it does not.

    Both empty when every site is connected again, or nothing waits for one.
    """

    event = EventKind.SITES_AWAITED
    until: dict[str, str] = {}
    away: tuple[str, ...] = ()


class StageEvent(EventBody):
    """Something of one attempt at one exchange with the sites; the fields are those of its ``TaskKey``."""

    experiment: str = ""
    round: int
    kind: TaskKind
    about: str = ""
    attempt: int = 1

    @property
    def stage(self) -> str:
        """The kind of the exchange and whose model it is about."""
        return f"{self.kind} {self.about}".rstrip()


class SiteEvent(StageEvent):
    """Something of one site's part of an exchange."""

    site: str

    @property
    def task(self) -> tuple[str, int, int, TaskKind, str]:
        """The fields that identify a site's task."""
        return self.site, self.round, self.attempt, self.kind, self.about


class RoundOpened(StageEvent):
    """An exchange began: from which model, with which hyper-parameters."""

    event = EventKind.ROUND_OPENED
    arguments: dict[str, Value] = {}
    model: Hash


class TaskAccepted(SiteEvent):
    """A site works on its task."""

    event = EventKind.TASK_ACCEPTED


class UpdateReceived(SiteEvent):
    """A site's update counts; ``samples`` is None where it leaves the site only within a sum."""

    event = EventKind.UPDATE_RECEIVED
    model: Hash | None = None
    samples: int | None


class SiteFailed(SiteEvent):
    """A site's part failed."""

    event = EventKind.SITE_FAILED
    failure: Failure


class ErrorReleased(SiteEvent):
    """A person at a site released the full text of an error."""

    event = EventKind.ERROR_RELEASED
    detail: str


class RoundEnded(StageEvent):
    """An exchange is over. ``others`` are the sites that did not deliver, ``metrics`` the means of training."""

    state: RoundState
    contributors: tuple[str, ...]
    model: Hash | None = None
    others: dict[str, ParticipantStatus] = {}
    seconds: float
    metrics: dict[str, float] = {}


class RoundCommitted(RoundEnded):
    """The round counts."""

    event = EventKind.ROUND_COMMITTED


class RoundFailed(RoundEnded):
    """The round does not count: too few sites delivered."""

    event = EventKind.ROUND_FAILED


class UnknownEvent(Reply):
    """The body of a kind that this version does not know: a newer server's."""

    model_config = ConfigDict(extra="allow")


Body = (
    Submitted
    | AnswerReceived
    | StateChanged
    | Ending
    | ArgumentsChanged
    | Interrupted
    | SitesAwaited
    | RoundOpened
    | TaskAccepted
    | UpdateReceived
    | SiteFailed
    | ErrorReleased
    | RoundCommitted
    | RoundFailed
    | UnknownEvent
)
_BODIES: dict[str, type[EventBody]] = {
    body.event.value: body
    for body in (
        Submitted,
        AnswerReceived,
        StateChanged,
        Ending,
        ArgumentsChanged,
        Interrupted,
        SitesAwaited,
        RoundOpened,
        TaskAccepted,
        UpdateReceived,
        SiteFailed,
        ErrorReleased,
        RoundCommitted,
        RoundFailed,
    )
}


class Event(Reply):
    """One event; ``seq`` grows and never repeats, ``kind`` is an ``EventKind`` or a kind of a newer server.

    >>> found = Event.model_validate({"seq": 7, "at": "", "kind": "state", "body": {"state": "paused"}})
    >>> found.body
    StateChanged(state=<ExperimentState.PAUSED: 'paused'>, reason=None)
    """

    seq: int
    at: str
    kind: str
    body: Body

    @model_validator(mode="before")
    @classmethod
    def _body_of_its_kind(cls, value: object) -> object:
        """The body is read by the event's kind: several bodies have the same fields."""
        if not isinstance(value, Mapping) or not isinstance(value.get("body"), Mapping):
            return value
        return {**value, "body": _BODIES.get(str(value.get("kind")), UnknownEvent).model_validate(value["body"])}


class Place(TypedDict):
    """The fields of a ``StageEvent``."""

    experiment: str
    round: int
    kind: TaskKind
    about: str
    attempt: int


def place_of(key: TaskKey) -> Place:
    """A task's key as those fields."""
    return Place(experiment=key.experiment, round=key.round, kind=key.kind, about=key.about, attempt=key.attempt)
