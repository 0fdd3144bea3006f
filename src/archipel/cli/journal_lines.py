"""A journal's lines as people read them: empty parts are left out, and of a disclosure only the change is shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pydantic import JsonValue

from archipel.site.state import SiteJournalKind
from archipel.vocabulary.visible import escape_hidden, quote

if TYPE_CHECKING:
    from archipel.governance import JournalEntry

_WORDS = re.compile(r'[^\s,;()"\\]*(?: [^\s,;()"\\]+)*')
"""A text without anything that stands between two fields; any other is quoted."""


def rows(
    entries: Iterable[JournalEntry], disclosed_before: Mapping[str, JsonValue] | None = None
) -> list[dict[str, str | int]]:
    """A table's rows. ``disclosed_before``: the newest disclosure before these entries, if there is one."""
    before = _by_name(disclosed_before or {})
    table: list[dict[str, str | int]] = []
    for entry in entries:
        body = plain(entry.body)
        if entry.kind == SiteJournalKind.DATASETS_DISCLOSED:
            now = _by_name(entry.body)
            if before is not None and now is not None:
                body = _change(before, now)
            before = now
        table.append({"number": entry.number, "at": entry.at, "kind": entry.kind, "body": body})
    return table


def plain(value: JsonValue) -> str:
    """A JSON value in words, without empty parts.

    >>> plain({"name": "brains", "note": "", "labels": {"1": "front"}, "columns": [{"name": "age", "unit": ""}]})
    'name brains, labels (1 front), columns (name age)'
    >>> plain({"asked_by": "Anna, by console:berta"})
    'asked_by "Anna, by console:berta"'
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_inner(part)}" for name, part in value.items() if part not in ("", None, {}, []))
    if isinstance(value, list):
        return ", ".join(map(_inner, value))
    text = str(value)
    return text if _WORDS.fullmatch(text) and escape_hidden(text) == text else quote(text)


def _inner(value: JsonValue) -> str:
    if isinstance(value, list) and len(value) == 1:
        return _inner(value[0])
    return f"({plain(value)})" if _nests(value) else plain(value)


def _nests(value: JsonValue) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, list) and any(isinstance(one, dict | list) for one in value)
    )


def _by_name(body: Mapping[str, JsonValue]) -> dict[str, dict[str, JsonValue]] | None:
    """What was disclosed about each dataset; None for a line that cannot be read."""
    named = _named(body.get("datasets", []))
    return None if named is None else {str(one["name"]): one for one in named}


def _change(before: Mapping[str, dict[str, JsonValue]], now: Mapping[str, dict[str, JsonValue]]) -> str:
    parts = [
        f"{name} for the first time: {plain(_beside_name(one))}" for name, one in now.items() if name not in before
    ]
    for name, one in now.items():
        if name in before and one != before[name]:
            parts.append(f"{name}: {', '.join(_differing(before[name], one))}")
    parts += [f"{name} removed" for name in before if name not in now]
    return "; ".join(parts) or "nothing"


def _beside_name(one: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    return {key: _names(part) if key == "columns" else part for key, part in one.items() if key != "name"}


def _named(value: JsonValue) -> list[dict[str, JsonValue]] | None:
    """The value as a list of objects that have names; None when it is another thing."""
    if not isinstance(value, list):
        return None
    objects = [one for one in value if isinstance(one, dict) and "name" in one]
    return objects if len(objects) == len(value) else None


def _names(columns: JsonValue) -> JsonValue:
    """Columns by name only: `dataset show` prints what else is disclosed about each."""
    named = _named(columns)
    return columns if named is None else [one["name"] for one in named]


def _differing(old: Mapping[str, JsonValue], new: Mapping[str, JsonValue]) -> Iterable[str]:
    for key in dict.fromkeys([*new, *old]):
        was, now = old.get(key), new.get(key)
        if was == now:
            continue
        if _names(was) == _names(now):
            yield f"{key}: new text"
        elif isinstance(was, list | None) and isinstance(now, list | None):
            earlier, later = _listed(was), _listed(now)
            yield from (f"{key} with {plain(one)}" for one in later if one not in earlier)
            yield from (f"{key} without {plain(one)}" for one in earlier if one not in later)
        else:
            yield f"{key} {plain(now) or 'none'} (before: {plain(was) or 'none'})"


def _listed(value: list[JsonValue] | None) -> list[JsonValue]:
    names = _names(value or [])
    return names if isinstance(names, list) else []
