"""Who asks, and whether they have permission: bearer tokens with scopes, as dependencies of endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from archipel.server.membership import AccessToken
from archipel.server.rest.context import connection_of, context_of
from archipel.server.rest.problems import TooManyAttempts
from archipel.transport.connections import token_caller
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
    token = context.federation.tokens.check(credentials.credentials, context.now())
    connection_of(request).caller = token_caller(token.id)
    return token


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


Downloader = Annotated[AccessToken, Depends(_scope(Scope.MODELS))]


async def _may_steer(request: Request, experiment: str, token: Annotated[AccessToken, Depends(asking)]) -> AccessToken:
    """The token, if it belongs to an operator or to the researcher who submitted the experiment."""
    if token.allows(Scope.OPERATE):
        return token
    _scope(Scope.RESEARCH)(token)
    asked_by = await _asked_by(request, experiment)
    if token.name != asked_by:
        raise NotPermitted(
            Thing("experiment", experiment),
            f"was asked for by {quote_name(asked_by or '')}; {quote_name(token.name)} may read it",
            f"ask {quote_name(asked_by or '')} or the server's operator",
            values={"asked_by": asked_by or ""},
        )
    return token


async def may_download(
    request: Request, experiment: str, token: Annotated[AccessToken, Depends(asking)]
) -> AccessToken:
    """The token, if it has the scope of models or belongs to the researcher who submitted the experiment."""
    if token.allows(Scope.MODELS):
        return token
    if not token.allows(Scope.RESEARCH):
        _scope(Scope.MODELS)(token)
    asked_by = await _asked_by(request, experiment)
    if token.name != asked_by:
        raise NotPermitted(
            Thing("experiment", experiment),
            f"was asked for by {quote_name(asked_by or '')}; {quote_name(token.name)} may read it, "
            "but not download its models",
            f"ask {quote_name(asked_by or '')} for the model, "
            f"or the server's operator for a token with scope {Scope.MODELS}",
            values={"asked_by": asked_by or "", "scope": Scope.MODELS},
        )
    return token


async def may_name(request: Request, blob: str, token: AccessToken) -> bool:
    """Whether a job of this token may name the blob: it sent the bytes, or may download them."""
    context = context_of(request)
    if token.allows(Scope.MODELS) or context.unused.was_sent_by(token.id, blob):
        return True
    return await context.experiments.has_asked_for(token.name, blob)


async def _asked_by(request: Request, experiment: str) -> str | None:
    """The name of the token that submitted an experiment. Raises NotFound.

    Tokens expire and names stay, so the same name, which the operator gives, means the same person.
    """
    context = context_of(request)
    token = await context.experiments.token(experiment)
    return await asyncio.to_thread(context.federation.tokens.name_of, token)


Steering = Annotated[AccessToken, Depends(_may_steer)]
Downloading = Annotated[AccessToken, Depends(may_download)]


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
    """The caller's address; see ``addresses``."""
    return request.client.host if request.client else "unknown"


def check_attempts(request: Request, who: str) -> None:
    """Raise TooManyAttempts when ``who`` failed too often to enrol in the last minute."""
    context = context_of(request)
    if context.enrolment_attempts.exhausted(who, context.now()):
        raise TooManyAttempts(
            Thing.worded(f"enrolment by {who}", caller=who),
            "failed too often in the last minute",
            "wait a minute, then check the token",
        )
