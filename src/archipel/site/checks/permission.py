"""On whose data a check may run: the approved cohort or, if a person states that the plan was read, the next version.

Preparing a cohort may take minutes. What was permitted before must still be permitted after it; otherwise everything
begins again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from archipel.data import Cohort, Prepared, Preprocessing, with_declared_columns
from archipel.site.approval import Offer, authorisation, suitability
from archipel.site.audit import PlanRead, add_entry
from archipel.site.checks.in_thread import run_in_thread
from archipel.site.cohorts import cohort_versions
from archipel.site.datasets import Dataset, catalog
from archipel.site.execution import preparation
from archipel.site.state import SiteJournalKind, StateFolder, sample_cache
from archipel.site.withdrawals import withdrawals
from archipel.vocabulary import UNWATCHED, Actor, ErrorCode, NotFound, Refused, ShowProgress, Thing, Watch, show_nothing
from archipel.vocabulary.remedies import Approve, ShowOffer

LOOK_S = 1.0
"""How often the permission is checked while a plan trains."""
Found = TypeVar("Found")


class PermittedCohort(NamedTuple):
    """A cohort that a check may run on, and the view under which it is approved, None if it is not approved."""

    cohort: Cohort
    view: str | None


class Permission:
    """The data on which one offered experiment may be tried; ``entry`` is the dataset if nothing is approved yet.

    ``by`` is the person who tries it, whose statement may replace an approval. If they named the dataset
    (``is_named``), an approval of another dataset does not count.
    """

    def __init__(self, site: StateFolder, offer: Offer, entry: Dataset, by: Actor, *, is_named: bool = False) -> None:
        self._by, self._is_named = by, is_named
        self._site, self._offer, self._job, self._entry = site, offer, offer.job, entry

    def cohort(self, watch: Watch = UNWATCHED) -> tuple[Dataset, Cohort]:
        """The approved cohort where there is one, else what would be approved now, and its dataset.

        Raises DatasetProblems when the data has become unusable, Cancelled when ``watch`` stops it.
        """
        try:
            allowed = self._allowed()
        except Refused:
            frozen = cohort_versions.freeze(
                self._site,
                self._entry,
                partial(withdrawals.take_opt_outs, self._site),
                fraction=self._job.validation_fraction,
                watch=watch,
            )
            return frozen.dataset, frozen.cohort
        return catalog.dataset(self._site.database, allowed.cohort.dataset), allowed.cohort

    def likeness(self) -> tuple[Dataset, Cohort]:
        """How samples would be made, for a run without any: the approved cohort and its dataset, where there is one.

        Else a cohort without samples, with the dataset's mapping and the newest version's recipe, as the next version
        would have them. No file is read for it. Raises Refused when the newest version is not what was frozen.
        """
        try:
            allowed = self._allowed()
        except Refused:
            entry = self._entry
            try:
                recipe = cohort_versions.stored(self._site.database, self._site.cohort_key, entry.name).cohort.recipe
            except NotFound:
                recipe = Preprocessing()
            how = {"format": entry.format, "options": entry.options, "mapping": entry.mapping, "recipe": recipe}
            return entry, Cohort(dataset=entry.name, samples=(), **how)
        return catalog.dataset(self._site.database, allowed.cohort.dataset), allowed.cohort

    def check(self, plan_was_read: bool) -> PermittedCohort | None:
        """The approved cohort, or None if it is not approved and a person states that the plan was read. Raises
        Refused.
        """
        try:
            allowed = self._allowed()
        except Refused:
            if not plan_was_read:
                raise Refused(
                    Thing.worded(f"the local step of {self._job.experiment}", experiment=self._job.experiment),
                    "runs the plan on patients' data and is not approved at this site",
                    "read the plan (archipel site plans), then approve it or add --i-have-read-the-plan",
                    code=ErrorCode.NOT_APPROVED,
                    values={"experiment": self._job.experiment},
                    command=Approve(experiment=self._job.experiment),
                ) from None
            return None
        return PermittedCohort(allowed.cohort, allowed.view)

    def given(self, plan_was_read: bool, watch: Watch = UNWATCHED) -> PermittedCohort:
        """What the plan may see now; a person's statement that replaces an approval is journaled.

        Raises Refused without either, and when the site's rules or the data do not fit the job; Cancelled when
        ``watch`` stops it.
        """
        approved = self.check(plan_was_read)
        if approved is not None:
            return approved
        entry, cohort = self.cohort(watch)
        against = suitability.reasons_against(self._site, self._job, entry, cohort)
        if against:
            name = self._job.experiment
            raise Refused(
                Thing.worded(f"the local step of {name}", experiment=name),
                "; ".join(against),
                "fix this first",
                values={"experiment": name, "reasons": len(against)},
                command=ShowOffer(experiment=name),
            )
        watch.check()
        with self._site.database.write() as connection:
            body = PlanRead(
                experiment=self._job.experiment,
                job_hash=self._offer.job_hash,
                dataset=cohort.dataset,
                subjects=len(cohort.subjects),
                by=self._by.journal_name,
            )
            add_entry(connection, SiteJournalKind.PLAN_READ_FOR_A_CHECK, body)
        return PermittedCohort(cohort, None)

    async def prepared(
        self, permitted: PermittedCohort, plan_was_read: bool, show: ShowProgress = show_nothing
    ) -> tuple[PermittedCohort, Prepared]:
        """What is permitted without those who withdrew while it was prepared, and its files; close these after use.

        Raises what ``given`` and ``preparing.prepared`` raise.
        """
        while True:
            cohort, still = permitted.cohort, False
            root = Path(catalog.dataset(self._site.database, cohort.dataset).root)
            shown = with_declared_columns(cohort, self._job.needs)
            prepared = await preparation.prepared(self._site, root, shown, show)
            try:
                still = self._is_still(permitted)
            finally:
                if not still:
                    prepared.close()
                    await self._forget_withdrawn(cohort)
            if still:
                return permitted, prepared
            permitted = await run_in_thread(lambda watch: self.given(plan_was_read, watch), show)

    async def while_given(self, permitted: PermittedCohort, work: Coroutine[Any, Any, Found]) -> Found:
        """The result of the work. When a patient withdraws or the approval is revoked, the work is ended and Refused
        raised.
        """
        trying = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({trying}, timeout=LOOK_S))[0]:
                self._check_is_still(permitted)
            self._check_is_still(permitted)
            return trying.result()
        finally:
            trying.cancel()
            await asyncio.wait({trying})
            # The result is read, so that asyncio does not report it as an error that was never retrieved.
            _ = trying.cancelled() or trying.exception()

    def _check_is_still(self, permitted: PermittedCohort) -> None:
        if not self._is_still(permitted):
            raise Refused(
                Thing.worded(f"the local step of {self._job.experiment}", experiment=self._job.experiment),
                "was ended because a patient in its cohort has withdrawn",
                "run it again; it then leaves this patient out",
            )

    def _is_still(self, permitted: PermittedCohort) -> bool:
        """Whether the cohort is unchanged by withdrawals. Raises Refused when the approval does not hold any more."""
        if permitted.view is not None:
            return self._allowed().view == permitted.view
        withdrawals.take_opt_outs(self._site)
        return (
            cohort_versions.as_it_stands(self._site.database, self._site.cohort_key, permitted.cohort).subjects
            == permitted.cohort.subjects
        )

    async def _forget_withdrawn(self, cohort: Cohort) -> None:
        left = cohort_versions.as_it_stands(self._site.database, self._site.cohort_key, cohort)
        gone = cohort.samples.of_subjects(frozenset(left.subjects), inside=False)
        await asyncio.to_thread(sample_cache.forget, self._site.prepared, self._site.settings.cache_mb, gone)

    def _allowed(self) -> authorisation.Authorisation:
        allowed = authorisation.authorise(self._site, self._job.experiment, self._offer.job_hash)
        if self._is_named and allowed.cohort.dataset != self._entry.name:
            raise Refused(
                Thing("dataset", self._entry.name),
                f"is not approved for {self._job.experiment}, which is approved for {allowed.cohort.dataset}",
                "check without --dataset, or approve this dataset",
                code=ErrorCode.NOT_APPROVED,
            )
        return allowed
