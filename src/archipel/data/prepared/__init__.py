"""Samples prepared for a worker: verified, resampled and written down once, then read as they are.

It knows cohorts and formats. It knows nothing of plans.
"""

from archipel.data.prepared.cache import Prepared, PreparedCache
from archipel.data.prepared.preparation import Preparation, hidden_options, is_rows
from archipel.data.prepared.source import ROWS, Keyed, PreparedSource, write_prepared

__all__ = [
    "ROWS",
    "Keyed",
    "Preparation",
    "Prepared",
    "PreparedCache",
    "PreparedSource",
    "hidden_options",
    "is_rows",
    "write_prepared",
]
