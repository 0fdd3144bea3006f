"""What arrives from the sites of an open attempt: updates that count once they are kept, and news that is only shown.

Updates that arrive together are kept in one transaction. What is only shown waits for the next transaction, for a
moment at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from archipel.rounds.accounting import check_counts
from archipel.rounds.experiment_store import Delivery, ExperimentStore, Opened
from archipel.rounds.fleet import Delivered, FleetEvent
from archipel.rounds.tables import ParticipantEvent, next_site_state
from archipel.vocabulary import Job

T = TypeVar("T")
SHOWN_S = 0.25
"""How long what is only shown waits for something that must be kept, to go with it in one transaction."""


class Arrivals:
    """Keeps what sites deliver. ``working`` are sites of which it is not shown yet that they work on their task."""

    def __init__(self, job: Job, store: ExperimentStore) -> None:
        self._job, self._store = job, store
        self.working: list[str] = []

    async def receive(self, opened: Opened, events: Sequence[Delivered]) -> None:
        """Let updates count that arrived together: each is checked by itself, and all are kept or none."""
        counting: dict[str, Delivered] = {}
        again: list[Delivered] = []
        for event in events:
            try:
                check_counts(self._job, opened, event.site, event.update, event.tensor_file is not None)
            except Exception as error:
                _settle(event, error)
                continue
            if event.site in opened.updates:
                _settle(event)
            elif event.site in counting:
                # Sent twice: whether the second counts is known when the first is kept.
                again.append(event)
            else:
                counting[event.site] = event
        try:
            if counting:
                await self._keep(opened, [Delivery(one.site, one.update, one.tensor_file) for one in counting.values()])
        except Exception as error:
            for event in (*counting.values(), *again):
                _settle(event, error)
            return
        for event in counting.values():
            _settle(event)
        if again:
            await self.receive(opened, again)

    async def show(self, opened: Opened) -> None:
        """Show which sites work, if that waits to be shown."""
        if self.working:
            await self._keep(opened, ())

    async def _keep(self, opened: Opened, delivered: Sequence[Delivery]) -> None:
        working, self.working = self.working, []
        await ask(self._store, self._store.heard, opened.task.key, working, delivered)
        for site, update, tensor_file in delivered:
            opened.updates[site] = update
            if tensor_file is not None:
                opened.tensor_files[site] = tensor_file
            step(opened, site, ParticipantEvent.DELIVERED)


def waiting_deliveries(events: asyncio.Queue[FleetEvent]) -> tuple[list[Delivered], FleetEvent | None]:
    """The deliveries at the head of the queue, taken out of it, and the first other event if it was taken with them."""
    found: list[Delivered] = []
    while not events.empty():
        event = events.get_nowait()
        if not isinstance(event, Delivered):
            return found, event
        found.append(event)
    return found, None


def step(opened: Opened, site: str, event: ParticipantEvent) -> None:
    """Move a site of an attempt to its next state, as the table says."""
    opened.sites[site] = next_site_state(opened.sites[site], event)


async def ask(store: ExperimentStore, function: Callable[..., T], *arguments: Any) -> T:
    """Call the experiment store: in a thread where that may wait for a disk."""
    if store.is_durable:
        return await asyncio.to_thread(function, *arguments)
    return function(*arguments)


def _settle(event: Delivered, error: Exception | None = None) -> None:
    if event.settled.done():
        return
    if error is None:
        event.settled.set_result(None)
    else:
        event.settled.set_exception(error)
