"""Blobs that were sent and that no experiment names yet: how many bytes of them each access token has, and since when.

A job's blobs come before the job. Those whose job never comes would never be deleted, so a token may have a limited
number of bytes of them, and each is deleted some time after it came. The account is in memory: when a server starts it
deletes every blob that no row of its database names.

The account also knows which token sent which blob: a job may name only what its token has, since a hash alone is not a
right to the bytes, which would leave the server as a model of the new experiment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

SMALLEST = 1 << 20
"""What a blob counts at least, so that a million of one byte each are not free."""


def counted(size: int) -> int:
    """What a blob of so many bytes counts as."""
    return max(SMALLEST, size)


@dataclass(frozen=True)
class Unused:
    """A blob that ``token`` sent, ``counted`` as so many bytes, at ``since`` in seconds."""

    token: str
    counted: int
    since: float


class UnusedBlobs:
    """The account of one server, used by its event loop only; all its times are seconds of one clock."""

    def __init__(self) -> None:
        self._unused: dict[str, Unused] = {}
        self._arriving: Counter[str] = Counter()
        self._sent: dict[tuple[str, str], float] = {}

    def held_by(self, token: str) -> int:
        """The bytes that count for a token: of its blobs that no experiment names, and of those that are arriving."""
        return self._arriving[token] + sum(one.counted for one in self._unused.values() if one.token == token)

    def held_with(self, token: str, size: int) -> int:
        """The same with one more blob of so many bytes."""
        return self.held_by(token) + counted(size)

    @contextmanager
    def arriving(self, token: str) -> Iterator[Arrival]:
        """Count a blob of this token while it comes."""
        arrival = Arrival(self, token)
        self._arriving[token] += SMALLEST
        try:
            yield arrival
        finally:
            self._arriving[token] -= counted(arrival.size)
            if not self._arriving[token]:
                del self._arriving[token]

    def add(self, blob: str, token: str, size: int, now: float) -> None:
        """Count a blob that is here now for the token that sent it; one that is known keeps its token."""
        known = self._unused.get(blob)
        self._unused[blob] = Unused(known.token if known else token, counted(size), now)

    def note_sent(self, blob: str, token: str, now: float) -> None:
        """Note that this token has sent the whole blob, so that it may be named in a job of this token."""
        self._sent[token, blob] = now

    def was_sent_by(self, token: str, blob: str) -> bool:
        """Whether the token sent the whole blob, before or after others, not too long ago."""
        return (token, blob) in self._sent

    def knows(self, blob: str) -> bool:
        """Whether this blob is counted here."""
        return blob in self._unused

    def forget(self, blobs: Collection[str]) -> None:
        """Count these blobs no more, since an experiment names them."""
        for blob in blobs:
            self._unused.pop(blob, None)

    def take_sent_before(self, moment: float) -> dict[str, Unused]:
        """The blobs that came before this moment, which are not counted any more."""
        self._sent = {sent: since for sent, since in self._sent.items() if since >= moment}
        taken = {blob: one for blob, one in self._unused.items() if one.since < moment}
        self.forget(taken)
        return taken

    def give_back(self, taken: Mapping[str, Unused]) -> None:
        """Count these blobs again; one that came again meanwhile counts from then on."""
        self._unused = {**taken, **self._unused}


@dataclass
class Arrival:
    """A blob that is coming: ``size`` bytes of it are here."""

    _account: UnusedBlobs
    _token: str
    size: int = 0

    def grow(self, count: int) -> int:
        """Count further bytes; returns the bytes that now count for the token."""
        before, self.size = counted(self.size), self.size + count
        self._account._arriving[self._token] += counted(self.size) - before
        return self._account.held_by(self._token)
