"""Decisions on an offered experiment: it is prepared, shown, and then approved exactly as shown; or rejected, revoked.

Preparing and approving may be two processes or two requests. Preparing keeps nothing: it names the job and the cohort
by their hashes, and the newest decision that was made before. Approving makes the same choice again and refuses when it
comes to another job or another cohort, or when another person decided meanwhile.
"""

from __future__ import annotations

from archipel.data import cohort_hash as hash_cohort
from archipel.site.approval import Offer, decisions, newest_line, offers, suitability
from archipel.site.cohorts import Frozen, cohort_versions, split_assignment
from archipel.site.services import cohorts, explanations, offer_documents
from archipel.site.services.offer_documents import OfferDocument, OfferRow
from archipel.site.services.sandboxes import without_sandbox
from archipel.site.state import StateFolder
from archipel.vocabulary import UNWATCHED, Actor, Conflict, Record, Thing, Watch
from archipel.vocabulary.remedies import ShowOffer


class PreparedApproval(Record):
    """What a person reads before approving. ``approve`` takes the two hashes and ``last_decision`` back.

    ``last_decision`` is the journal's line of the newest of the earlier decisions that ``offer`` lists, 0 without one.
    ``subjects`` are those of the cohort who are not withdrawn. While there are ``objections`` it cannot be approved.
    ``warnings`` are for the person to weigh.
    """

    experiment: str
    job_hash: str
    cohort_hash: str
    last_decision: int
    dataset: str
    version: int
    subjects: int
    objections: tuple[str, ...]
    warnings: tuple[str, ...]
    offer: OfferDocument


class ApprovedExperiment(Record):
    """What was approved: the signed hashes, and how many subjects of which cohort it runs on."""

    experiment: str
    job_hash: str
    cohort_hash: str
    dataset: str
    version: int
    subjects: int
    approved_at: str


def prepare(
    site: StateFolder,
    experiment: str,
    *,
    dataset: str | None = None,
    version: int | None = None,
    job_hash: str | None = None,
    watch: Watch = UNWATCHED,
) -> PreparedApproval:
    """What would be approved: the job, on a kept ``version`` of the dataset or on all that the dataset holds now.

    ``dataset`` takes the place of the one that the job asks for, ``job_hash`` limits it to one job. Reads
    and hashes new files; keeps no cohort and signs nothing. Raises NotFound, Conflict when another job is offered,
    Refused while the plan has not been fetched, DatasetProblems when the data has become unusable, and Cancelled when
    ``watch`` stops it.
    """
    offer = offers.offered(site.database, experiment)
    if job_hash is not None:
        decisions.check_shown(offer, job_hash)
    decisions.check_readable(site.blobs, offer)
    frozen = _choose(site, offer, dataset, version, watch)
    entry, cohort = frozen.dataset, frozen.cohort
    no_sandbox = without_sandbox(site.settings.sandbox)
    document = offer_documents.document_on(site, offer, entry, cohort)
    return PreparedApproval(
        experiment=experiment,
        job_hash=offer.job_hash,
        cohort_hash=hash_cohort(cohort, site.cohort_key),
        last_decision=newest_line(document.earlier),
        dataset=entry.name,
        version=cohort.version,
        subjects=len(cohort_versions.as_it_stands(site.database, site.cohort_key, cohort).subjects),
        objections=tuple(suitability.reasons_against(site, offer.job, entry, cohort)),
        warnings=(
            *(() if no_sandbox is None else (no_sandbox,)),
            *split_assignment.changed(site.database, site.cohort_key, cohort),
            *explanations.package_warnings(site, offer),
        ),
        offer=document,
    )


def approve(
    site: StateFolder,
    experiment: str,
    *,
    job_hash: str,
    cohort_hash: str,
    by: Actor,
    last_decision: int = 0,
    dataset: str | None = None,
    version: int | None = None,
    note: str = "",
    watch: Watch = UNWATCHED,
) -> ApprovedExperiment:
    """Approve exactly what ``prepare`` showed for the same ``dataset`` and ``version``, and wake the agent.

    Raises Conflict when the job or the cohort is another one than was shown, when another person made a decision that
    was not shown, and when the experiment ended; Refused when the site's rules object, and as ``prepare`` does. Nothing
    is signed when ``watch`` stops it.
    """
    offer = offers.offered(site.database, experiment)
    decisions.check_shown(offer, job_hash)
    decisions.check_readable(site.blobs, offer)
    frozen = _choose(site, offer, dataset, version, watch)
    watch.check()
    if hash_cohort(frozen.cohort, site.cohort_key) != cohort_hash:
        raise Conflict(
            Thing("experiment", experiment),
            f"its cohort of dataset {frozen.dataset.name} has changed since it was shown",
            "read the explanation again, then approve it",
            values={"dataset": frozen.dataset.name},
            command=ShowOffer(experiment=experiment),
        )
    approval = decisions.approve(
        site, experiment, job_hash=job_hash, frozen=frozen, by=by, last_decision=last_decision, note=note
    )
    return ApprovedExperiment(
        experiment=experiment,
        job_hash=approval.job_hash,
        cohort_hash=approval.cohort_hash,
        dataset=frozen.dataset.name,
        version=frozen.cohort.version,
        subjects=len(cohort_versions.as_it_stands(site.database, site.cohort_key, frozen.cohort).subjects),
        approved_at=approval.approved_at,
    )


def reject(site: StateFolder, experiment: str, *, by: Actor, note: str = "") -> OfferRow:
    """Reject an offer; its state afterwards. Raises as ``decisions.reject`` does."""
    decisions.reject(site.database, experiment, by=by, note=note)
    return offer_documents.row(offers.offered(site.database, experiment))


def revoke(site: StateFolder, experiment: str, *, by: Actor, note: str = "") -> OfferRow:
    """Revoke an approval; the experiment's state afterwards. Raises as ``decisions.revoke`` does."""
    decisions.revoke(site.database, experiment, by=by, note=note)
    return offer_documents.row(offers.offered(site.database, experiment))


def _choose(site: StateFolder, offer: Offer, dataset: str | None, version: int | None, watch: Watch) -> Frozen:
    entry = suitability.asked_dataset(site.database, site.name, offer.job, dataset)
    if version is not None:
        return cohort_versions.stored(site.database, site.cohort_key, entry.name, version)
    return cohorts.freeze(site, entry, fraction=offer.job.validation_fraction, watch=watch)
