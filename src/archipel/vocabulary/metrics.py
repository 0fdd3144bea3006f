"""Metrics: what a plan declares about a number that it reports, and the number as a sum that sites add up."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from archipel.vocabulary.bounds import MOST_BINS, MOST_COUNTED, MOST_METRICS, Count
from archipel.vocabulary.errors import ArchipelError, ErrorCode
from archipel.vocabulary.names import Name
from archipel.vocabulary.records import Record
from archipel.vocabulary.score_histogram import ScoreHistogram
from archipel.vocabulary.spread import Spread
from archipel.vocabulary.things import Thing
from archipel.vocabulary.wrong_values import Terms

SAMPLE = "sample"
"""What a metric counts unless it says otherwise."""
LARGEST_SUM = 1e43
"""The total of any number of sites is below it: each site's is a float32, and there are at most 10,000."""


class MetricSpec(Terms):
    """A number a site may report: a sum and a weight, so that any group of sites has a mean.

    ``counts`` is what the weight counts: samples, of which a site never reports more than its cohort has, or something
    else (lesion, pair, voxel), of which a site never reports more than ``largest_weight``. With ``spread`` a site with
    enough patients also reports how much the values differ; the plan then makes its sums with ``MetricSum.of``. With
    ``bins`` it is an AUC: the plan makes its sums with ``MetricSum.of_scores``, and a site with enough
    patients also reports how many cases have a score in each of so many intervals of [0, 1].

    >>> MetricSpec(name="dice", better="higher").counts
    'sample'
    >>> MetricSpec(name="recall", better="higher", counts="lesion", largest_weight=500).most(samples=40)
    500
    """

    name: Name
    better: Literal["higher", "lower"]
    counts: Name = SAMPLE
    largest_weight: Annotated[int, Field(ge=1, le=MOST_COUNTED)] | None = None
    spread: bool = False
    bins: Annotated[int, Field(ge=2, le=MOST_BINS)] | None = None

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
        if self.bins is not None and (self.spread or self.better != "higher"):
            raise ValueError(f"metric {self.name} has bins, so it is an AUC; leave out spread, and say better higher")
        return self

    @property
    def average_in_words(self) -> str:
        """What its mean over all sites is a mean of, in words.

        >>> MetricSpec(name="auc", better="higher", counts="site", largest_weight=1).average_in_words
        'averaged by site'
        >>> MetricSpec(name="auc", better="higher", bins=64).average_in_words
        "mean of the sites' AUCs, weighted by sample"
        """
        if self.bins is not None:
            return f"mean of the sites' AUCs, weighted by {self.counts}"
        return f"averaged by {self.counts}"

    def checked(self, value: MetricSum) -> MetricSum:
        """What a plan reports of this metric at one site, without what the job does not ask for.

        Raises ArchipelError (``plan-error``) for a sum without the spread or the scores that the job asks for.
        """
        if self.bins is not None:
            scores = self._checked_scores(value)
            return MetricSum(total=value.total, weight=value.weight, scores=scores)
        if not self.spread:
            return MetricSum(total=value.total, weight=value.weight)
        spread = value.spread
        if value.weight and (spread is None or spread.weight != value.weight):
            raise ArchipelError(
                Thing("metric", self.name),
                "is declared with spread=True, and its single values are not known",
                "make its sums from them: MetricSum.of(values), or leave spread out of its MetricSpec",
                code=ErrorCode.PLAN_ERROR,
            )
        spread = None if spread is None or not value.weight else spread.model_copy(update={"sites": 1})
        return MetricSum(total=value.total, weight=value.weight, spread=spread)

    def _checked_scores(self, value: MetricSum) -> ScoreHistogram:
        if value.scores is None or value.scores.bins != self.bins or not value.scores.is_of_bins:
            raise ArchipelError(
                Thing("metric", self.name),
                f"is declared with bins={self.bins}, and its scores are not known in so many bins",
                f"make its sums from them: MetricSum.of_scores(scores, truth, bins={self.bins})",
                code=ErrorCode.PLAN_ERROR,
            )
        return value.scores.model_copy(update={"sites": 1})

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

    ``spread`` is how much the values differ that it is a sum of, of all of them or, over sites, of those of the sites
    that report it. ``scores`` are those of an AUC, whose total is the AUC times the cases it is of; at a site it is
    that of all of the site's cases, over sites the sum, so that its mean is a mean of the sites' AUCs.

    >>> (MetricSum(total=3.0, weight=4) + MetricSum(total=1.0, weight=1)).mean()
    0.8
    """

    total: float
    weight: Count
    spread: Spread | None = None
    scores: ScoreHistogram | None = None

    @classmethod
    def of_scores(cls, scores: Iterable[float], truth: Iterable[float], bins: int) -> MetricSum:
        """The AUC of single cases: a score from 0 to 1 each, and 1 for a positive case, 0 for a negative one.

        It can be made for each batch and added; ``finished`` makes the AUC of all of them. Raises ArchipelError
        (``plan-error`` or ``not-finite``) for other scores or truths.

        >>> batch = MetricSum.of_scores([0.9, 0.4], [1, 0], bins=8)
        >>> batch.mean(), batch.weight
        (1.0, 2)
        """
        return cls(total=0.0, weight=0, scores=ScoreHistogram.of(scores, truth, bins)).finished()

    def finished(self) -> MetricSum:
        """With the AUC of all scores together, if there are scores; of one class alone there is none, and weight 0."""
        if self.scores is None:
            return self
        positive, negative = self.scores.cases
        weight = positive + negative if positive and negative else 0
        return MetricSum(total=self.scores.auc() * weight if weight else 0.0, weight=weight, scores=self.scores)

    @classmethod
    def of(cls, values: Iterable[float], weights: Iterable[int] | None = None) -> MetricSum:
        """The sums of single values, each the value of one sample, or of as many as its whole weight.

        Values are numbers, or an array or a tensor ``[n]``. Raises ArchipelError (``not-finite``) for NaN and infinity.

        >>> MetricSum.of([0.9, 0.7]).mean()
        0.8
        >>> MetricSum.of([1.0, 0.5], weights=[1, 3]).mean()
        0.625
        """
        numbers = [float(one) for one in values]
        times = None if weights is None else [int(one) for one in weights]
        if not all(map(math.isfinite, numbers)):
            remedy = "lower the learning rate, or look for bad samples and divisions by zero in the metric"
            raise ArchipelError("a metric", "has a value that is NaN or infinite", remedy, code=ErrorCode.NOT_FINITE)
        if times is not None and (len(times) != len(numbers) or any(one < 0 for one in times)):
            cause = f"has {len(numbers)} values and weights that do not fit them"
            remedy = "give each value a whole weight of 0 or more"
            raise ArchipelError("a metric", cause, remedy, code=ErrorCode.PLAN_ERROR)
        if not (len(numbers) if times is None else sum(times)):
            return cls(total=0.0, weight=0)
        spread = Spread.of(numbers, times)
        return cls(total=spread.total, weight=spread.weight, spread=spread)

    def __add__(self, other: MetricSum) -> MetricSum:
        if self.spread is other.spread is None and self.scores is other.scores is None:
            return MetricSum(total=self.total + other.total, weight=self.weight + other.weight)
        known = [one.spread for one in (self, other) if one.spread is not None]
        spread = known[0] + known[1] if len(known) == 2 else next(iter(known), None)
        binned = [one.scores for one in (self, other) if one.scores is not None]
        scores = binned[0] + binned[1] if len(binned) == 2 else next(iter(binned), None)
        return MetricSum(
            total=self.total + other.total, weight=self.weight + other.weight, spread=spread, scores=scores
        )

    def rounded(self, name: str) -> MetricSum:
        """As it leaves a site: float32 numbers. Raises ArchipelError (``not-finite``) for one beyond float32.

        >>> MetricSum(total=0.1, weight=1).rounded("loss").total
        0.10000000149011612
        """
        total = _float32(name, "adds up to", self.total)
        spread = None
        if self.spread is not None:
            squares = _float32(name, "has squared differences that add up to", self.spread.squares)
            spread = Spread(total=total, weight=self.weight, squares=squares, sites=1)
        return MetricSum(total=total, weight=self.weight, spread=spread, scores=self.scores)

    @property
    def is_rounded(self) -> bool:
        """Whether the numbers are those of one site and float32, as all that leave a site."""
        numbers = [self.total] if self.spread is None else [self.total, self.spread.total, self.spread.squares]
        try:
            one_zero = all(number != 0 or math.copysign(1, number) > 0 for number in numbers)
            return one_zero and self.rounded("") == self
        except ArchipelError:
            return False

    def mean(self) -> float:
        """total / weight. Raises ZeroDivisionError when nothing was counted."""
        return self.total / self.weight


def _float32(name: str, what: str, number: float) -> float:
    try:
        (rounded,) = struct.unpack("<f", struct.pack("<f", number))
    except OverflowError:
        cause, remedy = f"{what} {number}, beyond float32", "report a mean or a logarithm instead"
        raise ArchipelError(Thing("metric", name), cause, remedy, code=ErrorCode.NOT_FINITE) from None
    # There is one zero: the sign of another would say something.
    return float(rounded) + 0.0


MetricSums = Annotated[dict[Name, MetricSum], Field(max_length=MOST_METRICS)]
"""Metrics by name."""
