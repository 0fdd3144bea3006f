"""Records of a job that a researcher's numbers make: a number outside the record's bounds is an error in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from archipel.vocabulary import BadInput, Thing
from archipel.vocabulary.records import Record
from archipel.vocabulary.wrong_values import wrong_value

R = TypeVar("R", bound=Record)


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
        wrong, name = wrong_value(error, kind), str(error.errors()[0]["loc"][0])
        thing = Thing.worded(wrong.place, **{name: str(given.get(name))})
        raise BadInput(thing, wrong.cause, wrong.remedy) from None
