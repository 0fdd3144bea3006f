"""Outliers by median and MAD: a robust z-score that the outliers themselves cannot move.

Source: Iglewicz and Hoaglin, How to Detect and Handle Outliers, ASQC 1993; the factor 1.4826 makes the median absolute
deviation (MAD) the standard deviation of normal data. Their threshold of 3.5 names one in 2000 sound values; a dataset
of 100 volumes has more than 1000 values to compare, so this limit is higher.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

THRESHOLD = 6.0
"""The robust z-score from which a value is an outlier."""
FEWEST = 6
"""Fewer values than this are not checked: an outlier could not be distinguished."""


def robust_scores(values: Sequence[float], floor: float) -> NDArray[np.float64]:
    """Distance of each value from the median, in robust standard deviations.

    ``floor`` is the least standard deviation, in the values' unit: where more than half are the same the MAD is 0, and
    a difference that means nothing would be infinitely far.
    """
    data = np.asarray(values, dtype=np.float64)
    distance = np.abs(data - np.median(data))
    scale = max(1.4826 * float(np.median(distance)), floor)
    return distance / scale if scale else np.zeros_like(data)


def outliers(values: Sequence[float], floor: float) -> list[int]:
    """Places of the values that are outliers, none for fewer than FEWEST values."""
    if len(values) < FEWEST:
        return []
    return [int(place) for place in np.flatnonzero(robust_scores(values, floor) > THRESHOLD)]


def ratio_outliers(values: Sequence[float], floor: float) -> list[int]:
    """The same for sizes, which differ by factors: the logarithms are compared.

    ``floor`` is a share: 0.05 lets a value differ by 5 % without being an outlier. Values must be above 0.
    """
    return outliers([float(value) for value in np.log(np.asarray(values, dtype=np.float64))], float(np.log1p(floor)))
