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


class ReadingOrder:
    """Which model of an ensemble may be read next: the next one, the first after the last, or the same again.

    A site fetches what it does not have: in any other order a plan could tell the server something. How often the plan
    goes through the ``count`` models tells something too. It needs to do so once for each batch of samples that it
    validates on, so ``times`` is the number of these samples, and what is left is counted (``privacy/capacity.py``).

    >>> order = ReadingOrder(3, times=1)
    >>> [order.allows(number) for number in (0, 0, 2, 1, 2, 0)]
    [True, True, False, True, True, False]
    """

    def __init__(self, count: int, times: int) -> None:
        self._count, self._left, self._before = count, count * times, -1

    def allows(self, number: int) -> bool:
        """Whether this model may be read now; if so it is the last one that was read."""
        if number == self._before:
            return True
        if not self._left or number != (self._before + 1) % self._count:
            return False
        self._left -= 1
        self._before = number
        return True
