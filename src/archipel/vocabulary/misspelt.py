"""The key that was probably meant by a key that a record does not know."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from archipel.vocabulary.records import Record


def suggest_key(model: type[Record], place: Sequence[str | int]) -> str:
    """The nearest known key to the last one of ``place``, or all known keys."""
    *section, key = map(str, place)
    known = _keys(model, section)
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {'.'.join([*section, *near])}?" if near else f"known keys are {', '.join(known)}"


def _keys(model: type[Record], section: Sequence[str]) -> list[str]:
    """The known keys of a section: a record in a record, or one of several records that people named."""
    found: Any = model
    for name in section:
        if isinstance(found, type) and issubclass(found, Record):
            found = found.model_fields[name].annotation
        elif get_origin(found) in (dict, Mapping):
            found = get_args(found)[1]
    return sorted(found.model_fields) if isinstance(found, type) and issubclass(found, Record) else []
