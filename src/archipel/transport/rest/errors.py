"""An error as it travels over REST."""

from __future__ import annotations

from archipel.transport.rest.reply import Reply


class ErrorBody(Reply):
    """Every error: a code for programs; what, why and what to do for people."""

    code: str
    thing: str
    cause: str
    remedy: str
