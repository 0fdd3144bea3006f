"""How much a record may contain: far more than real work needs, so that only an attack exceeds a bound."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

MOST_SITES = 10_000
"""Sites of a job's roster, and so models of an ensemble and contributors of a round."""
MOST_ROUNDS = 100_000
MOST_TENSORS = 100_000
"""Tensors of a model; the largest of today have some thousands."""
MOST_DIMENSIONS = 64
"""Dimensions of a tensor, as many as numpy allows."""
MOST_METRICS = 1_000
MOST_BINS = 256
"""Bins of a histogram of scores."""
MOST_BINS_OF_A_JOB = 4_096
"""Bins of all histograms of a job together, so that an update's start stays far below its limit."""
MOST_PARAMETERS = 1_000
MOST_CHOICES = 1_000
MOST_MODALITIES = 1_000
MOST_LABELS = 5_000
"""Label values of a segmentation; the finest atlases of the brain have some hundreds."""
MOST_COLUMNS = 100_000
"""Columns that a plan reads; a table of gene expression has 20,000."""
MOST_CATEGORIES = 10_000
MOST_PACKAGES = 100
"""Packages that a job names of those its plan imports; large plans import some twenty."""
LONGEST_PACKAGE = 100
"""Characters of the name under which a package is imported, and of a version."""
LONGEST_TEXT = 4_000
"""Characters of a description."""
LONGEST_NAME = 1_000
"""Characters of a choice or a label's name."""
LONGEST_JOB = 8 << 20
"""Bytes of a job as one document; a longer one would break the control stream of every site it is offered to."""
EXACT = 2**53
"""Whole numbers below it are the same number in JSON, in float64 and in every database."""
MOST_COUNTED = EXACT // MOST_SITES - 1
"""What one site may count of anything, so that the sum over all sites is exact too: 900 thousand million."""
Count = Annotated[int, Field(ge=0, lt=EXACT)]
"""A count: below 2**53 it is the same number in JSON, in float64 and in every database."""
