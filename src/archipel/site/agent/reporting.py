"""What the site sends to the server about itself: its datasets, what its people answered, the error texts they
released, and which packages it has.

Answers are sent again on each connection, because the server may have missed one; the rest is sent when it is new.
"""

from __future__ import annotations

import asyncio

import structlog

from archipel.privacy import only_sums
from archipel.site.agent.connection import ServerConnection
from archipel.site.agent.package_reporting import PackageReporting
from archipel.site.approval import authorisation, disclosure, offers
from archipel.site.audit import journal
from archipel.site.execution import failures
from archipel.site.state import OfferState, StateFolder
from archipel.transport import AnswerMessage, DatasetsMessage, DatasetSummary, DetailMessage
from archipel.vocabulary import ArchipelError

_log = structlog.get_logger("archipel.reporting")


class StatusReporting:
    """What was sent over one connection, and what is new since."""

    def __init__(self, site: StateFolder, link: ServerConnection) -> None:
        self._site, self._link = site, link
        self._answered: dict[str, tuple[str, str]] = {}
        self._datasets: tuple[DatasetSummary, ...] = ()
        self._packages = PackageReporting(site, link)

    def connected(self) -> None:
        """The server may have missed any answer: all of them are sent again."""
        self._answered.clear()
        self._packages.connected()

    def datasets(self) -> tuple[DatasetSummary, ...]:
        """What is disclosed to the server about this site's datasets."""
        found = disclosure.summaries(self._site)
        disclosure.note(self._site.database, found)
        self._datasets = found
        return self._datasets

    async def report(self) -> None:
        """Send what is new."""
        for offer in await asyncio.to_thread(self._offers):
            if offer.state in (OfferState.APPROVED, OfferState.REJECTED, OfferState.REVOKED):
                try:
                    await self._answer(offer)
                except ArchipelError as error:
                    # One approval that does not hold must not keep the site from answering for the others.
                    _log.error("an approval does not hold", experiment=offer.experiment, error=str(error))
        if not self._link.up:
            return
        before = self._datasets
        if await asyncio.to_thread(self.datasets) != before:
            await self._link.send(DatasetsMessage(datasets=self._datasets))
        for key, detail in await asyncio.to_thread(failures.to_send, self._site.database):
            if await self._link.send(DetailMessage(key=key, detail=detail[-200_000:])):
                await asyncio.to_thread(failures.mark_sent, self._site.database, key)
        await self._packages.report()

    async def _answer(self, offer: offers.Offer) -> None:
        approval = offer.approval.model_dump(mode="json") if offer.approval else None
        answer = (offer.job_hash, f"{offer.state}{offer.cohort_hash}{offer.decided_at}")
        if self._answered.get(offer.experiment) == answer:
            return
        subjects = None
        if offer.state is OfferState.APPROVED:
            allowed = await asyncio.to_thread(authorisation.authorise, self._site, offer.experiment, offer.job_hash)
            here = len(allowed.cohort.subjects)
            # If counts leave only within sums, the size of the cohort would disclose what the sum hides.
            may_leave = here >= self._site.settings.policy.minimum_cell and not only_sums(allowed.job)
            subjects = here if may_leave else None
        head = await asyncio.to_thread(journal.unattested_head, self._site)
        message = AnswerMessage(
            experiment=offer.experiment,
            job_hash=offer.job_hash,
            state=offer.state.value,
            approval=approval,
            subjects=subjects,
            head=head.model_dump(mode="json") if head else None,
        )
        if await self._link.send(message):
            self._answered[offer.experiment] = answer

    def _offers(self) -> list[offers.Offer]:
        """Every experiment whose row can be read."""
        found = []
        for experiment in offers.names(self._site.database):
            try:
                found.append(offers.offered(self._site.database, experiment))
            except Exception as error:
                _log.error("an experiment's row cannot be read", experiment=experiment, error=str(error))
        return found
