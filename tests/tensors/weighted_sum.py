"""The oracle of the fold: weighted sums of whole parameter trees in memory, which add."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from archipel.tensors import Array, in_type


@dataclass(frozen=True)
class WeightedSum:
    """sum(n * w) of parameter trees and sum(n), in float64."""

    total: Mapping[str, Array]
    weight: float

    @classmethod
    def of(cls, arrays: Mapping[str, Array], weight: float) -> WeightedSum:
        """One tree with its weight."""
        return cls({name: np.multiply(array, weight, dtype=np.float64) for name, array in arrays.items()}, weight)

    def __add__(self, other: WeightedSum) -> WeightedSum:
        total = {name: self.total[name] + other.total[name] for name in self.total}
        return WeightedSum(total, self.weight + other.weight)

    def mean(self, dtypes: Mapping[str, np.dtype[Any]] | None = None) -> dict[str, Array]:
        """sum(n * w) / sum(n), in each leaf's own type when ``dtypes`` gives it; integers are rounded to nearest."""
        means = {name: np.asarray(total / self.weight) for name, total in self.total.items()}
        return {name: in_type(mean, dtypes[name]) for name, mean in means.items()} if dtypes else means
