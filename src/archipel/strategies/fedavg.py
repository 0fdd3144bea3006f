"""Federated averaging (McMahan et al., AISTATS 2017, algorithm 1): the weighted mean is the next model."""

from __future__ import annotations

from collections.abc import Sequence

from archipel.strategies.contract import SiteStats
from archipel.tensors import WeightedMean
from archipel.vocabulary import Release


class FedAvg(WeightedMean):
    """sum(n * w) / sum(n) over end weights; keeps no memory between rounds.

    The mean of end weights equals the global model plus the mean of deltas, so nothing but end weights is needed, and
    the sum alone would do: ``needs`` is SUM. Subclass it for a strategy that does something with that mean.
    """

    needs = Release.SUM

    def weights(self, stats: Sequence[SiteStats]) -> list[float]:
        """Each site's number of samples."""
        return [float(one.samples) for one in stats]
