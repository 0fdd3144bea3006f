"""A JSON document that another party wrote: counted before anything is built of it.

pydantic collects every fault of a document before it reports the first. A fault costs some hundred bytes and
some microseconds, and three bytes (``{},``) can hold several: without bounds one short message is gigabytes and
minutes. So there are three: on bytes, on parts, and on the places that can be at fault at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic_core import from_json

T = TypeVar("T")

MOST_PARTS = 1_000_000
"""Parts of a document, a part being an entry, an item or a bracket: a job with 100,000 tensors has 800,000."""
MOST_PLACES = 20_000
"""Places of a document that can be at fault at once: an update with 1000 metrics of each kind has 14,000."""


def parsed(build: Callable[[Any], T], body: bytes, longest: int) -> T:
    """What ``build`` (``Kind.model_validate``) makes of a document of at most ``longest`` bytes.

    Raises ValueError: pydantic's ValidationError for a wrong document, a plain one for a document over a bound.

    >>> from archipel.vocabulary.metrics import MetricSum
    >>> parsed(MetricSum.model_validate, b'{"total": 3, "weight": 4}', longest=100).mean()
    0.75
    >>> parsed(MetricSum.model_validate, b'{"total": 3, "weight": 4}', longest=10)
    Traceback (most recent call last):
    ValueError: has 25 bytes; at most 10 are accepted
    """
    if len(body) > longest:
        raise ValueError(f"has {len(body)} bytes; at most {longest} are accepted")
    parts = body.count(b",") + body.count(b"{") + body.count(b"[")
    if parts > MOST_PARTS:
        raise ValueError(f"has {parts} parts; at most {MOST_PARTS} are accepted")
    # Parsed first, then built: built from its bytes, each fault would copy all that is around it.
    value = from_json(body)
    if parts > MOST_PLACES and (found := places(value)) > MOST_PLACES:
        raise ValueError(f"has {found} places to check together; at most {MOST_PLACES} are accepted")
    return build(value)


def places(value: Any) -> int:
    """How many places of a document can be at fault at once, where lists (``Many``) stop at their first fault.

    All of an object's keys and entries, and of a list its broadest item.

    >>> places({"a": 1, "b": {"c": 2}}), places([1, 2, [3, 4]]), places([{"a": 1}, {"a": 1, "b": 2}])
    (7, 3, 6)
    """
    match value:
        case dict():
            return 1 + len(value) + sum(map(places, value.values()))
        case list():
            return 1 + max(map(places, value), default=0)
    return 1
