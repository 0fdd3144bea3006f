"""What is known of a metric beside its mean, as figures that are shown: how much its values differ."""

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


class MetricDetail(_Figures):
    """What is known of one metric of one model beside its mean."""

    spread: SpreadFigures | None = None


Details = dict[str, MetricDetail]
"""By the metric's name; a metric of which nothing more is known is not there."""


def metric_details(sums: Mapping[str, MetricSum]) -> Details:
    """What the sums say beside the means.

    >>> found = metric_details({"dice": MetricSum.of([0.5, 0.75, 1.0]), "loss": MetricSum(total=3, weight=3)})
    >>> list(found), found["dice"].spread.deviation
    (['dice'], 0.25)
    """
    found = {name: MetricDetail(spread=_spread(one)) for name, one in sums.items()}
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
