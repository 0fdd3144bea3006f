"""What a site must not forget: entries that are never changed, each bound to the one before, and secrets that are."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from pydantic import JsonValue

from archipel.vocabulary import ErrorCode, Refused
from archipel.vocabulary.records import JsonObject


class Records(Protocol):
    """What the caller implements on a disk. Each call has ended when the disk has it (fsync), or raises."""

    def entries(self) -> Sequence[bytes]:
        """All entries in order."""

    def append(self, entry: bytes) -> None:
        """Add an entry at the end."""

    def keep(self, name: str, body: bytes | bytearray) -> None:
        """Keep bytes under a name, whole or not at all; what was there before is destroyed."""

    def kept(self, name: str) -> bytearray | None:
        """What is kept under a name."""

    def destroy(self, name: str) -> None:
        """Remove what is kept under a name, as far as the disk allows; nothing there is not an error."""


class Event(StrEnum):
    """The kinds of entries."""

    PAIRED = "paired"
    BEGUN = "begun"
    COMPLETE = "complete"
    SIGNED = "signed"
    ANSWERED = "answered"
    CLOSED = "closed"
    BEHIND = "behind"


@dataclass(frozen=True)
class Head:
    """How many entries a journal has, and the hash of the last one, which covers all before it."""

    length: int = 0
    digest: bytes = bytes(32)


class Journal:
    """The entries of one site and job, checked when they are read."""

    def __init__(self, records: Records) -> None:
        """Raises Refused for the first entry that does not follow from the one before it."""
        self._records = records
        self._heads = [Head()]
        self._events: list[JsonObject] = []
        for entry in records.entries():
            self._events.append(self._checked(entry))
            self._heads.append(Head(len(self._events), hashlib.sha256(entry).digest()))

    @property
    def head(self) -> Head:
        """What others are shown, signed."""
        return self._heads[-1]

    def has(self, head: Head) -> bool:
        """Whether this journal is the one that had this head, or a longer one."""
        return head.length < len(self._heads) and self._heads[head.length] == head

    def append(self, event: Event, **fields: JsonValue) -> None:
        """Add an event; it is durable when this returns."""
        # Random bytes: an old disk that repeats the same step gets another head, which shows it.
        document: JsonObject = {
            "event": event.value,
            "previous": self.head.digest.hex(),
            "fork": os.urandom(16).hex(),
            **fields,
        }
        entry = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        self._records.append(entry)
        self._events.append(document)
        self._heads.append(Head(len(self._events), hashlib.sha256(entry).digest()))

    def found(self, event: Event, **fields: str | int) -> Iterator[JsonObject]:
        """The events of a kind with these fields, the latest first."""
        for document in reversed(self._events):
            if document["event"] == event.value and all(document.get(name) == want for name, want in fields.items()):
                yield document

    def last(self, event: Event, **fields: str | int) -> JsonObject | None:
        """The latest of them."""
        return next(self.found(event, **fields), None)

    def latest_of(self, *events: Event) -> JsonObject | None:
        """The latest event of any of these kinds."""
        return next((one for one in reversed(self._events) if one["event"] in events), None)

    def _checked(self, entry: bytes) -> JsonObject:
        try:
            document = json.loads(entry)
            right = document["previous"] == self.head.digest.hex() and document["event"] in list(Event)
        except (ValueError, KeyError, TypeError):
            right = False
        if not right:
            raise Refused(
                f"entry {len(self._events) + 1} of the journal of secure aggregation",
                "was altered, or one before it was",
                "leave this experiment: what this site released cannot be known; look at who can write to its disk",
                code=ErrorCode.TRUST,
            )
        return dict(document)
