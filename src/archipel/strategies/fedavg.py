"""Federated averaging (McMahan et al., AISTATS 2017, algorithm 1): the weighted mean is the next model."""

from __future__ import annotations

from typing import Any

import numpy as np

from archipel.vocabulary import Release, TensorSpec


class FedAvg:
    """sum(n * w) / sum(n) over end weights; keeps no memory between rounds.

    The mean of end weights equals the global model plus the mean of deltas, so nothing but end weights is needed, and
    the sum alone would do: ``needs`` is SUM.
    """

    needs = Release.SUM

    def step(self, spec: TensorSpec, start: int, mean: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The chunk of the next model, float64: the mean as it is."""
        return mean
