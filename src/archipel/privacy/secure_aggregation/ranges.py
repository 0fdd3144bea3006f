"""The range of each tensor moves as a loss scaler does: up at once, down after quiet rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import frexp

from archipel.privacy.secure_aggregation.layout import LEAST_EXPONENT, MOST_EXPONENT, Form

QUIET_ROUNDS = 4
"""So many rounds without a coordinate beyond half of the range halve it."""
_LONG_MARGIN = 8
"""A long word has bits to spare, so its range begins so many powers of two higher."""


@dataclass(frozen=True)
class Range:
    """A tensor's range is ``2^exponent``; so many rounds in a row were quiet."""

    exponent: int
    quiet: int = 0


def first_range(largest: float, least: float, form: Form) -> Range:
    """The range for a received tensor of this largest magnitude; never below ``least``, the job's constant (> 0).

    >>> first_range(0.3, 0.01, Form.SHORT), first_range(0.0, 0.01, Form.SHORT), first_range(1.0, 0.01, Form.LONG)
    (Range(exponent=-1, quiet=0), Range(exponent=-6, quiet=0), Range(exponent=8, quiet=0))
    """
    part, exponent = frexp(max(largest, least))
    if part == 0.5:
        exponent -= 1
    return Range(_inside(exponent + (_LONG_MARGIN if form is Form.LONG else 0)))


def moved(ranges: Mapping[str, Range], limited: Mapping[str, int], beyond_half: Mapping[str, int]) -> dict[str, Range]:
    """The ranges of the next round, from the sums over sites of the two counters of each tensor.

    >>> moved({"w": Range(0, quiet=3)}, {"w": 0}, {"w": 0}), moved({"w": Range(0)}, {"w": 2}, {"w": 9})
    ({'w': Range(exponent=-1, quiet=0)}, {'w': Range(exponent=1, quiet=0)})
    """
    found = {}
    for name, old in ranges.items():
        if limited[name] > 0:
            found[name] = Range(_inside(old.exponent + 1))
        elif beyond_half[name] > 0:
            found[name] = Range(old.exponent)
        elif old.quiet + 1 < QUIET_ROUNDS:
            found[name] = Range(old.exponent, old.quiet + 1)
        else:
            found[name] = Range(_inside(old.exponent - 1))
    return found


def exponents(ranges: Mapping[str, Range]) -> dict[str, int]:
    """What the arguments of an attempt say."""
    return {name: one.exponent for name, one in ranges.items()}


def _inside(exponent: int) -> int:
    return min(max(exponent, LEAST_EXPONENT), MOST_EXPONENT)
