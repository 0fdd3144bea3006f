"""Which field of an update may leave a site only within a sum, and which one individually."""

from __future__ import annotations

from enum import StrEnum


class Release(StrEnum):
    """How a field may leave a site."""

    SUM = "sum"
    INDIVIDUALLY = "individually"


UPDATE_FIELDS = ("model", "samples", "metrics", "validation", "seconds", "failure")
"""What leaves a site for a task: five fields of an Update, and the failure that comes instead of one."""
SUMMED_PREFIX = "#"
"""How the tensor of a field begins that travels within a file of tensors that are to be added up."""
OPERATIONAL_FIELDS = frozenset({"seconds", "failure"})
"""Fields that run the federation and are not computed from patients' values: the server needs each site's."""
