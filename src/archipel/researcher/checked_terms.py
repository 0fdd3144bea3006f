"""Records of a job that a researcher's numbers make: a number outside the record's bounds is an error in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from archipel.vocabulary import BadInput, Thing, Value
from archipel.vocabulary.records import Record

R = TypeVar("R", bound=Record)

_BOUNDS = {
    "greater_than": ("gt", "is too small", "give more than {}"),
    "greater_than_equal": ("ge", "is too small", "give at least {}"),
    "less_than": ("lt", "is too large", "give less than {}"),
    "less_than_equal": ("le", "is too large", "give at most {}"),
}


def checked(kind: type[R], given: Mapping[str, object]) -> R:
    """A record of this kind from its fields.

    Raises BadInput that names the first field outside the record's bounds, and the bound.

    >>> from archipel.vocabulary import WorkerLimits
    >>> checked(WorkerLimits, {"memory_mb": 1})
    Traceback (most recent call last):
    archipel.vocabulary.errors.BadInput: memory_mb=1: is too small; give at least 64
    """
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name, value = ".".join(map(str, first["loc"])), first["input"]
        thing = Thing.worded(f"{name}={value!r}", **{name: str(value)})
        if first["type"] in _BOUNDS:
            key, cause, remedy = _BOUNDS[first["type"]]
            bound: Value = first["ctx"][key]
            raise BadInput(thing, cause, remedy.format(bound), values={"bound": bound}) from error
        raise BadInput(thing, "is not a valid value", "give a number") from error
