"""Text columns: many short texts in one buffer, where a tuple of strings would take several times the memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

_TEXTS_AT_ONCE, _BYTES_AT_ONCE = 1 << 16, 1 << 20
"""Texts that are copied or decoded in one step, and their bytes: a step takes some ten times as many beside the column.
"""


class TextColumn(Sequence[str]):
    """Texts in order: ``buffer`` uint8, their UTF-8 one after the other; ``ends`` int64 ``[N + 1]``, where text i
    is from ``ends[i]`` to ``ends[i + 1]``. Equal to any sequence of the same texts.
    """

    __slots__ = ("buffer", "ends")

    def __init__(self, buffer: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.buffer, self.ends = buffer, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """A column of these texts, which may come from a generator."""
        built = TextBuilder()
        for text in texts:
            built.add(text)
        return cls(*built.arrays())

    @classmethod
    def of_lines(cls, text: str) -> Self:
        """A column of the lines of a text, split at each line feed as ``str.split`` does."""
        buffer = np.frombuffer(text.encode(), np.uint8)
        feeds = np.flatnonzero(buffer == ord("\n"))
        ends = np.concatenate(([0], feeds - np.arange(len(feeds)), [len(buffer) - len(feeds)])).astype(np.int64)
        return cls(np.delete(buffer, feeds), ends)

    def check(self) -> None:
        """Raise ValueError unless every text lies within the buffer."""
        if not len(self.ends) or self.ends[0] != 0 or self.ends[-1] != len(self.buffer):
            raise ValueError("a column of texts does not cover its buffer")
        if np.any(self.ends[1:] < self.ends[:-1]):
            raise ValueError("a text ends before it begins")

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> TextColumn: ...
    def __getitem__(self, place: int | slice) -> str | TextColumn:
        if isinstance(place, slice):
            return self.take(np.arange(*place.indices(len(self))))
        start = range(len(self))[place]
        return self.buffer[self.ends[start] : self.ends[start + 1]].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        return (text.decode() for text in self.encoded())

    def encoded(self) -> Iterator[bytes]:
        """The UTF-8 of each text."""
        for part in _parts(self.ends):
            ends = self.ends[part.start : part.stop + 1].tolist()
            window = self.buffer[ends[0] : ends[-1]].tobytes()
            for start, end in pairwise(ends):
                yield window[start - ends[0] : end - ends[0]]

    def take(self, places: NDArray[Any]) -> TextColumn:
        """The texts at these places, in this order: whole numbers, or one true or false for each text."""
        if places.dtype == np.bool_:
            places = np.flatnonzero(places)
        # Of these texts only: a batch is taken from a column of a million.
        lengths = self.ends[1:][places] - self.ends[:-1][places]
        ends = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
        buffer = np.empty(int(ends[-1]), np.uint8)
        for part in _parts(ends):
            starts, sizes = self.ends[:-1][places[part]], lengths[part]
            to = int(ends[part.start])
            total = int(sizes.sum())
            # From where each byte comes: the text's start, and how far into the text it is.
            within = np.arange(total) - np.repeat(ends[:-1][part] - to, sizes)
            buffer[to : to + total] = self.buffer[np.repeat(starts, sizes) + within]
        return TextColumn(buffer, ends)

    def __add__(self, other: Sequence[str]) -> tuple[str, ...]:
        """Both together as a tuple: plans put the ids of several sets together."""
        return (*self, *other)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TextColumn):
            return np.array_equal(self.ends, other.ends) and np.array_equal(self.buffer, other.buffer)
        if isinstance(other, Sequence) and not isinstance(other, str):
            return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"<TextColumn of {len(self)}: {shown}{', ...' if len(self) > 3 else ''}>"


def _parts(ends: NDArray[np.int64]) -> Iterator[slice]:
    """The texts in parts of one step, at least one each; none for a column without texts."""
    first, count = 0, len(ends) - 1
    while first < count:
        within = int(np.searchsorted(ends, ends[first] + _BYTES_AT_ONCE, "right")) - 1
        last = min(count, first + _TEXTS_AT_ONCE, max(within, first + 1))
        yield slice(first, last)
        first = last


class TextBuilder:
    """Collects texts for a column."""

    def __init__(self) -> None:
        self._buffer, self._ends = bytearray(), array("q", [0])

    def add(self, text: str) -> None:
        """One more text at the end. Raises UnicodeEncodeError for what is not Unicode."""
        self._buffer += text.encode()
        self._ends.append(len(self._buffer))

    def arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Buffer and ends of the column; nothing is added afterwards."""
        return np.frombuffer(self._buffer, np.uint8), np.frombuffer(self._ends, np.int64)

    def column(self) -> TextColumn:
        """The column."""
        return TextColumn(*self.arrays())
