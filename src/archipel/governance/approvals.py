"""An approval: a site's signature over one job and one cohort of its own.

The server keeps it as proof and invites the site; the site checks its own copy again before every task, so a server
that forges an approval gains nothing.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from archipel.governance.canonical import canonical
from archipel.governance.keys import IdentityKey, verify
from archipel.vocabulary import ErrorCode, ExperimentId, Hash, Record, Refused, SiteName, Thing


class Approval(Record):
    """What was signed and when."""

    experiment: ExperimentId
    site: SiteName
    job_hash: Hash
    cohort_hash: Hash
    approved_at: Annotated[str, Field(max_length=40)]
    signature: Annotated[str, Field(max_length=200)] = ""

    def message(self) -> bytes:
        """The bytes that are signed: everything but the signature, in a domain of its own."""
        return b"archipel-approval/1\n" + canonical(self.model_copy(update={"signature": ""}))


def approve(key: IdentityKey, approval: Approval) -> Approval:
    """The approval with the site's signature."""
    return approval.model_copy(update={"signature": key.sign(approval.message())})


def check_approval(approval: Approval, *, identity_key: str, job_hash: str, cohort_hash: str | None = None) -> None:
    """Raise Refused unless the approval is the site's own, for exactly this job (and cohort, when given)."""
    thing = Thing.worded(
        f"approval of {approval.experiment} by {approval.site}", experiment=approval.experiment, site=approval.site
    )
    if not verify(identity_key, approval.signature, approval.message()):
        raise Refused(
            thing, "its signature is not the site's", "approve again at the site", code=ErrorCode.NOT_APPROVED
        )
    if approval.job_hash != job_hash:
        raise Refused(thing, "is for another version of the job", "approve the new job", code=ErrorCode.NOT_APPROVED)
    if cohort_hash is not None and approval.cohort_hash != cohort_hash:
        raise Refused(
            thing, "is for another cohort", "approve the job with the new cohort", code=ErrorCode.NOT_APPROVED
        )
