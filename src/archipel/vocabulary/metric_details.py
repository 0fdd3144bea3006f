"""What is known of a metric beside its mean, as figures that are shown: how much its values differ, a pooled AUC."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ConfigDict

from archipel.vocabulary.bounds import Count
from archipel.vocabulary.metrics import SAMPLE, MetricSpec, MetricSum
from archipel.vocabulary.records import Record


class _Figures(Record):
    """Figures from a server. Further ones of a newer server are ignored, not refused."""

    model_config = ConfigDict(extra="ignore")


class SpreadFigures(_Figures):
    """Standard deviation of the values, and the 95 % interval of their mean from ``low`` to ``high``.

    ``mean``, ``counted`` values and ``sites`` are those that it is over: a site with too few patients reports none.

    >>> figures = SpreadFigures(mean=0.8, deviation=0.1, low=0.75, high=0.85, counted=20, sites=2)
    >>> figures.interval_in_words
    '0.7500 to 0.8500'
    """

    mean: float
    deviation: float
    low: float
    high: float
    counted: Count
    sites: Count

    @property
    def interval_in_words(self) -> str:
        """The interval for a cell of a table."""
        return f"{self.low:.4f} to {self.high:.4f}"

    def over(self, spec: MetricSpec | None) -> str:
        """What it is over, in words.

        >>> lesions = MetricSpec(name="recall", better="higher", counts="lesion", largest_weight=500, spread=True)
        >>> figures = SpreadFigures(mean=0.8, deviation=0.1, low=0.75, high=0.85, counted=20, sites=1)
        >>> figures.over(lesions)
        '20 lesions, 1 site'
        """
        unit = spec.counts if spec is not None else SAMPLE
        sites = "1 site" if self.sites == 1 else f"{self.sites} sites"
        return f"{self.counted:,} {unit}{'' if self.counted == 1 else 's'}, {sites}"


class PooledAuc(_Figures):
    """The AUC of the cases of several sites together; with their exact scores it is between ``low`` and ``high``.

    The metric's own mean is another number: the mean of the sites' AUCs, which compares no case of one site with one of
    another. A site with too few patients, or too few cases of a class, is not in it.

    >>> pooled = PooledAuc(auc=0.81, low=0.79, high=0.84, bins=64, positives=40, negatives=160, sites=2)
    >>> pooled.title, pooled.in_words, pooled.over
    ('AUC, pooled over sites (64 bins)', '0.8100 (bounds 0.7900 to 0.8400)', '40 positive, 160 negative, 2 sites')
    """

    auc: float
    low: float
    high: float
    bins: Count
    positives: Count
    negatives: Count
    sites: Count

    @property
    def title(self) -> str:
        """What it is, for the head of a column."""
        return f"AUC, pooled over sites ({self.bins} bins)"

    @property
    def in_words(self) -> str:
        """The AUC and its bounds, for a cell of a table."""
        return f"{self.auc:.4f} (bounds {self.low:.4f} to {self.high:.4f})"

    @property
    def over(self) -> str:
        """What it is over, in words."""
        sites = "1 site" if self.sites == 1 else f"{self.sites} sites"
        return f"{self.positives:,} positive, {self.negatives:,} negative, {sites}"


class MetricDetail(_Figures):
    """What is known of one metric of one model beside its mean."""

    spread: SpreadFigures | None = None
    pooled_auc: PooledAuc | None = None


Details = dict[str, MetricDetail]
"""By the metric's name; a metric of which nothing more is known is not there."""


def metric_details(sums: Mapping[str, MetricSum]) -> Details:
    """What the sums say beside the means.

    >>> found = metric_details({"dice": MetricSum.of([0.5, 0.75, 1.0]), "loss": MetricSum(total=3, weight=3)})
    >>> list(found), found["dice"].spread.deviation
    (['dice'], 0.25)
    """
    found = {name: MetricDetail(spread=_spread(one), pooled_auc=_pooled(one)) for name, one in sums.items()}
    return {name: one for name, one in found.items() if one != MetricDetail()}


def _spread(sums: MetricSum) -> SpreadFigures | None:
    spread = sums.spread
    if spread is None:
        return None
    deviation, interval = spread.deviation, spread.interval()
    if deviation is None or interval is None:
        return None
    low, high = interval
    return SpreadFigures(
        mean=spread.mean, deviation=deviation, low=low, high=high, counted=spread.weight, sites=spread.sites
    )


def _pooled(sums: MetricSum) -> PooledAuc | None:
    scores = sums.scores
    if scores is None or not all(scores.cases):
        return None
    positive, negative = scores.cases
    low, high = scores.bounds()
    return PooledAuc(
        auc=scores.auc(),
        low=low,
        high=high,
        bins=scores.bins,
        positives=positive,
        negatives=negative,
        sites=scores.sites,
    )
