"""How long a request's body may be, so that nobody fills the server's memory; blobs have their own limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archipel.server.rest.problems import TooLarge, problem

_OPEN_LIMIT = 256 << 10
_LIMIT = 64 << 20


class BodyLimit:
    """Refuses a body that is too long, by its stated length or while it arrives.

    Bodies are read before endpoints ask who sends them, so this asks for a long one: ``known`` tells whether an
    Authorization header holds a good token.
    FastAPI's own limit would do, but answers in plain text where every other error here is a ``Problem``.
    """

    def __init__(self, app: ASGIApp, known: Callable[[str], bool]) -> None:
        self.app, self._known = app, known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"].startswith("/v1/blobs/"):
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        stated = headers.get(b"content-length", b"0")
        is_long = b"transfer-encoding" in headers or (stated.isdigit() and int(stated) > _OPEN_LIMIT)
        limit = _OPEN_LIMIT
        if is_long and not scope["path"].startswith("/v1/enrolment"):
            authorization = headers.get(b"authorization", b"").decode("latin-1")
            limit = _LIMIT if await asyncio.to_thread(self._known, authorization) else _OPEN_LIMIT
        too_long = f"a body of more than {limit >> 10} KiB is not taken here"
        if stated.isdigit() and int(stated) > limit:
            await problem(TooLarge(scope["path"], too_long, "send less, or a blob"))(scope, receive, send)
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
