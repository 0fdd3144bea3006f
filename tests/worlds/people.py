"""The people who act at the sites and servers of the tests: never the account that runs them."""

from __future__ import annotations

from archipel.governance import Approval
from archipel.site.approval import offers
from archipel.site.services import approvals
from archipel.site.state.folder import StateFolder
from archipel.vocabulary.actor import Actor

ANNA = Actor(name="anna", authentication="terminal")
OLGA = Actor(name="olga", authentication="terminal")
"""Anna decides at a site, Olga operates a server."""


def approve(
    site: StateFolder, experiment: str, *, dataset: str | None = None, version: int | None = None, note: str = ""
) -> Approval:
    """Prepare an approval and give it at once, as somebody who reads quickly would; the signature that is kept."""
    asked = approvals.prepare(site, experiment, dataset=dataset, version=version)
    approvals.approve(
        site, experiment, job_hash=asked.job_hash, cohort_hash=asked.cohort_hash,
        last_decision=asked.last_decision, by=ANNA, dataset=dataset, version=version, note=note,
    )  # fmt: skip
    approval = offers.offered(site.database, experiment).approval
    assert approval is not None
    return approval
