"""Names and hashes: the short strings that appear in every record, each with the one form it may have."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

SiteName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
"""A hospital's name in the federation: lower-case letters, digits and hyphens, at most 63 characters."""

ExperimentId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
"""An experiment's name, unique at its server."""

NAME = r"^[A-Za-z_][A-Za-z0-9_.-]{0,62}$"

Name = Annotated[str, StringConstraints(pattern=NAME)]
"""A metric, hyper-parameter, dataset or class name."""

Hash = Annotated[str, StringConstraints(pattern=r"^(blake3|sha256):[0-9a-f]{64}$")]
"""A content address: ``blake3:`` for blobs (models, plans), ``sha256:`` for documents (jobs, journals, cohorts)."""

Value = bool | int | float | str
"""What a hyper-parameter may be."""
