"""Once: what follows from a value that nobody changes, formed once for each of the last few values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Once(Generic[K, V]):
    """``make`` of an object, formed again only for an object that is not among the last ``most``.

    Objects are told apart by identity: to compare two large records costs more than most of what is made of them. Each
    is kept alive as long as it is among the last ones. Several threads may call it.

    >>> size = Once(lambda words: print("counting") or len(words))
    >>> words = ["a", "b"]
    >>> size(words), size(words), size(["a", "b"])
    counting
    counting
    (2, 2, 2)
    """

    def __init__(self, make: Callable[[K], V], most: int = 8) -> None:
        self._make, self._most = make, most
        self._known: tuple[tuple[K, V], ...] = ()

    def __call__(self, one: K) -> V:
        """What is made of this object. Raises what ``make`` raises, each time."""
        for known, made in self._known:
            if known is one:
                return made
        made = self._make(one)
        # One assignment: another thread sees the old tuple or the new one.
        self._known = ((one, made), *self._known[: self._most - 1])
        return made
