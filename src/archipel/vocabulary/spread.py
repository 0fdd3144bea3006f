"""How much the values behind a mean differ: standard deviation and 95 % interval from sums that sites add up."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from archipel.vocabulary.bounds import Count
from archipel.vocabulary.records import Record

_NORMAL = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""
# fmt: off
_STUDENT = (
    12.706204736433, 4.302652729696, 3.182446305284, 2.776445105198, 2.570581835636, 2.446911851145,
    2.364624251593, 2.306004135204, 2.262157162798, 2.228138851986, 2.200985160092, 2.178812829667,
    2.160368656463, 2.144786687917, 2.131449545560, 2.119905299222, 2.109815577834, 2.100922040242,
    2.093024054409, 2.085963447266,
)
# fmt: on
"""The 97.5 % quantiles of Student's t distribution with 1 to 20 degrees of freedom."""


class Spread(Record):
    """The sums that give a standard deviation: of ``weight`` values their ``total`` and their ``squares``.

    ``squares`` is the sum of squared differences from the values' own mean, each times its weight, so that it is never
    negative and loses no digits where values are close together (Chan, Golub and LeVeque 1983). ``sites`` is how many
    sites it is over.

    >>> one, other = Spread.of([1.0, 2.0]), Spread.of([3.0, 6.0])
    >>> (one + other) == Spread.of([1.0, 2.0, 3.0, 6.0])
    True
    """

    total: float
    weight: Annotated[Count, Field(ge=1)]
    squares: Annotated[float, Field(ge=0)]
    sites: Count = 0

    @classmethod
    def of(cls, values: list[float], weights: list[int] | None = None) -> Spread:
        """Of single values, each with a whole weight (how often it counts, by default once)."""
        if weights is None:
            total, count = sum(values), len(values)
            mean = total / count
            return cls(total=total, weight=count, squares=math.fsum((one - mean) ** 2 for one in values))
        pairs = list(zip(values, weights, strict=True))
        total, count = sum(one * times for one, times in pairs), sum(weights)
        mean = total / count
        squares = math.fsum(times * (one - mean) ** 2 for one, times in pairs)
        return cls(total=total, weight=count, squares=squares)

    def __add__(self, other: Spread) -> Spread:
        """Of the values of both: what differs within each, and what differs between their means (the same, eq. 2.1)."""
        weight = self.weight + other.weight
        apart = other.total / other.weight - self.total / self.weight
        # The product first would be beyond 2**53.
        between = apart * apart * (self.weight / weight) * other.weight
        return Spread(
            total=self.total + other.total,
            weight=weight,
            squares=self.squares + other.squares + between,
            sites=self.sites + other.sites,
        )

    @property
    def mean(self) -> float:
        """The mean of the values that it is over."""
        return self.total / self.weight

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation, with weight - 1 in the denominator; None of a single value.

        >>> Spread.of([1.0, 2.0, 3.0]).deviation
        1.0
        """
        return math.sqrt(self.squares / (self.weight - 1)) if self.weight > 1 else None

    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean, by Student's t with weight - 1 degrees of freedom; None of a single value.

        It takes the values to be independent of each other, and their mean to be normal. Where one patient gives
        several values it is too narrow.
        """
        deviation = self.deviation
        if deviation is None:
            return None
        half = student(self.weight - 1) * deviation / math.sqrt(self.weight)
        return self.mean - half, self.mean + half


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t distribution, within 1e-6.

    From 21 degrees of freedom on it is the expansion about the normal quantile (Abramowitz and Stegun 1964, 26.7.5).

    >>> round(student(1), 3), round(student(30), 3)
    (12.706, 2.042)
    """
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    z = _NORMAL
    terms = (
        (z**3 + z) / 4.0,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / float(freedom) ** power for power, term in enumerate(terms, start=1))
