"""Archipel's errors on the way to a site: the typed error travels as JSON and is raised again as itself.

Over gRPC it is the details of the status, in a bulk connection the body of the answer.
"""

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


_HTTP = {
    ErrorCode.DISK_FULL: 507,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.REVOKED: 403,
    ErrorCode.NOT_PERMITTED: 403,
    ErrorCode.LOST: 503,
    ErrorCode.INTERNAL: 500,
}


def described(error: ArchipelError) -> str:
    """An error as the JSON that travels."""
    body = {"code": error.code, "thing": error.thing, "cause": error.cause, "remedy": error.remedy}
    return json.dumps(body)


def read_error(text: str) -> ArchipelError | None:
    """The error that this JSON describes; None for anything else."""
    try:
        body = json.loads(text)
        code = ErrorCode(body["code"])
        thing, cause, remedy = body["thing"], body["cause"], body["remedy"]
        if not all(isinstance(one, str) for one in (thing, cause, remedy)):
            raise TypeError("not texts")
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return _CLASSES.get(code, ArchipelError)(thing, cause, remedy, code=code)


def http_status(error: ArchipelError) -> int:
    """The HTTP status of an answer that carries an error."""
    return _HTTP.get(error.code, 409)


def to_status(error: ArchipelError) -> tuple[grpc.StatusCode, str]:
    """The gRPC status and details that carry an error."""
    return _STATUS.get(error.code, grpc.StatusCode.FAILED_PRECONDITION), described(error)


def from_status(error: grpc.aio.AioRpcError) -> ArchipelError:
    """The error that a status carries; a broken connection is one with code ``lost``."""
    details = error.details() or ""
    known = read_error(details)
    if known is not None:
        return known
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return untrusted_server()
    cause = f"{error.code().name.lower()}: {error.details()}"
    return ArchipelError("connection to the server", cause, "it is tried again", code=ErrorCode.LOST)


def untrusted_server() -> ArchipelError:
    """The error for a server that shows another certificate than it should."""
    return ArchipelError(
        "the server's certificate",
        "is not from the CA that this site knows (keys/ca.pem), or not for this address, or has expired",
        "ask the server's operator; if the federation has a new CA, join again with a new token",
        code=ErrorCode.LOST,
    )
