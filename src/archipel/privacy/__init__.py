"""What a site does to its update before it leaves: steps that a job names, and fields that leave only within a sum.

It knows tensors and numbers; it does not know tasks, files or how an update is sent.
"""

from archipel.privacy.capacity import Measured, most_seconds, reported_bytes, smallest_group
from archipel.privacy.steps import STEPS, Step, steps_of
from archipel.privacy.summed_fields import (
    Addend,
    UpdateSums,
    added_up,
    addend_of,
    declared_metrics,
    field_names,
    only_sums,
    update_schema,
)

__all__ = [
    "STEPS",
    "Addend",
    "Measured",
    "Step",
    "UpdateSums",
    "added_up",
    "addend_of",
    "declared_metrics",
    "field_names",
    "most_seconds",
    "only_sums",
    "reported_bytes",
    "smallest_group",
    "steps_of",
    "update_schema",
]
