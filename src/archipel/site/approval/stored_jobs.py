"""The jobs in this site's database, read once: a job of 60,000 tensors takes a second to read and two to hash.

Both are functions of the stored text alone, and so cached by the whole text: a changed row is another text, which is
read and hashed again. Only jobs that people here decided about, or look at, are asked for.
"""

from __future__ import annotations

from functools import lru_cache

from archipel.governance import job_hash
from archipel.vocabulary import Job

_KEPT = 8
"""How many jobs stay in memory: some 60 MB for one of 60,000 tensors."""


@lru_cache(maxsize=_KEPT)
def stored_job(document: str) -> Job:
    """The job in a stored document. Raises ValueError when it cannot be read."""
    return Job.model_validate_json(document)


@lru_cache(maxsize=_KEPT)
def stored_job_hash(document: str) -> str:
    """The hash of that job, computed from what was read and not from the document. Raises as ``stored_job`` does."""
    return job_hash(stored_job(document))
