"""Errors as HTTP: every ArchipelError becomes JSON {code, thing, cause, remedy} under a matching status."""

from __future__ import annotations

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException

from archipel.transport.rest import ErrorBody
from archipel.vocabulary import ArchipelError, BadInput, ErrorCode, StorageFull

_log = structlog.get_logger("archipel.rest")

_STATUS: dict[ErrorCode, int] = {
    ErrorCode.TOKEN: 401,
    ErrorCode.NOT_PERMITTED: 403,
    ErrorCode.TRUST: 403,
    ErrorCode.REVOKED: 403,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.CONFLICT: 409,
    ErrorCode.INTERNAL: 500,
    ErrorCode.DISK_FULL: 507,
}
"""The status of each code; every other code is the caller's mistake, 400."""


class TooLarge(ArchipelError):
    """What was sent is longer than this server takes."""

    code = ErrorCode.BAD_INPUT


class CutOff(ArchipelError):
    """The connection ended before the whole body had come."""

    code = ErrorCode.BAD_INPUT


class TooManyAttempts(ArchipelError):
    """An address failed too often in a short time."""

    code = ErrorCode.NOT_PERMITTED


def status_of(error: ArchipelError) -> int:
    """The HTTP status of an error."""
    match error:
        case TooLarge():
            return 413
        case TooManyAttempts():
            return 429
    return _STATUS.get(error.code, 400)


def error_response(error: ArchipelError) -> JSONResponse:
    """The response with the error."""
    body = ErrorBody(code=error.code, thing=error.thing, cause=error.cause, remedy=error.remedy)
    headers = {"WWW-Authenticate": "Bearer"} if status_of(error) == 401 else None
    return JSONResponse(body.model_dump(mode="json"), status_of(error), headers)


def first_fault(fault: ErrorDetails) -> BadInput:
    """The error for one of pydantic's faults: where it is, and what."""
    where = ".".join(str(part) for part in fault["loc"] if part != "body") or "body"
    return BadInput(
        where[:200], fault["msg"].removeprefix("Value error, ")[:1000], "fix the request; see /openapi.json"
    )


def answer_in_words(app: FastAPI) -> None:
    """Make the application answer every error with an ``ErrorBody``."""

    @app.exception_handler(ArchipelError)
    async def _(request: Request, error: ArchipelError) -> JSONResponse:
        if isinstance(error, StorageFull) or error.code is ErrorCode.INTERNAL:
            _log.error("request failed", path=request.url.path, error=str(error))
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def _(_request: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(first_fault(error.errors()[0]))

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: ErrorCode.NOT_FOUND, 405: ErrorCode.BAD_INPUT}.get(error.status_code, ErrorCode.BAD_INPUT)
        body = ErrorBody(code=code, thing=request.url.path, cause=str(error.detail), remedy="see /openapi.json")
        return JSONResponse(body.model_dump(mode="json"), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def _(request: Request, error: Exception) -> JSONResponse:
        _log.exception("request failed", path=request.url.path, exc_info=error)
        return error_response(ArchipelError(request.url.path, "an error in the server", "see the server's log"))
