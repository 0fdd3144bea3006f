"""A sequence whose items are read when they are used: an ensemble's models, of which there may be thousands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar, overload

T = TypeVar("T")


class ReadInTurn(Sequence[T]):
    """``count`` items that ``read`` gives by their number. None is kept: an item that is used again is read again.

    >>> squares = ReadInTurn(4, lambda number: number**2)
    >>> list(squares), squares[-1], len(squares[1:])
    ([0, 1, 4, 9], 9, 3)
    """

    def __init__(self, count: int, read: Callable[[int], T]) -> None:
        self._numbers, self._read = range(count), read

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> ReadInTurn[T]: ...

    def __getitem__(self, index: int | slice) -> T | ReadInTurn[T]:
        if isinstance(index, slice):
            part = ReadInTurn(0, self._read)
            part._numbers = self._numbers[index]
            return part
        return self._read(self._numbers[index])


def is_next(number: int, before: int, count: int) -> bool:
    """Whether a model of an ensemble of ``count`` may be read after ``before``, -1 at first: the next one, the first
    after the last, or the same again. A site fetches what it does not have: by any other order a plan could tell the
    server something.

    >>> is_next(0, -1, 3), is_next(2, 0, 3), is_next(0, 2, 3), is_next(2, 2, 3)
    (True, False, True, True)
    """
    return number in (before, (before + 1) % count)
