"""Who asks, and whether they have permission: bearer tokens with scopes, as dependencies of endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from archipel.server.membership import AccessToken
from archipel.server.rest.context import context_of
from archipel.server.rest.problems import TooManyAttempts
from archipel.vocabulary import ArchipelError, ErrorCode, NotPermitted, Thing
from archipel.vocabulary.states import Scope
from archipel.vocabulary.visible import quote_name

_bearer = HTTPBearer(auto_error=False, description="An access token: archipel_<id>_<secret>")


def asking(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> AccessToken:
    """The token of this request. Raises ArchipelError (code token) when there is no valid one."""
    if credentials is None:
        raise ArchipelError(
            "access token", "is missing", "send `Authorization: Bearer archipel_...`", code=ErrorCode.TOKEN
        )
    context = context_of(request)
    return context.federation.tokens.check(credentials.credentials, context.now())


def _scope(scope: Scope) -> Callable[[AccessToken], AccessToken]:
    def permitted(token: Annotated[AccessToken, Depends(asking)]) -> AccessToken:
        if not token.allows(scope):
            raise NotPermitted(
                Thing("access token", token.name),
                f"lacks scope {scope}",
                "ask the server's operator for one that has it",
                values={"scope": scope},
            )
        return token

    return permitted


Reader = Annotated[AccessToken, Depends(_scope(Scope.READ))]
Researcher = Annotated[AccessToken, Depends(_scope(Scope.RESEARCH))]
Operator = Annotated[AccessToken, Depends(_scope(Scope.OPERATE))]


async def _may_steer(request: Request, experiment: str, token: Annotated[AccessToken, Depends(asking)]) -> AccessToken:
    """The token, if it belongs to an operator or to the researcher who submitted the experiment.

    Tokens expire and names stay, so the same name, which the operator gives, means the same person.
    """
    if token.allows(Scope.OPERATE):
        return token
    _scope(Scope.RESEARCH)(token)
    context = context_of(request)
    submitted = await context.experiments.token(experiment)
    name = await asyncio.to_thread(context.federation.tokens.name_of, submitted)
    if token.name != name:
        asked_by = quote_name(name or "")
        cause = f"was asked for by {asked_by}; {quote_name(token.name)} may read it"
        raise NotPermitted(
            Thing("experiment", experiment),
            cause,
            f"ask {asked_by} or the server's operator",
            values={"asked_by": name or ""},
        )
    return token


Steering = Annotated[AccessToken, Depends(_may_steer)]


def _still_good(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Callable[[], bool]:
    def good() -> bool:
        try:
            asking(request, credentials)
        except ArchipelError:
            return False
        return True

    return good


StillGood = Annotated[Callable[[], bool], Depends(_still_good)]
"""Checks again, later in a long answer, whether the token is valid."""


def address_of(request: Request) -> str:
    """The caller's address, from the socket."""
    return request.client.host if request.client else "unknown"


def check_attempts(request: Request) -> str:
    """The caller's address. Raises TooManyAttempts when it failed too often in the last minute."""
    context, address = context_of(request), address_of(request)
    if context.enrolment_attempts.exhausted(address, context.now()):
        raise TooManyAttempts(
            Thing.worded(f"enrolment from {address}", address=address),
            "failed too often in the last minute",
            "wait a minute, then check the token",
        )
    return address
