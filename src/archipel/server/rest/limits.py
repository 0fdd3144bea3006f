"""How long a request's body may be, so that nobody fills the server's memory; blobs have their own limit."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archipel.server.rest.problems import TooLarge, problem

_OPEN_LIMIT = 256 << 10
_LIMIT = 64 << 20


class BodyLimit:
    """Refuses a body that is too long, by its stated length or while it arrives."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"].startswith("/v1/blobs/"):
            await self.app(scope, receive, send)
            return
        limit = _OPEN_LIMIT if scope["path"].startswith("/v1/enrolment") else _LIMIT
        too_large = TooLarge(
            scope["path"], f"a body of more than {limit >> 10} KiB is not taken here", "send less, or a blob"
        )
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        if stated.isdigit() and int(stated) > limit:
            await problem(too_large)(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise too_large
            return message

        await self.app(scope, counted, send)
