"""The canonical JSON of many samples, which a cohort's hash covers, put together from the parts that samples share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import rfc8785

from archipel.vocabulary import JsonObject

SampleRow = tuple[str, str, str, int, int]
"""A sample's subject, session, digest of its content in hex digits, row (-1 for none), and the number of its kind."""
_BEFORE_HASH = ("channels", "file_hashes", "files")
_MOST_KINDS = 512
_text = json.JSONEncoder(ensure_ascii=False).encode
_sorted_text = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode


def canonical_lines(rows: Iterable[SampleRow], rest_of: Callable[[int], dict[str, Any]]) -> Iterator[bytes]:
    """Each sample's canonical JSON (RFC 8785; fields at their default left out) and a line feed.

    ``rest_of`` has what samples of a kind have beside what is in their row; its ``hash`` is the scheme alone.
    """
    parts: dict[int, tuple[str, str, str]] = {}
    for subject, session, digest, row, kind in rows:
        if kind not in parts:
            if len(parts) >= _MOST_KINDS:
                parts.clear()
            parts[kind] = _around(rest_of(kind))
        head, middle, tail = parts[kind]
        with_row = f',"row":{row}' if row >= 0 else ""
        with_session = f',"session":{_text(session)}' if session else ""
        line = f'{head}{digest}"{middle}{with_row}{with_session},"subject":{_text(subject)}{tail}\n'
        yield line.encode()


def hash_of_lines(lines: Iterable[bytes]) -> str:
    """The SHA-256 of the lines, one after the other, in hex digits."""
    hasher = hashlib.sha256()
    for line in lines:
        hasher.update(line)
    return hasher.hexdigest()


def _around(rest: dict[str, Any]) -> tuple[str, str, str]:
    """A sample's canonical JSON before the digits of its hash, between these and its row, and after its subject."""
    first = [f'"{name}":{_texts_by_name(rest[name])},' for name in _BEFORE_HASH if name in rest]
    middle = f',"missing":{rfc8785.dumps(list(rest["missing"])).decode()}' if "missing" in rest else ""
    tail = f',"values":{rfc8785.dumps(rest["values"]).decode()}' if "values" in rest else ""
    return f'{{{"".join(first)}"hash":"{rest["hash"]}', middle, tail + "}"


def _texts_by_name(beside: JsonObject) -> str:
    """The canonical JSON of an object.

    Python's own JSON is the canonical one of texts under names in ASCII, which sort as their UTF-16 does, and takes a
    tenth of the time.
    """
    if all(name.isascii() and isinstance(value, str) for name, value in beside.items()):
        return _sorted_text(beside)
    return rfc8785.dumps(beside).decode()
