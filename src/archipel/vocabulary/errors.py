"""Errors are few and typed; each names the thing, the cause and the remedy.

A code is for programs and for what leaves a site; the sentence is for people. Beside the sentence an error may carry
values by name, for programs that phrase it in their own way, and a command that is the remedy. Both stay in the program
and on the machine where it was raised: no message to another machine has a field for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Self

from archipel.vocabulary.records import JsonObject
from archipel.vocabulary.remedies import Remedy
from archipel.vocabulary.things import ErrorValue, Thing


class ErrorCode(StrEnum):
    """Every reason Archipel gives for not doing something; gRPC and REST carry these codes."""

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
    GPU = "gpu"
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

    What ``thing`` names, when it is a ``Thing``, are values of the error; ``values`` are further ones: a limit and what
    was found, say. ``command`` is the remedy where it is one of the fixed list.

    >>> try:
    ...     raise BadInput("seed -1", "is negative", "give a seed from 0 on")
    ... except ArchipelError as error:
    ...     print(error.cause, "->", error.remedy)
    is negative -> give a seed from 0 on
    >>> str(BadInput("sub-07", "no label beside the image", "add labels/sub-07.nii.gz or leave the subject out"))
    'sub-07: no label beside the image; add labels/sub-07.nii.gz or leave the subject out'
    """

    code = ErrorCode.INTERNAL

    def __init__(
        self,
        thing: str,
        cause: str,
        remedy: str,
        *,
        code: ErrorCode | None = None,
        values: Mapping[str, ErrorValue] | None = None,
        command: Remedy | None = None,
    ) -> None:
        super().__init__(f"{thing}: {cause}; {remedy}")
        self.thing, self.cause, self.remedy = str(thing), cause, remedy
        self.values: dict[str, ErrorValue] = {**(thing.values if isinstance(thing, Thing) else {}), **(values or {})}
        self.command = command
        if code is not None:
            self.code = code

    def offering(self, command: Remedy, **values: ErrorValue) -> Self:
        """This error with a command, and with more values: for a caller that knows more than the place where it was
        raised.
        """
        self.command = command
        self.values |= values
        return self

    def document(self) -> JsonObject:
        """The error as a program on this machine reads it."""
        return {
            "code": self.code.value,
            "thing": self.thing,
            "cause": self.cause,
            "remedy": self.remedy,
            "values": dict(self.values),
            "command": None if self.command is None else self.command.document(),
        }

    def __reduce__(self) -> tuple[Callable[..., ArchipelError], tuple[object, ...], dict[str, object]]:
        return _again, (type(self), self.thing, self.cause, self.remedy), dict(self.__dict__)


def _again(kind: type[ArchipelError], thing: str, cause: str, remedy: str) -> ArchipelError:
    # Not by the class itself, whose arguments may be others; pickle fills in the rest from the error's attributes.
    error = kind.__new__(kind)
    ArchipelError.__init__(error, thing, cause, remedy)
    return error


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
    """The caller has no permission."""

    code = ErrorCode.NOT_PERMITTED


class Refused(ArchipelError):
    """A site's rules or approvals do not allow it."""

    code = ErrorCode.POLICY


class StorageFull(ArchipelError):
    """A disk has no space for what must be written; no half-written file is left behind."""

    code = ErrorCode.DISK_FULL
