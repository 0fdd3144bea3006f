"""Errors are few and typed; each names the thing, the cause and the remedy.

A code is for programs and for what leaves a site; the sentence is for people.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class ErrorCode(StrEnum):
    """Every reason Archipel gives for not doing something; the wire and REST carry these words."""

    BAD_INPUT = "bad-input"
    BAD_DATA = "bad-data"
    BAD_PLAN = "bad-plan"
    BAD_UPDATE = "bad-update"
    CLOCK = "clock"
    CONFLICT = "conflict"
    CONFIGURATION = "configuration"
    CRASHED = "crashed"
    DATA_CHANGED = "data-changed"
    DISK_FULL = "disk-full"
    INTERNAL = "internal"
    LIMIT_CPU = "limit-cpu"
    LIMIT_MEMORY = "limit-memory"
    LIMIT_TIME = "limit-time"
    LOST = "lost"
    MODEL_CHANGED = "model-changed"
    NOT_APPROVED = "not-approved"
    NOT_FINITE = "not-finite"
    NOT_FOUND = "not-found"
    NOT_PERMITTED = "not-permitted"
    PLAN_ERROR = "plan-error"
    POLICY = "policy"
    PORT_IN_USE = "port-in-use"
    REPLAYED = "replayed"
    REVOKED = "revoked"
    ROUND_CLOSED = "round-closed"
    SANDBOX = "sandbox"
    TOKEN = "token"  # noqa: S105 - a code, no secret
    TRUST = "trust"


class ArchipelError(Exception):
    """Something was refused or went wrong: ``thing: cause; remedy``.

    >>> try:
    ...     raise BadInput("seed -1", "is negative", "give a seed from 0 on")
    ... except ArchipelError as error:
    ...     print(error.cause, "->", error.remedy)
    is negative -> give a seed from 0 on
    >>> str(BadInput("sub-07", "no label beside the image", "add labels/sub-07.nii.gz or exclude the subject"))
    'sub-07: no label beside the image; add labels/sub-07.nii.gz or exclude the subject'
    """

    code = ErrorCode.INTERNAL

    def __init__(self, thing: str, cause: str, remedy: str, *, code: ErrorCode | None = None) -> None:
        super().__init__(f"{thing}: {cause}; {remedy}")
        self.thing, self.cause, self.remedy = thing, cause, remedy
        if code is not None:
            self.code = code

    def __reduce__(self) -> tuple[Callable[..., ArchipelError], tuple[object, ...]]:
        return _again, (type(self), self.thing, self.cause, self.remedy, self.code)


def _again(kind: type[ArchipelError], thing: str, cause: str, remedy: str, code: ErrorCode) -> ArchipelError:
    return kind(thing, cause, remedy, code=code)


class BadInput(ArchipelError):
    """What was given cannot be used as it is."""

    code = ErrorCode.BAD_INPUT


class NotFound(ArchipelError):
    """The named thing is not there."""

    code = ErrorCode.NOT_FOUND


class Conflict(ArchipelError):
    """The thing exists already with other content, or is in a state that does not allow this."""

    code = ErrorCode.CONFLICT


class NotPermitted(ArchipelError):
    """Whoever asks may not."""

    code = ErrorCode.NOT_PERMITTED


class Refused(ArchipelError):
    """A site's rules or approvals do not allow it."""

    code = ErrorCode.POLICY


class StorageFull(ArchipelError):
    """A disk has no room for what must be written; nothing half-written is left behind."""

    code = ErrorCode.DISK_FULL
