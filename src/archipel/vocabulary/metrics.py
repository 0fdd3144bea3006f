"""Metrics: what a plan declares about a number that it reports, and the number as a sum that sites add up."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from archipel.vocabulary.bounds import EXACT, MOST_COUNTED, MOST_METRICS
from archipel.vocabulary.errors import ArchipelError, ErrorCode
from archipel.vocabulary.names import Name
from archipel.vocabulary.records import Record
from archipel.vocabulary.things import Thing

Count = Annotated[int, Field(ge=0, lt=EXACT)]
"""A count: below 2**53 it is the same number in JSON, in float64 and in every database."""
SAMPLE = "sample"
"""What a metric counts unless it says otherwise."""
LARGEST_SUM = 1e43
"""The total of any number of sites is below it: each site's is a float32, and there are at most 10,000."""


class MetricSpec(Record):
    """A number a site may report: a sum and a weight, so that any group of sites has a mean.

    ``counts`` is what the weight counts: samples, of which a site never reports more than its cohort has, or something
    else (lesion, pair, voxel), of which a site never reports more than ``largest_weight``.

    >>> MetricSpec(name="dice", better="higher").counts
    'sample'
    >>> MetricSpec(name="recall", better="higher", counts="lesion", largest_weight=500).most(samples=40)
    500
    """

    name: Name
    better: Literal["higher", "lower"]
    counts: Name = SAMPLE
    largest_weight: Annotated[int, Field(ge=1, le=MOST_COUNTED)] | None = None

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.counts == SAMPLE and self.largest_weight is not None:
            raise ValueError(
                f"metric {self.name} counts samples, of which each site knows how many it has; leave out "
                "largest_weight, or say in counts what else it counts"
            )
        if self.counts != SAMPLE and self.largest_weight is None:
            raise ValueError(
                f"metric {self.name} counts {self.counts}; say in largest_weight how many a site may report at most"
            )
        return self

    @property
    def average_in_words(self) -> str:
        """What its mean over all sites is a mean of, in words.

        >>> MetricSpec(name="auc", better="higher", counts="site", largest_weight=1).average_in_words
        'averaged by site'
        """
        return f"averaged by {self.counts}"

    def most(self, samples: int) -> int:
        """The largest weight that a site with so many samples may report."""
        return samples if self.largest_weight is None else self.largest_weight


def worst_site(metric: MetricSpec, per_site: Mapping[str, Mapping[str, float]]) -> tuple[str, float] | None:
    """The site where a model is worst by this metric, and its value there; None when fewer than two measured it.

    >>> dice = MetricSpec(name="dice", better="higher")
    >>> worst_site(dice, {"a": {"dice": 0.9}, "b": {"dice": 0.7}, "c": {}})
    ('b', 0.7)
    """
    found = {site: values[metric.name] for site, values in sorted(per_site.items()) if metric.name in values}
    if len(found) < 2:
        return None
    site = (min if metric.better == "higher" else max)(found, key=lambda one: found[one])
    return site, found[site]


class MetricSum(Record):
    """A metric as a value that can be added: the sum over samples and how many there were.

    >>> (MetricSum(total=3.0, weight=4) + MetricSum(total=1.0, weight=1)).mean()
    0.8
    """

    total: float
    weight: Count

    def __add__(self, other: MetricSum) -> MetricSum:
        return MetricSum(total=self.total + other.total, weight=self.weight + other.weight)

    def rounded(self, name: str) -> MetricSum:
        """As it leaves a site: the total as a float32. Raises ArchipelError (``not-finite``) for one beyond float32.

        >>> MetricSum(total=0.1, weight=1).rounded("loss").total
        0.10000000149011612
        """
        try:
            (total,) = struct.unpack("<f", struct.pack("<f", self.total))
        except OverflowError:
            cause, remedy = f"adds up to {self.total}, beyond float32", "report a mean or a logarithm instead"
            raise ArchipelError(Thing("metric", name), cause, remedy, code=ErrorCode.NOT_FINITE) from None
        # There is one zero: the sign of another would say something.
        return MetricSum(total=total + 0.0, weight=self.weight)

    @property
    def is_rounded(self) -> bool:
        """Whether the total is a float32, as every total that left a site."""
        try:
            one_zero = self.total != 0 or math.copysign(1, self.total) > 0
            return one_zero and self.rounded("") == self
        except ArchipelError:
            return False

    def mean(self) -> float:
        """total / weight. Raises ZeroDivisionError when nothing was counted."""
        return self.total / self.weight


MetricSums = Annotated[dict[Name, MetricSum], Field(max_length=MOST_METRICS)]
"""Metrics by name."""
