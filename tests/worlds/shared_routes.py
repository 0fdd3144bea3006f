"""Routes that FastAPI analyses once and not for each server: hundreds of servers, the same endpoints."""

from __future__ import annotations

from typing import Any

from fastapi import routing

_analyse = routing._EffectiveRouteContext.from_api_route
_analysed: dict[int, Any] = {}


def _once(*, original_route: routing.APIRoute, include_context: Any) -> Any:
    # Every server has the same routers, under the same prefix. They live as long as the modules that define them.
    if id(original_route) not in _analysed:
        _analysed[id(original_route)] = _analyse(original_route=original_route, include_context=include_context)
    return _analysed[id(original_route)]


def share() -> None:
    """From now on, for every server."""
    routing._EffectiveRouteContext.from_api_route = _once
