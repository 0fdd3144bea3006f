"""The fleet: how the round loop reaches sites, whether over the network or in the same process.

The loop offers tasks and takes events from one queue. An offer returns at once; a site that is away gets it when it
comes back. ``Delivered`` carries a future that the loop resolves once the update is recorded, or with the error why
it does not count, so that a site never gets "received" for
an update that a crash could lose.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from archipel.vocabulary import Failure, RoundClosed, Task, TaskKey, Update


@dataclass(frozen=True)
class Accepted:
    """The site has checked the task and works on it."""

    site: str
    key: TaskKey


@dataclass(frozen=True)
class Delivered:
    """The site's update is spooled and verified; ``tensor_file`` is None when the task asked for no model."""

    site: str
    update: Update
    tensor_file: Path | None
    settled: asyncio.Future[None]


@dataclass(frozen=True)
class Failed:
    """The site's part of the round failed for good."""

    site: str
    key: TaskKey
    failure: Failure


@dataclass(frozen=True)
class Lost:
    """The site's connection ended."""

    site: str


@dataclass(frozen=True)
class Returned:
    """The site is connected again."""

    site: str


@dataclass(frozen=True)
class Nudged:
    """A person changed the experiment's own state; the loop reads it again."""


FleetEvent = Accepted | Delivered | Failed | Lost | Returned | Nudged


class Fleet(Protocol):
    """The sites of one experiment as its loop sees them.

    A class that is a fleet must define ``events`` and the four methods. ``offer``, ``withdraw`` and ``announce`` must
    return without waiting for a site. For each task that was offered, the fleet puts ``Delivered`` or ``Failed`` into
    ``events``, or ``Lost`` when the site is gone and ``Returned`` when it is back; an event may come twice.
    """

    events: asyncio.Queue[FleetEvent]

    def absent_since(self, site: str) -> float | None:
        """When the site was lost, or this process began, by the loop's clock; None while the site can be reached."""

    async def offer(self, site: str, task: Task, remaining_s: float) -> None:
        """Give the site its task, now or when it comes back."""

    async def withdraw(self, site: str, key: TaskKey, reason: str) -> None:
        """Ask the site to stop working on a task."""

    async def announce(self, sites: Sequence[str], closed: RoundClosed) -> None:
        """Send the signed result of a closed round to these sites."""
