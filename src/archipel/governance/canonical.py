"""One byte sequence per document (RFC 8785, JSON Canonicalization Scheme): a hash or signature means one thing."""

from __future__ import annotations

import json
from collections.abc import Mapping

import rfc8785
from pydantic import JsonValue

from archipel.tensors import document_hash
from archipel.vocabulary import BadInput, Job, JsonObject, Record, Task, Thing
from archipel.vocabulary.once import Once


def canonical(document: Record | Mapping[str, JsonValue]) -> bytes:
    """The document's canonical JSON bytes.

    A field of a record that has its default value is left out, so that a field which a later version adds changes no
    older hash or signature. For this reason the default of a field never changes. A record's ``format`` is always
    named.

    >>> canonical({"b": 1, "a": 2.0})
    b'{"a":2,"b":1}'
    """
    found = _without_defaults(document) if isinstance(document, Record) else dict(document)
    return _PLAIN.encode(found).encode() if _is_plain(found) else rfc8785.dumps(found)


_PLAIN = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
"""Python's own encoder gives the bytes of RFC 8785 for a plain document, and in a tenth of the time."""
_EXACT = 2**53 - 1


_DEEPEST = 20


def _is_plain(value: object, depth: int = 0) -> bool:
    """Whether a document has no number but exact integers, no key that Python sorts otherwise than RFC 8785, only text
    that is Unicode, and no deep nesting.
    """
    if depth > _DEEPEST:
        return False
    match value:
        case str():
            return type(value) is str and (value.isascii() or not any("\ud800" <= one <= "\udfff" for one in value))
        case bool() | None:
            return True
        case int():
            return type(value) is int and -_EXACT <= value <= _EXACT
        case dict():
            return all(type(key) is str and key.isascii() and _is_plain(part, depth + 1) for key, part in value.items())
        case list() | tuple():
            return all(_is_plain(part, depth + 1) for part in value)
    return False


def _without_defaults(record: Record) -> JsonObject:
    document: JsonObject = record.model_dump(mode="json", exclude_defaults=True)
    return document | {"format": record.format} if isinstance(record, Job) else document


def record_hash(document: Record | Mapping[str, JsonValue]) -> str:
    """The content address of a document, ``sha256:...`` over its canonical bytes."""
    return document_hash(canonical(document))


task_hash: Once[Task, str] = Once(record_hash)
"""``record_hash`` of a task, which each step of a site and of the loop asks for."""


def job_hash(job: Job) -> str:
    """What a site approves: the hash of the whole canonical job.

    Raises BadInput for a job with a number that JSON cannot carry exactly or text that is not Unicode.
    """
    try:
        return record_hash(job)
    except ValueError as error:
        thing = Thing("job", job.experiment)
        raise BadInput(thing, f"has no canonical form ({error})", "fix that number or text") from error
