"""How long a request's body may be, so that no request fills the server's memory; blobs have their own limit."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archipel.server.rest.problems import TooLarge, error_response
from archipel.vocabulary.bounds import LONGEST_JOB

LONGEST_BODY = LONGEST_JOB + (1 << 20)
"""Bytes of a submission: a job, perhaps with spaces between its parts."""
LONGEST_OTHER = 256 << 10
LONGEST_ENROLMENT = 64 << 10


class BodyLimit:
    """Refuses a body that is too long, by its stated length or while it arrives.

    FastAPI's own limit answers in plain text, where every other error here is an ``ErrorBody``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"].startswith("/v1/blobs/"):
            await self.app(scope, receive, send)
            return
        limit = _longest(scope["path"])
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        too_long = f"a body of more than {limit >> 10} KiB is not accepted here"
        if stated.isdigit() and int(stated) > limit:
            await error_response(
                TooLarge(
                    scope["path"], too_long, "send less, or a blob", values={"path": scope["path"], "limit": limit}
                )
            )(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise HTTPException(413, too_long)
            return message

        await self.app(scope, counted, send)


def _longest(path: str) -> int:
    if path.startswith("/v1/enrolment"):
        return LONGEST_ENROLMENT
    return LONGEST_BODY if path == "/v1/experiments" else LONGEST_OTHER
