"""What the site says to the server about packages: which of those that a job names its workers have.

It is said when an offer was taken on, before anybody decides about it, and again when it has changed.
"""

from __future__ import annotations

import asyncio

import structlog

from archipel.site.agent.connection import ServerConnection
from archipel.site.packages import disclosure, installed
from archipel.site.state import StateFolder
from archipel.transport import PackagesMessage
from archipel.vocabulary import ArchipelError

_log = structlog.get_logger("archipel.reporting")


class PackageReporting:
    """What was sent over one connection, and what is new since."""

    def __init__(self, site: StateFolder, link: ServerConnection) -> None:
        self._site, self._link = site, link
        self._offers = disclosure.OpenOffers(site)
        self._sent: dict[str, tuple[str, dict[str, str | None] | None]] = {}

    def connected(self) -> None:
        """The server may have missed any of it: all is sent again."""
        self._sent.clear()

    async def report(self) -> None:
        """Send what is new. What cannot be found out is logged, and the server shows that the site did not answer."""
        for asked in await asyncio.to_thread(self._offers.asked):
            try:
                here = await asyncio.to_thread(self._here, asked.packages)
            except ArchipelError as error:
                _log.error("packages could not be looked for", experiment=asked.experiment, error=str(error))
                continue
            if not self._link.up or self._sent.get(asked.experiment) == (asked.job_hash, here):
                continue
            if here is not None:
                await asyncio.to_thread(disclosure.note, self._site.database, asked, here)
            message = PackagesMessage(experiment=asked.experiment, job_hash=asked.job_hash, packages=here)
            if await self._link.send(message):
                self._sent[asked.experiment] = asked.job_hash, here

    def _here(self, packages: tuple[str, ...]) -> dict[str, str | None] | None:
        return installed(packages) if self._site.settings.policy.disclose_packages else None
