"""Which field of an update may leave a site only inside a sum, and which one by itself."""

from __future__ import annotations

from enum import StrEnum


class Release(StrEnum):
    """How a field may leave a site."""

    SUM = "sum"
    INDIVIDUALLY = "individually"


UPDATE_RELEASE: dict[str, Release] = {
    "model": Release.INDIVIDUALLY,
    "samples": Release.INDIVIDUALLY,
    "metrics": Release.INDIVIDUALLY,
    "validation": Release.INDIVIDUALLY,
    "seconds": Release.INDIVIDUALLY,
    "failure": Release.INDIVIDUALLY,
}
"""How each field of an Update leaves a site when no secure aggregation is in the job: the server sees every one."""
