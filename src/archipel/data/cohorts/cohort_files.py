"""A cohort as bytes, written and read in pieces: how a site keeps it and how a worker gets it.

First the length of the head (8 bytes, little-endian) and the head: JSON of the cohort's settings, and name, type and
length of each column. The columns follow, one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import StringConstraints, TypeAdapter

from archipel.data.cohorts.cohort import LISTS, Cohort
from archipel.data.sample_columns import Samples
from archipel.data.text_columns import TextColumn
from archipel.vocabulary import Hash, JsonObject, Record, Value

PIECE = 1 << 20
"""Bytes of a piece, of the last of a column fewer."""
_LENGTH = 8
_TYPES = {"buffer": "|u1", "ends": "<i8", "digests": "|S32", "rows": "<i8", "kinds": "<u4"}
_TEXTS = ("subjects", "sessions", "others", "validation", "pseudonyms-of", "pseudonyms")
_NAMES = frozenset(("digests", "rows", "kinds", *(f"{text}.{part}" for text in _TEXTS for part in ("buffer", "ends"))))
"""Every column that there may be: what is read is what the cohort hash covers."""


class _Column(Record):
    name: str
    count: int


class _Head(Record):
    """The settings are a cohort's fields but its lists; columns of a list that is None or empty are not there."""

    form: Literal["archipel-cohort/2"] = "archipel-cohort/2"
    settings: JsonObject
    columns: tuple[_Column, ...]


class _Kind(Record):
    """What samples have in common, each field covered by the cohort hash; ``hash`` is the beginning of a hash, before
    its digits."""

    hash: Annotated[str, StringConstraints(pattern=r"^(blake3|sha256):$")]
    files: dict[str, str]
    values: dict[str, Value] = {}
    missing: tuple[str, ...] = ()
    channels: dict[str, int] = {}
    file_hashes: dict[str, Hash] = {}


_KIND = TypeAdapter(_Kind)


def pieces(cohort: Cohort) -> Iterator[bytes]:
    """The cohort's bytes, the head as a piece of its own."""
    columns = dict(_columns(cohort))
    listed = tuple(_Column(name=name, count=len(column)) for name, column in columns.items())
    settings = cohort.model_dump(mode="json", exclude_defaults=True, exclude=set(LISTS))
    head = _Head(settings=settings, columns=listed).model_dump_json(exclude_defaults=True).encode()
    yield len(head).to_bytes(_LENGTH, "little") + head
    for column in columns.values():
        content = np.ascontiguousarray(column).data.cast("B") if len(column) else memoryview(b"")
        for first in range(0, len(content), PIECE):
            yield bytes(content[first : first + PIECE])


def cohort_of(given: Iterable[bytes]) -> Cohort:
    """The cohort from its bytes, however these are cut. Raises ValueError for bytes that are not a cohort's."""
    reader = _Reader(given)
    head = _Head.model_validate_json(reader.bytes(int.from_bytes(reader.bytes(_LENGTH), "little")))
    columns: dict[str, NDArray[Any]] = {}
    for column in head.columns:
        kind = _TYPES.get(column.name.rpartition(".")[2])
        if kind is None or column.name not in _NAMES or column.name in columns or column.count < 0:
            raise ValueError(f"a cohort has no column {column.name}")
        columns[column.name] = reader.array(kind, column.count)
    reader.end()
    try:
        return _made(head.settings, columns)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"a cohort's columns do not fit together ({error})") from error


def _columns(cohort: Cohort) -> Iterator[tuple[str, NDArray[Any]]]:
    samples = cohort.samples.compact()
    yield from _of_texts("subjects", samples.subjects_of_rows)
    yield from _of_texts("sessions", samples.sessions)
    yield from _of_texts("others", samples.others)
    yield from (("digests", samples.digests), ("rows", samples.rows), ("kinds", samples.kinds))
    if cohort.validation is not None:
        yield from _of_texts("validation", TextColumn.of(cohort.validation))
    if cohort.pseudonyms:
        ordered = sorted(cohort.pseudonyms)
        yield from _of_texts("pseudonyms-of", TextColumn.of(ordered))
        yield from _of_texts("pseudonyms", TextColumn.of(cohort.pseudonyms[one] for one in ordered))


def _of_texts(name: str, texts: TextColumn) -> Iterator[tuple[str, NDArray[Any]]]:
    yield f"{name}.buffer", texts.buffer
    yield f"{name}.ends", texts.ends


def _made(settings: JsonObject, columns: dict[str, NDArray[Any]]) -> Cohort:
    texts = {name.removesuffix(".ends") for name in columns if name.endswith(".ends")}
    found = {name: TextColumn(columns[f"{name}.buffer"], columns[f"{name}.ends"]) for name in texts}
    for one in found.values():
        one.check()
    kinds, others = columns["kinds"], found["others"]
    if len(kinds) and int(kinds.max()) >= len(others):
        raise ValueError("a sample is of a kind that is not there")
    subjects, sessions, digests, rows = found["subjects"], found["sessions"], columns["digests"], columns["rows"]
    if not len(subjects) == len(sessions) == len(digests) == len(rows) == len(kinds):
        raise ValueError("a cohort's columns have different lengths")
    if len(rows) and int(rows.min()) < -1:
        raise ValueError("a sample has a row below the first")
    for text in others:
        _check_other(text)
    # A kind that no row names is not hashed, so nothing of it is read.
    samples = Samples(subjects, sessions, digests, rows, kinds, others).compact()
    # Fields of a record, which checks them.
    lists: dict[str, Any] = {"samples": samples}
    if "validation" in found:
        lists["validation"] = tuple(found["validation"])
    if "pseudonyms" in found:
        lists["pseudonyms"] = dict(zip(found["pseudonyms-of"], found["pseudonyms"], strict=True))
    return Cohort.model_validate(settings | lists)


def _check_other(text: str) -> None:
    """Raise ValueError unless the text holds what the cohort hash covers and nothing else: what is not hashed could be
    changed without a trace."""
    _KIND.validate_json(text, strict=True)
    if json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":")) != text:
        # A name that is there twice, or blanks: the hash covers what is read of the text, not the text.
        raise ValueError("what samples have in common is not written as it was")


class _Reader:
    """Takes so many bytes after the others from pieces of any length."""

    def __init__(self, given: Iterable[bytes]) -> None:
        self._given, self._left = iter(given), memoryview(b"")

    def bytes(self, count: int) -> bytes:
        """The next bytes. Raises ValueError when there are fewer."""
        return b"".join(self._parts(count))

    def array(self, kind: str, count: int) -> NDArray[Any]:
        """The next bytes as an array. It grows with what comes, so that a wrong length takes no memory."""
        found, size = bytearray(), np.dtype(kind).itemsize * count
        for part in self._parts(size):
            found += part
        return np.frombuffer(found, kind)

    def end(self) -> None:
        """Raise ValueError when bytes are left."""
        if len(self._left) or next(self._given, b""):
            raise ValueError("something follows the cohort")

    def _parts(self, count: int) -> Iterator[memoryview]:
        while count > 0:
            if not len(self._left):
                piece = next(self._given, None)
                if piece is None:
                    raise ValueError("the cohort ends too early")
                self._left = memoryview(piece)
            part, self._left = self._left[:count], self._left[count:]
            count -= len(part)
            yield part
