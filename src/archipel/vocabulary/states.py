"""The states and verbs that server, sites and researchers name alike: of experiments, rounds, tasks, approvals."""

from __future__ import annotations

from enum import StrEnum


class ExperimentState(StrEnum):
    """The state of an experiment. PAUSED is between rounds; a round that is open when the pause comes is finished."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Whether nothing can follow.

        >>> ExperimentState.PAUSED.is_over, ExperimentState.CANCELLED.is_over
        (False, True)
        """
        return self in (ExperimentState.FINISHED, ExperimentState.CANCELLED)


class ControlVerb(StrEnum):
    """What a researcher may do to an experiment."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    STEP = "step"
    FINISH = "finish"
    CANCEL = "cancel"


class ApprovalState(StrEnum):
    """What the people at a site have answered to a job."""

    WAITING = "waiting"
    APPROVED = "approved"
    REJECTED = "rejected"
    REVOKED = "revoked"


class RoundState(StrEnum):
    """The state of one attempt at a round or at a later stage."""

    OPEN = "open"
    COMMITTED = "committed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TaskState(StrEnum):
    """What the server keeps of one site's part of a round."""

    OFFERED = "offered"
    RECEIVED = "received"
    FAILED = "failed"
    LATE = "late"
    MISSING = "missing"


class ParticipantStatus(StrEnum):
    """The state of one site in one round.

    A LOST site is awaited for its grace period; AWAY is one that is not awaited any more, RETURNED one that was away
    and has its task now, without being awaited. A closed round has the last four only.
    """

    INVITED = "invited"
    WORKING = "working"
    LOST = "lost"
    AWAY = "away"
    RETURNED = "returned"
    DELIVERED = "delivered"
    FAILED = "failed"
    LATE = "late"
    MISSING = "missing"


class MemberState(StrEnum):
    """Whether a site belongs to the federation."""

    ENROLLED = "enrolled"
    REMOVED = "removed"


class Scope(StrEnum):
    """What an access token lets a person do: read, download any model, submit and steer own experiments, or steer all
    and administer.
    """

    READ = "read"
    MODELS = "models"
    RESEARCH = "research"
    OPERATE = "operate"
