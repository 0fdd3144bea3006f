"""Archipel's errors over gRPC: the typed error travels as JSON in the status details and is raised again as itself."""

from __future__ import annotations

import json

import grpc

from archipel.vocabulary import (
    ArchipelError,
    BadInput,
    Conflict,
    ErrorCode,
    NotFound,
    NotPermitted,
    Refused,
    StorageFull,
)

_CLASSES: dict[ErrorCode, type[ArchipelError]] = {
    kind.code: kind for kind in (BadInput, Conflict, NotFound, NotPermitted, Refused, StorageFull)
}
_STATUS = {
    ErrorCode.DISK_FULL: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorCode.REVOKED: grpc.StatusCode.PERMISSION_DENIED,
    ErrorCode.NOT_PERMITTED: grpc.StatusCode.PERMISSION_DENIED,
    ErrorCode.INTERNAL: grpc.StatusCode.INTERNAL,
}


def to_status(error: ArchipelError) -> tuple[grpc.StatusCode, str]:
    """The status and details that carry an error."""
    body = {"code": error.code, "thing": error.thing, "cause": error.cause, "remedy": error.remedy}
    return _STATUS.get(error.code, grpc.StatusCode.FAILED_PRECONDITION), json.dumps(body)


def from_status(error: grpc.aio.AioRpcError) -> ArchipelError:
    """The error that a status carries; a broken connection is one with code ``lost``."""
    try:
        body = json.loads(error.details() or "")
        code = ErrorCode(body["code"])
        thing, cause, remedy = body["thing"], body["cause"], body["remedy"]
        if not all(isinstance(one, str) for one in (thing, cause, remedy)):
            raise TypeError("not texts")
        return _CLASSES.get(code, ArchipelError)(thing, cause, remedy, code=code)
    except (ValueError, KeyError, TypeError, RecursionError):
        if "CERTIFICATE_VERIFY_FAILED" in (error.details() or ""):
            return ArchipelError(
                "the server's certificate",
                "is not from the CA that this site knows (keys/ca.pem), or not for this address, or has expired",
                "ask the server's operator; if the federation has a new CA, join again with a new token",
                code=ErrorCode.LOST,
            )
        cause = f"{error.code().name.lower()}: {error.details()}"
        return ArchipelError("connection to the server", cause, "it is tried again", code=ErrorCode.LOST)
