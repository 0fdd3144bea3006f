"""The types of numbers that a tensor file holds, as numpy has them.

numpy has no bfloat16 of its own: ml_dtypes registers it, under its name, when it is imported.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

BFLOAT16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Whether numbers of this type may be NaN or infinite; numpy counts bfloat16 among no kind of numbers."""
    return bool(dtype.kind == "f" or dtype == BFLOAT16)


def bytes_of(array: np.ndarray[Any, Any]) -> memoryview:
    """The bytes of a contiguous array, without a copy; those of bfloat16 too, which numpy hands out by no buffer."""
    return array.reshape(-1).view(np.uint8).data
