"""A request's body as a record: read only after the caller's permission is checked, and counted before it is built.

FastAPI's own way reads and builds a body before any dependency is asked, in the event loop, and gathers every fault.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from fastapi import Depends, FastAPI, Request
from pydantic import JsonValue, ValidationError
from starlette.requests import ClientDisconnect

from archipel.server.rest.context import context_of
from archipel.server.rest.limits import LONGEST_BODY
from archipel.server.rest.problems import CutOff, first_fault
from archipel.vocabulary import BadInput, Record
from archipel.vocabulary.documents import parsed

R = TypeVar("R", bound=Record)


async def read_body(request: Request, kind: type[R]) -> R:
    """The body as a record. Raises BadInput that names the first fault, and CutOff."""
    patience = context_of(request).federation.limits.body_s
    try:
        async with asyncio.timeout(patience):
            body = await request.body()
    except TimeoutError:
        raise BadInput(
            "body", f"did not come within {patience:.0f} s", "send it again", values={"seconds": patience}
        ) from None
    except ClientDisconnect:
        raise CutOff("body", "was cut off", "send it again") from None
    try:
        return await asyncio.to_thread(parsed, kind.model_validate, body, LONGEST_BODY)
    except ValidationError as error:
        raise first_fault(error.errors(include_url=False, include_context=False)[0]) from None
    except ValueError as error:
        raise BadInput("body", str(error)[:200], "fix the request; see /openapi.json") from None


def body_of(kind: type[R]) -> Any:
    """A dependency for an endpoint's parameter, which is resolved after the check of permission."""

    async def body(request: Request) -> R:
        return await read_body(request, kind)

    return Depends(body)


def described(kind: type[Record]) -> dict[str, JsonValue]:
    """What an endpoint's description says of its body; ``describe_bodies`` adds the shape that it names."""
    shape: JsonValue = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": shape}}}}


def describe_bodies(app: FastAPI, *kinds: type[Record]) -> None:
    """Add the shapes of bodies to the application's description of itself."""
    describe = app.openapi

    # The type that FastAPI gives the description: an OpenAPI document, which is read only here.
    def openapi() -> dict[str, Any]:
        known = app.openapi_schema is not None
        document = describe()
        if not known:
            shapes = document["components"]["schemas"]
            for kind in kinds:
                shape = kind.model_json_schema(ref_template="#/components/schemas/{model}")
                for name, part in {**shape.pop("$defs", {}), kind.__name__: shape}.items():
                    shapes.setdefault(name, part)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
